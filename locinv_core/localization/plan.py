"""What to optimize for an edit: which words, bound to which adjectives (LocInv §3.4), towards which masks."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import torch

from ..text.prompt import Prompt
from ..text.word_alignment import Alignment
from .losses import AttentionObjective, LocInvObjective, TokenGroup, preset_for
from .priors import LocalizationPrior

Binding = tuple[str, str]
"""(adjective, noun)."""


@dataclass(frozen=True)
class TuningPlan:
    """The tokens that are optimized, (K,) positions in the source prompt, and their objective."""

    positions: tuple[int, ...]
    objective: AttentionObjective

    @classmethod
    def of(cls, groups: Iterable[TokenGroup], objective: AttentionObjective) -> TuningPlan:
        """The plan that optimizes every token of these groups."""
        return cls(tuple(sorted({position for group in groups for position in group})), objective)


def bindings_of_edit(source: Prompt, alignment: Alignment, prior: LocalizationPrior | None) -> tuple[Binding, ...]:
    """(adjective, noun) for each adjective that the edit changes and whose noun has a prior.

    Adjective binding (LocInv §3.4) is for attribute edits alone; this finds out whether the edit is one.
    """
    return () if prior is None else placed_bindings(source, prior, alignment.removed)


def placed_bindings(
    source: Prompt, prior: LocalizationPrior, adjectives: Collection[int] | None = None
) -> tuple[Binding, ...]:
    """(adjective, noun) for each pair of the prompt whose noun has a prior, be it in a phrase.

    adjectives: the only words, by index, that count as such; None takes all.
    """
    priors = [set(word.tokens) for word in prior.check_against(source).values()]
    return tuple(
        (word_name(source, adjective), word_name(source, noun))
        for noun, adjective in source.pairs
        if any(tokens.issuperset(source.words[noun].tokens) for tokens in priors)
        and (adjectives is None or adjective in adjectives)
    )


def plan_tuning(
    source: Prompt,
    prior: LocalizationPrior,
    grid: tuple[int, int],
    bindings: Sequence[Binding] = (),
) -> TuningPlan:
    """LocInv's plan: every word of the prior, and the bound adjectives, on an attention grid (rows, columns).

    Raises ValueError for a word of the prior or of a binding that the source prompt lacks.
    """
    words = prior.check_against(source)
    groups: list[TokenGroup] = [word.tokens for word in words.values()]
    pairs = [(source.find(noun).tokens, source.find(adjective).tokens) for adjective, noun in bindings]
    preset = preset_for(prior.kind)
    objective = LocInvObjective(
        groups,
        torch.stack([prior.resample(word, grid).flatten() for word in words]),
        preset.with_binding() if pairs else preset,
        tuple(pairs),
    )
    return TuningPlan.of([*groups, *(adjective for _, adjective in pairs)], objective)


def word_name(prompt: Prompt, index: int) -> str:
    """What `Prompt.find` calls the word at `index`: with #n where the same word stands several times."""
    word = prompt.words[index]
    for occurrence in range(1, len(prompt.words) + 1):
        name = f"{word.text}#{occurrence}"
        if prompt.find(name) == word:
            return name if occurrence > 1 else word.text
    raise ValueError(f"word {word.text!r} is not in the prompt")  # pragma: no cover
