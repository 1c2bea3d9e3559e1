"""Differences of two images' pixels, over the whole frame and outside a mask as DirectInversion measures
them (Ju et al. 2024): both images are made black inside, and the whole frame is averaged over."""

from __future__ import annotations

import math

from torch import Tensor

from ....locinv_core.imaging.metrics import SSIM_WINDOW, mse, psnr, ssim_map
from .registry import PSNR_LIMIT

__all__ = ["blackened", "limited_psnr", "mse", "ssim"]


def blackened(image: Tensor, mask: Tensor) -> Tensor:
    """image (1, 3, H, W) times 1 − mask (H, W): what lies outside the mask, black inside."""
    return image * (1 - mask.to(image))


def limited_psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """`psnr` of locinv_core, PSNR_LIMIT at most, also for identical images."""
    value = psnr(a, b, mask)
    return min(value, PSNR_LIMIT) if not math.isnan(value) else value


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity of images (1, 3, H, W) in [0, 1], averaged over the pixels whose window lies in the
    frame, as torchmetrics does.

    Raises ValueError for images with a side shorter than the window.
    """
    if min(a.shape[-2:]) < SSIM_WINDOW:
        raise ValueError(
            f"edited: got {a.shape[-1]}x{a.shape[-2]} pixels, SSIM requires {SSIM_WINDOW} at least on each side"
        )
    reach = SSIM_WINDOW // 2
    return float(ssim_map(a, b)[..., reach:-reach, reach:-reach].mean())
