"""Between an image and the padded frame of it that a model works at: priors on the way in, maps and masks of
coarser grids on the way out."""

from __future__ import annotations

from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from ..localization.priors import LocalizationPrior
from .io import Padding


def padded_prior(prior: LocalizationPrior, framing: Padding) -> LocalizationPrior:
    """The prior on the padded image. Raises ValueError unless its masks have the image's own size."""
    if prior.size != (framing.height, framing.width):
        raise ValueError(
            f"prior: its masks have {prior.size[1]}x{prior.size[0]} pixels, requires the image's"
            f" {framing.width}x{framing.height}"
        )
    return replace(prior, masks={word: framing.pad_mask(mask) for word, mask in prior.masks.items()})


def map_on_image(values: Tensor, framing: Padding) -> Tensor:
    """A map (rows, columns) of the padded image as one (H, W) float32 of the image, interpolated."""
    size = framing.padded_height, framing.padded_width
    full = F.interpolate(values[None, None].float(), size=size, mode="bilinear", align_corners=False)
    return framing.crop(full)[0, 0]


def mask_on_image(mask: Tensor, framing: Padding) -> Tensor:
    """A mask (rows, columns) of the padded image's cells as one (H, W) float32 of the image: each pixel
    has its cell's value."""
    size = framing.padded_height, framing.padded_width
    full = F.interpolate(mask[None, None].float(), size=size, mode="nearest")
    return framing.crop(full)[0, 0]
