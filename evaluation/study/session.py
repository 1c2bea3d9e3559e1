"""What one participant sees: which trials, in which order, and in which order the methods stand."""

from __future__ import annotations

import difflib
import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from .answers import Answer
from .site import Study, Trial

QUESTIONS: Final[Mapping[str, str]] = {
    "quality": "Which picture is the best edit?",
    "background": "Which picture keeps everything else as it was?",
}
"""The two aspects of Table 1: editing quality, and preservation of the background."""


@dataclass(frozen=True)
class Shown:
    """A trial as a participant sees it: the methods in the order in which their pictures stand."""

    trial: Trial
    order: tuple[str, ...]


def session(study: Study, participant: str) -> tuple[Shown, ...]:
    """The participant's trials: the same for the same participant, another shuffle for another one.

    The trials are drawn at random, as evenly from every group as there are enough: of twenty from a data set
    of single and of several objects, ten are of each, as in the paper. Their order is shuffled, and in every
    trial that of the methods.
    """
    digest = hashlib.sha256(f"{study.fingerprint}|{participant}".encode()).digest()
    rng = random.Random(int.from_bytes(digest, "big"))
    groups: dict[str, list[Trial]] = {}
    for trial in study.trials:
        groups.setdefault(trial.group, []).append(trial)
    waiting = list(groups.values())
    for group in waiting:
        rng.shuffle(group)
    rng.shuffle(waiting)
    drawn: list[Trial] = []
    while waiting and len(drawn) < study.tasks:
        group = waiting.pop(0)
        drawn.append(group.pop())
        waiting += [group] if group else []
    rng.shuffle(drawn)
    return tuple(Shown(trial, tuple(rng.sample(study.methods, len(study.methods)))) for trial in drawn)


def session_for_page(study: Study, participant: str, answers: Sequence[Answer]) -> dict[str, Any]:
    """The session as the page reads it: nothing in it tells a method.

    answers: all that were given; the participant's own come back as the number of the picture that was
    chosen, so that the page goes on where it was left.
    """
    given = {
        (answer.item, answer.question): answer.method
        for answer in answers
        if answer.participant == participant and answer.study == study.fingerprint
    }
    trials = []
    for shown in session(study, participant):
        chosen = {question: given.get((shown.trial.item, question)) for question in QUESTIONS}
        trials.append(
            {
                "item": shown.trial.item,
                "picture": shown.trial.picture,
                "edits": [shown.trial.edits[method] for method in shown.order],
                "source": marked_words(shown.trial.source, shown.trial.target),
                "target": marked_words(shown.trial.target, shown.trial.source),
                "answers": {
                    question: None if method is None else shown.order.index(method)
                    for question, method in chosen.items()
                },
            }
        )
    return {"participant": participant, "questions": dict(QUESTIONS), "trials": trials}


def marked_words(text: str, other: str) -> list[list[Any]]:
    """[word, whether the other text lacks it there] for the words of a text."""
    words, before = text.split(), other.split()
    matcher = difflib.SequenceMatcher(a=before, b=words, autojunk=False)
    kept = {k for block in matcher.get_matching_blocks() for k in range(block.b, block.b + block.size)}
    return [[word, number not in kept] for number, word in enumerate(words)]
