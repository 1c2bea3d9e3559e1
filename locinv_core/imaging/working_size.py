"""Editing a large image at a size that the model can take, and the edit put back at full resolution."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from .composite import composite
from .io import MINIMUM_SIDE

if TYPE_CHECKING:
    from ..localization.priors import LocalizationPrior

LEAST_BOUND = 256
"""No image with sides up to this many pixels is made smaller by default."""


def default_long_side(image: Tensor, native_size: int) -> int:
    """The longer side, in pixels, at which an image (1, 3, H, W) is edited.

    Up to twice the model's native size it is the image's own; beyond it, where a model draws objects twice, the
    native size.
    """
    own = max(image.shape[-2:])
    return own if own <= max(LEAST_BOUND, 2 * native_size) else max(MINIMUM_SIDE, native_size)


@dataclass(frozen=True)
class WorkingSize:
    """full: (H, W) of the image. small: (h, w) at which it is edited, of the same shape to a pixel."""

    full: tuple[int, int]
    small: tuple[int, int]

    @classmethod
    def of(cls, image: Tensor, long_side: int) -> WorkingSize | None:
        """For an image (1, 3, H, W) whose longer side exceeds `long_side`; None for another.

        The shorter side stays at 64 pixels or more. Raises ValueError for `long_side` under 64.
        """
        if long_side < MINIMUM_SIDE:
            raise ValueError(f"max-side: got {long_side}, requires at least {MINIMUM_SIDE} pixels")
        height, width = int(image.shape[-2]), int(image.shape[-1])
        scale = max(long_side / max(height, width), MINIMUM_SIDE / min(height, width))
        if scale >= 1:
            return None
        return cls((height, width), (max(MINIMUM_SIDE, round(height * scale)), max(MINIMUM_SIDE, round(width * scale))))

    @property
    def scale(self) -> float:
        """Pixels of the image that one of the small image is wide."""
        return max(self.full) / max(self.small)

    def shrink(self, image: Tensor) -> Tensor:
        """(1, 3, H, W) to (1, 3, h, w), antialiased."""
        return F.interpolate(image, self.small, mode="bicubic", antialias=True).clamp(0, 1)

    def shrink_mask(self, mask: Tensor) -> Tensor:
        """A mask (H, W) of 0 and 1 at (h, w): where it fills half of a pixel, or else the pixel that it fills most."""
        share = F.adaptive_avg_pool2d(mask[None, None], self.small)[0, 0]
        return (share >= min(0.5, float(share.max()))).float()

    def shrink_prior(self, prior: LocalizationPrior) -> LocalizationPrior:
        """The prior of the small image."""
        return replace(prior, masks={word: self.shrink_mask(mask) for word, mask in prior.masks.items()})

    def put_back(self, image: Tensor, edited: Tensor, mask: Tensor | None) -> Tensor:
        """The image (1, 3, H, W) with the edit (1, 3, h, w), enlarged, inside the mask (H, W) and feathered there.

        Outside the mask it is `image` bit for bit. Without a mask it is the enlarged edit.
        """
        enlarged = F.interpolate(edited, self.full, mode="bicubic").clamp(0, 1)
        if mask is None:
            return enlarged
        rows, columns = (torch.nonzero(mask.amax(dim=dim))[:, 0] for dim in (1, 0))
        window = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
        result = image.clone()
        inside = (slice(None), slice(None), *window)
        # The window's border is the mask's edge, so that the feather has to see one pixel beyond it.
        padded = F.pad(mask[window], (1, 1, 1, 1))
        before, after = (F.pad(part[inside], (1, 1, 1, 1)) for part in (image, enlarged))
        result[inside] = composite(before, after, padded, self.scale)[..., 1:-1, 1:-1]
        return result
