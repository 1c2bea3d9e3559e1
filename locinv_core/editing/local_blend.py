"""Local blend (P2P §4, with a prior DESIGN §3): outside the place of the edit, latents are the source's own.

The place is that of the objects edited: their priors, grown, or where their word maps are strong, or both.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..imaging.composite import grow
from ..localization.priors import LocalizationPrior
from ..options import LocalBlendMode
from ..text.prompt import Prompt, Word
from ..text.word_alignment import Alignment, align

AUTO: Literal["prior", "prior+map"] = "prior"
"""What `auto` blends by where the objects edited have priors."""


@dataclass(frozen=True)
class EditedObjects:
    """What an edit touches, as indices into the words of the source and of the target.

    These are the nouns that differ and the nouns of adjectives that differ; where neither does (a verb is
    swapped, say) the words that differ themselves. `placed` are the words of the prior that cover them, and
    `unplaced` the words for which it has no place.
    """

    source: tuple[int, ...]
    target: tuple[int, ...]
    placed: tuple[str, ...]
    unplaced: tuple[str, ...]


@dataclass(frozen=True)
class BlendPlan:
    """Where one target may differ from the source.

    That is in `place` ((h, w) bool, latent cells; None if the prior has no part in it), and, if `maps` is
    true, where the maps of the target's words are strong; without a place those of the source's words too.
    """

    place: Tensor | None
    maps: bool
    source_words: tuple[Word, ...]
    target_words: tuple[Word, ...]
    threshold: float
    grow: int

    def mask(self, source_maps: Tensor, target_maps: Tensor, latent_size: tuple[int, int]) -> Tensor:
        """(h, w) bool of `latent_size`, from the running means (rows, columns, L) of both prompts' maps."""
        inside = torch.zeros(latent_size, dtype=torch.bool, device=target_maps.device)
        if self.place is not None:
            inside |= self.place.to(inside.device)
        if self.maps:
            # P2P pools its maps; beside a prior, which is grown itself, they join as they are.
            grow = self.grow if self.place is None else 0
            words = [(target_maps, word) for word in self.target_words]
            if self.place is None:
                words += [(source_maps, word) for word in self.source_words]
            for maps, word in words:
                inside |= strong(maps[..., list(word.tokens)].mean(dim=-1), self.threshold, grow, latent_size)
        return inside


def plan_blend(
    source: Prompt,
    target: Prompt,
    alignment: Alignment,
    blend: LocalBlendMode,
    *,
    prior: LocalizationPrior | None,
    emphasised: Iterable[int] = (),
    threshold: float,
    grow: int,
    latent_size: tuple[int, int],
    cell: int,
) -> BlendPlan | None:
    """How this target is blended, or None if it is not.

    emphasised: indices of target words that are edited by their weight alone. cell: latent cells that a cell
    of the maps is wide; `grow` counts cells of the maps.
    Raises ValueError where `blend` asks for a prior and an object that the edit touches has none, and where it
    asks for anything and the edit touches nothing.
    """
    if blend == "off" or (blend == "auto" and prior is None):
        return None
    objects = edited_objects(source, target, alignment, prior=prior, emphasised=emphasised)
    if blend == "auto":
        if objects.unplaced or not objects.placed:
            return None
        blend = AUTO
    if not objects.source and not objects.target:
        raise ValueError(f"local_blend: got {blend!r}, but {target.text!r} edits nothing of {source.text!r}")
    place = None
    if blend != "map":
        if prior is None or objects.unplaced:
            has = "there is no prior" if prior is None else f"the prior has {', '.join(prior.words)}"
            wants = objects.unplaced or tuple(source.words[i].text for i in objects.source)
            raise ValueError(f"local_blend: {blend!r} requires a prior for {', '.join(wants)}, but {has}")
        place = grown_place(prior, objects.placed, latent_size, grow * cell)
    return BlendPlan(
        place=place,
        maps=blend != "prior",
        source_words=tuple(source.words[i] for i in objects.source),
        target_words=tuple(target.words[j] for j in objects.target),
        threshold=threshold,
        grow=grow,
    )


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
    places = {} if prior is None else prior.check_against(source)
    cover = {i: [name for name, w in places.items() if _within(source.words[i], w)] for i in _indices(source)}
    placed = {i for i, names in cover.items() if names}
    kept = kept_words(source, target, alignment)
    to_target, to_source = dict(kept), {j: i for i, j in kept}
    emphasised = set(emphasised)
    lost = set(alignment.removed) | {to_source[j] for j in emphasised if j in to_source}
    gained = set(alignment.changed) | emphasised

    old = _objects(source, lost, placed)
    new = _objects(target, gained)
    homeless = set()
    for j in sorted(new - set(to_source)):
        swapped = _swapped_with(source, target.words[j], alignment)
        # "fox" → "fox cub": a noun added beside a word that has a place belongs to the same object.
        beside = {to_source[k] for k in (j - 1, j + 1) if to_source.get(k) in placed}
        old |= set() if swapped else beside
        if not swapped & old and not beside:
            homeless.add(j)
    old |= {to_source[j] for j in new if j in to_source}
    new |= {to_target[i] for i in old if i in to_target}
    for i in old:
        # A swapped object's new words count as an object whatever the parser makes of them.
        swapped_in = [j for j in alignment.changed if i in _swapped_with(source, target.words[j], alignment)]
        new |= set() if new & set(swapped_in) else set(swapped_in[-1:])
    if not old and not new:
        old, new = lost, gained
        homeless = set() if old else gained
    unplaced = [source.words[i].text for i in sorted(old - placed)]
    unplaced += [target.words[j].text for j in sorted(homeless)]
    names = dict.fromkeys(name for i in sorted(old) for name in cover[i])
    return EditedObjects(tuple(sorted(old)), tuple(sorted(new)), tuple(names), tuple(unplaced))


def edited_place(
    source: Prompt,
    target: Prompt,
    prior: LocalizationPrior,
    *,
    reweighted: Iterable[str] = (),
    grown: float = 0.0,
) -> Tensor:
    """The places of the objects that the edit touches as one mask, (H, W), at the prior's size.

    reweighted: words that the edit weighs, as `Prompt.find` takes them. It is the place of all the prior's
    words if one of those objects has no place of its own. grown: by how many pixels it reaches beyond that on
    every side; 0 leaves soft masks soft. Raises as `edited_things` and `composite.grow`.
    """
    emphasised = words_in(target, reweighted)
    objects = edited_objects(source, target, align(source, target), prior=prior, emphasised=emphasised)
    words = prior.words if objects.unplaced or not objects.placed else objects.placed
    place = torch.stack([prior.mask(word) for word in words]).amax(dim=0)
    return grow(place, grown) if grown else place


def words_in(prompt: Prompt, names: Iterable[str]) -> list[int]:
    """The indices of those of these words that the prompt has."""
    found: list[int] = []
    for name in names:
        try:
            found += prompt.locate(name)
        except ValueError:  # a word of another target
            continue
    return found


def _objects(prompt: Prompt, indices: Set[int], placed: Set[int] = frozenset()) -> set[int]:
    """The nouns and words with a place among `indices`, and the nouns of adjectives without one."""
    found = {i for i in indices if i in prompt.nouns or i in placed}
    return found | {noun for noun, word in prompt.pairs if word in indices - placed}


def _swapped_with(source: Prompt, word: Word, alignment: Alignment) -> set[int]:
    """Indices of the source's words that a target word replaces."""
    phrases = [old for old, new in alignment.swaps if _within(word, new)]
    return {i for i in _indices(source) for old in phrases if _within(source.words[i], old)}


def kept_words(source: Prompt, target: Prompt, alignment: Alignment) -> tuple[tuple[int, int], ...]:
    """(source index, target index) of the words that both prompts share, in order."""
    stay = [i for i in _indices(source) if i not in alignment.removed]
    come = [j for j in _indices(target) if j not in alignment.changed]
    return tuple(zip(stay, come, strict=True))


def grown_place(prior: LocalizationPrior, words: Sequence[str], latent_size: tuple[int, int], grow: int) -> Tensor:
    """(h, w) bool: the latent cells that the masks of `words` touch, and `grow` cells around them."""
    touched = torch.stack([prior.resample(word, latent_size) > 0 for word in words]).any(dim=0)
    return _dilated(touched.float(), grow) > 0


def strong(word_map: Tensor, threshold: float, grow: int, size: tuple[int, int]) -> Tensor:
    """(h, w) bool: where a word's map (rows, columns), pooled over `grow` cells around, divided by its
    maximum and interpolated to `size`, exceeds the threshold (P2P's local blend)."""
    pooled = _dilated(word_map.float(), grow)
    share = pooled / pooled.max().clamp_min(torch.finfo(pooled.dtype).tiny)
    return F.interpolate(share[None, None], size=size, mode="bilinear", align_corners=False)[0, 0] > threshold


def _dilated(grid: Tensor, cells: int) -> Tensor:
    return F.max_pool2d(grid[None, None], 2 * cells + 1, stride=1, padding=cells)[0, 0]


def _indices(prompt: Prompt) -> range:
    return range(len(prompt.words))


def _within(word: Word, phrase: Word) -> bool:
    return set(word.tokens) <= set(phrase.tokens)
