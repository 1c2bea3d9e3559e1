"""What one participant sees: which trials, in which order, and in which order the methods stand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ..text_change import text_change
from .answers import Answer
from .site import Study, Trial

QUESTIONS: Final[Mapping[str, str]] = {
    "quality": "Which image is the best edit?",
    "background": "Which image keeps everything else as it was?",
}
"""The two aspects of Table 1: editing quality, and preservation of the background."""


@dataclass(frozen=True)
class Shown:
    """A trial as a participant sees it: the methods in the order in which their images stand."""

    trial: Trial
    order: tuple[str, ...]


def session(study: Study, participant: str) -> tuple[Shown, ...]:
    """The participant's trials: the same for the same participant, another shuffle for another one.

    They are drawn as evenly from every group as there are enough: ten of each of two, as in the paper. Their order is
    shuffled, and in every trial that of the methods.
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
    """The session as the page reads it: nothing in it tells a method. Of all `answers` given, the participant's own
    come back as the number of the image that was chosen."""
    given = {
        (answer.item, answer.question): answer.method
        for answer in answers
        if answer.participant == participant and answer.study == study.fingerprint
    }
    trials = []
    for shown in session(study, participant):
        trial, order = shown.trial, shown.order
        chosen = {question: given.get((trial.item, question)) for question in QUESTIONS}
        entry: dict[str, Any] = {"item": trial.item, "picture": trial.picture}
        entry["edits"] = [trial.edits[method] for method in order]
        entry["source"], entry["target"] = text_change(trial.source, trial.target)
        entry["answers"] = {question: name and order.index(name) for question, name in chosen.items()}
        trials.append(entry)
    return {"participant": participant, "questions": dict(QUESTIONS), "trials": trials}
