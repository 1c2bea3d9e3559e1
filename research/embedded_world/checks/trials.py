"""Held-out trials: a scene, an edit of it, priors that are exactly right, and the true edited image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ....locinv_core.imaging.metrics import mse, psnr
from ....locinv_core.localization.priors import LocalizationPrior, from_boxes, from_masks
from ..scenes.edits import Edit, EditKind
from ..scenes.files import held_out_pair
from ..scenes.render import render, tight_box
from ..scenes.spec import Box, caption


@dataclass(frozen=True)
class Trial:
    """One held-out scene, what is to change in it, and what it truly looks like changed.

    Images are (1, 3, H, W) in [0, 1]; masks (H, W) are 0 or 1.
    """

    number: int
    image: Tensor
    source: str
    target: str
    truth: Tensor
    wish: str
    """What is to be drawn, in its place and without what else the scene shows: "a pink car in the desert"."""
    edit: Edit
    nouns: tuple[str, ...]
    masks: tuple[Tensor, ...]
    boxes: tuple[Box, ...]
    changed: Tensor
    """(H, W): where the true edited image may differ: the edited object before and after."""

    @property
    def noun(self) -> str:
        """The noun of the edited object."""
        return self.nouns[self.edit.index]

    def prior(self, kind: Literal["segment", "detection"] = "segment") -> LocalizationPrior:
        """The true place of every object: its mask, or its box."""
        size = int(self.image.shape[-2]), int(self.image.shape[-1])
        if kind == "segment":
            return from_masks(dict(zip(self.nouns, self.masks, strict=True)), size=size)
        return from_boxes(dict(zip(self.nouns, self.boxes, strict=True)), size)

    def distance(self, edited: Tensor) -> float:
        """PSNR in dB of an edited image to the true one; more is nearer."""
        return psnr(edited, self.truth)

    def succeeds(self, edited: Tensor) -> bool:
        """Whether, where the truth changed, the edited image is nearer to the truth than to the source."""
        return mse(edited, self.truth, self.changed) < mse(edited, self.image, self.changed)


def held_out_trial(number: int, *, objects: int | None = None, kind: EditKind | None = None) -> Trial:
    """Trial `number` (0, 1, …), of scenes that no model was trained on; `objects` and `kind` may be fixed."""
    spec, edit, edited = held_out_pair(number, objects=objects, kind=kind)
    before, masks = render(spec)
    after, masks_after = render(edited)
    changed = masks[edit.index] | masks_after[edit.index]
    return Trial(
        number=number,
        image=_image(before),
        source=caption(spec),
        target=caption(edited),
        truth=_image(after),
        wish=edit.wish(spec.background),
        edit=edit,
        nouns=tuple(obj.noun for obj in spec.objects),
        masks=tuple(torch.from_numpy(mask.astype(np.float32)) for mask in masks),
        boxes=tuple(tight_box(mask) for mask in masks),
        changed=torch.from_numpy(changed.astype(np.float32)),
    )


def _image(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
