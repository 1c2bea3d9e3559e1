"""Prompt-to-Prompt's local blend: outside a mask of the edited objects, latents are the source's own.

The mask is where the word maps of the objects are strong, as published, or their priors, grown, or both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..localization.priors import LocalizationPrior
from ..options import LocalBlendMode
from ..text.prompt import Prompt, Word
from ..text.word_alignment import Alignment
from .edited_objects import EditedObjects, edited_objects, words_in
from .settings import EditSettings

AUTO: Literal["prior", "prior+map"] = "prior"
"""What `auto` blends by where the objects edited have priors."""


@dataclass(frozen=True)
class LocalBlend:
    """Where one target may differ from the source.

    That is in `prior_mask` ((h, w) bool, latent cells; None for a blend by maps alone), and, with `maps`, where
    the maps of the target's words are strong; without a prior those of the source's words too.
    """

    prior_mask: Tensor | None
    maps: bool
    source_words: tuple[Word, ...]
    target_words: tuple[Word, ...]
    threshold: float
    grow: int

    def mask(self, source_maps: Tensor, target_maps: Tensor, latent_size: tuple[int, int]) -> Tensor:
        """(h, w) bool of `latent_size`, from the running means (rows, columns, L) of both prompts' maps."""
        inside = torch.zeros(latent_size, dtype=torch.bool, device=target_maps.device)
        if self.prior_mask is not None:
            inside |= self.prior_mask.to(inside.device)
        if self.maps:
            # P2P pools its maps; beside a prior, which is grown itself, they join as they are.
            grow = self.grow if self.prior_mask is None else 0
            words = [(target_maps, word) for word in self.target_words]
            if self.prior_mask is None:
                words += [(source_maps, word) for word in self.source_words]
            for maps, word in words:
                inside |= strong(maps[..., list(word.tokens)].mean(dim=-1), self.threshold, grow, latent_size)
        return inside


def blended_objects(
    source: Prompt, target: Prompt, alignment: Alignment, settings: EditSettings, prior: LocalizationPrior | None
) -> tuple[LocalBlendMode, EditedObjects] | None:
    """What this target is blended by, with `auto` resolved, and the objects; None if it is not blended.

    Raises ValueError where `settings.local_blend` requires a prior and an object that the edit touches has
    none, and where it is set and the edit touches nothing.
    """
    mode = settings.local_blend
    if mode == "off" or (mode == "auto" and prior is None):
        return None
    emphasised = words_in(target, settings.equalizer)
    objects = edited_objects(source, target, alignment, prior=prior, emphasised=emphasised)
    if mode == "auto":
        return None if objects.without_prior or not objects.with_prior else (AUTO, objects)
    if not objects.source and not objects.target:
        raise ValueError(f"local_blend: got {mode!r}, but {target.text!r} edits nothing of {source.text!r}")
    if mode != "map" and (prior is None or objects.without_prior):
        has = "there is no prior" if prior is None else f"the prior has {', '.join(prior.words)}"
        words = objects.without_prior or tuple(source.words[i].text for i in objects.source)
        raise ValueError(f"local_blend: {mode!r} requires a prior for {', '.join(words)}, but {has}")
    return mode, objects


def plan_blend(
    source: Prompt,
    target: Prompt,
    alignment: Alignment,
    settings: EditSettings,
    prior: LocalizationPrior | None,
    latent_size: tuple[int, int],
    cell: int,
) -> LocalBlend | None:
    """How this target is blended, or None if it is not.

    cell: latent cells that a cell of the word maps is wide. Raises as `blended_objects`.
    """
    found = blended_objects(source, target, alignment, settings, prior)
    if found is None:
        return None
    mode, objects = found
    mask = None
    if mode != "map" and prior is not None:
        mask = latent_mask(prior, objects.with_prior, latent_size, settings.blend_grow * cell)
    return LocalBlend(
        prior_mask=mask,
        maps=mode != "prior",
        source_words=tuple(source.words[i] for i in objects.source),
        target_words=tuple(target.words[j] for j in objects.target),
        threshold=settings.blend_threshold,
        grow=settings.blend_grow,
    )


def latent_mask(prior: LocalizationPrior, words: Sequence[str], latent_size: tuple[int, int], grow: int) -> Tensor:
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
