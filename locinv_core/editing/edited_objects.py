"""The objects that an edit touches: the nouns that differ, and the nouns of adjectives that differ."""

from __future__ import annotations

from collections.abc import Iterable, Set
from dataclasses import dataclass

import torch
from torch import Tensor

from ..imaging.composite import grow
from ..localization.priors import LocalizationPrior
from ..text.prompt import Prompt, Word
from ..text.word_alignment import Alignment, align


@dataclass(frozen=True)
class EditedObjects:
    """What an edit touches, as indices into the words of the source and of the target.

    These are the nouns that differ and the nouns of adjectives that differ; where neither does (a verb is
    swapped, say) the words that differ themselves. `with_prior` are the words of the prior that cover them, and
    `without_prior` the words that it has no mask for.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    with_prior: tuple[str, ...]
    without_prior: tuple[str, ...]


def edited_objects(
    source: Prompt,
    target: Prompt,
    alignment: Alignment,
    *,
    prior: LocalizationPrior | None = None,
    emphasised: Iterable[int] = (),
) -> EditedObjects:
    """The objects that turning `source` into `target` touches.

    Raises ValueError for a prior of a word that is not in the source.
    """
    priors = {} if prior is None else prior.check_against(source)
    cover = {i: [name for name, w in priors.items() if _within(source.words[i], w)] for i in _indices(source)}
    covered = {i for i, names in cover.items() if names}
    kept = kept_words(source, target, alignment)
    to_target, to_source = dict(kept), {j: i for i, j in kept}
    emphasised = set(emphasised)
    lost = set(alignment.removed) | {to_source[j] for j in emphasised if j in to_source}
    gained = set(alignment.changed) | emphasised

    old = _objects(source, lost, covered)
    new = _objects(target, gained)
    added = set()
    for j in sorted(new - set(to_source)):
        swapped = _swapped_with(source, target.words[j], alignment)
        # "fox" → "fox cub": a noun added beside a word that has a prior belongs to the same object.
        beside = {to_source[k] for k in (j - 1, j + 1) if to_source.get(k) in covered}
        old |= set() if swapped else beside
        if not swapped & old and not beside:
            added.add(j)
    old |= {to_source[j] for j in new if j in to_source}
    new |= {to_target[i] for i in old if i in to_target}
    for i in old:
        # A swapped object's new words count as an object whatever the parser makes of them.
        swapped_in = [j for j in alignment.changed if i in _swapped_with(source, target.words[j], alignment)]
        new |= set() if new & set(swapped_in) else set(swapped_in[-1:])
    if not old and not new:
        old, new = lost, gained
        added = set() if old else gained
    uncovered = [source.words[i].text for i in sorted(old - covered)]
    uncovered += [target.words[j].text for j in sorted(added)]
    names = dict.fromkeys(name for i in sorted(old) for name in cover[i])
    return EditedObjects(tuple(sorted(old)), tuple(sorted(new)), tuple(names), tuple(uncovered))


def edited_mask(
    source: Prompt,
    target: Prompt,
    prior: LocalizationPrior,
    *,
    reweighted: Iterable[str] = (),
    grown: float = 0.0,
) -> Tensor:
    """The masks of the objects that the edit touches as one, (H, W), at the prior's size.

    reweighted: words of the equalizer, as `Prompt.find` takes them. It is the union of all the prior's masks
    if one of those objects has none of its own. grown: by how many pixels it is grown on every side; 0 leaves
    soft masks soft. Raises as `edited_objects` and `composite.grow`.
    """
    emphasised = words_in(target, reweighted)
    objects = edited_objects(source, target, align(source, target), prior=prior, emphasised=emphasised)
    words = prior.words if objects.without_prior or not objects.with_prior else objects.with_prior
    mask = torch.stack([prior.mask(word) for word in words]).amax(dim=0)
    return grow(mask, grown) if grown else mask


def words_in(prompt: Prompt, names: Iterable[str]) -> list[int]:
    """The indices of those of these words that the prompt has."""
    found: list[int] = []
    for name in names:
        try:
            found += prompt.locate(name)
        except ValueError:  # a word of another target
            continue
    return found


def _objects(prompt: Prompt, indices: Set[int], covered: Set[int] = frozenset()) -> set[int]:
    """The nouns and words with a prior among `indices`, and the nouns of adjectives without one."""
    found = {i for i in indices if i in prompt.nouns or i in covered}
    return found | {noun for noun, word in prompt.pairs if word in indices - covered}


def _swapped_with(source: Prompt, word: Word, alignment: Alignment) -> set[int]:
    """Indices of the source's words that a target word replaces."""
    phrases = [old for old, new in alignment.swaps if _within(word, new)]
    return {i for i in _indices(source) for old in phrases if _within(source.words[i], old)}


def kept_words(source: Prompt, target: Prompt, alignment: Alignment) -> tuple[tuple[int, int], ...]:
    """(source index, target index) of the words that both prompts share, in order."""
    stay = [i for i in _indices(source) if i not in alignment.removed]
    come = [j for j in _indices(target) if j not in alignment.changed]
    return tuple(zip(stay, come, strict=True))


def _indices(prompt: Prompt) -> range:
    return range(len(prompt.words))


def _within(word: Word, phrase: Word) -> bool:
    return set(word.tokens) <= set(phrase.tokens)
