"""Differences of two images' pixels, over the whole frame and outside a mask."""

from __future__ import annotations

import math

from torch import Tensor

from ....locinv_core.imaging.metrics import mse, psnr, ssim
from .registry import PSNR_LIMIT

__all__ = ["blackened", "limited_psnr", "mse", "ssim"]


def blackened(image: Tensor, mask: Tensor) -> Tensor:
    """image (1, 3, H, W) times 1 − mask (H, W): what lies outside the mask, black inside."""
    return image * (1 - mask.to(image))


def limited_psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """`psnr` of locinv_core, PSNR_LIMIT at most, also for identical images."""
    value = psnr(a, b, mask)
    return min(value, PSNR_LIMIT) if not math.isnan(value) else value
