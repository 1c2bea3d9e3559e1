"""How far two images differ, over the whole or over a part such as the background, and how well an
attention map finds an object. Everything returns plain numbers, on images (B, 3, H, W) in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

IOU_THRESHOLDS: tuple[float, ...] = tuple(k / 20 for k in range(1, 20))
"""0.05, 0.10 … 0.95."""

_SSIM_WINDOW = 11


def mse(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """Mean squared difference over pixels, channels and batch.

    `mask`: (H, W) in [0, 1], 1 = counted, fractions weigh; None counts all. Raises ValueError for images of
    different shapes, a mask of another size, and a mask that counts nothing.
    """
    weights = _check(a, b, mask)
    squared = (a.double() - b.double()).square().mean(dim=(0, 1))
    return float((squared * weights).sum() / weights.sum())


def psnr(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """Peak signal-to-noise ratio in dB, 10·log10(1 / mse), `mask` as in `mse`.

    Infinite for identical images: write it to JSON through `finite`.
    """
    error = mse(a, b, mask)
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(a: Tensor, b: Tensor, mask: Tensor | None = None) -> float:
    """Structural similarity, the mean of `ssim_map` over pixels.

    With a `mask`, the pixels that it leaves out are first made equal in both images and the map is then
    averaged where the mask counts. A window that reaches across the mask's edge thus sees no difference
    there: what happened outside cannot move the number, and a background that is untouched scores 1. Raises
    ValueError as `mse`, and for images smaller than the window.
    """
    weights = _check(a, b, mask)
    first = a.double()
    similarity = ssim_map(first, torch.where(weights > 0, b.double(), first))
    return float((similarity.mean(dim=(0, 1)) * weights).sum() / weights.sum())


def ssim_map(a: Tensor, b: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004) of every pixel, (B, C, H, W) float64, for images in [0, 1].

    Means, variances and the covariance are those of an 11x11 Gaussian window of sigma 1.5; the border is
    mirrored. Raises ValueError for images smaller than the window.
    """
    if min(a.shape[-2:]) < _SSIM_WINDOW:
        raise ValueError(f"images are {tuple(a.shape[-2:])} pixels; SSIM needs {_SSIM_WINDOW} on each side")
    reach = _SSIM_WINDOW // 2
    steps = torch.arange(-reach, reach + 1, dtype=torch.float64, device=a.device)
    line = (-(steps**2) / (2 * 1.5**2)).exp()
    window = torch.outer(line, line)[None, None] / line.sum() ** 2

    def average(values: Tensor) -> Tensor:
        padded = F.pad(values.flatten(0, 1)[:, None], (reach,) * 4, mode="reflect")
        return F.conv2d(padded, window).view_as(values)

    x, y = a.double(), b.double()
    mean_x, mean_y = average(x), average(y)
    variances = average(x * x) - mean_x**2 + average(y * y) - mean_y**2
    covariance = average(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    return (2 * mean_x * mean_y + c1) * (2 * covariance + c2) / ((mean_x**2 + mean_y**2 + c1) * (variances + c2))


def outside_figures(image: Tensor, edited: Tensor, mask: Tensor) -> dict[str, float | None] | None:
    """psnr (None for identical images), ssim and mse outside a mask (H, W); None if it covers the image."""
    outside = 1 - mask.float()
    if not bool(outside.any()):
        return None
    pair = (image, edited, outside)
    return {"psnr": finite(psnr(*pair)), "ssim": finite(ssim(*pair)), "mse": mse(*pair)}


def finite(value: float) -> float | None:
    """`value`, or None where JSON has no number for it (the PSNR of identical images)."""
    return value if math.isfinite(value) else None


def iou_curve(attention_map: Tensor, mask: Tensor, thresholds: Sequence[float] = IOU_THRESHOLDS) -> Tensor:
    """Intersection over union of a thresholded attention map with an object's mask (LocInv Fig. 3),
    (thresholds,).

    `attention_map` (h, w), not negative, is brought to the mask's size bilinearly and divided by its maximum,
    so a threshold is a share of the word's peak; pixels at or above it are predicted. `mask`: (H, W), an
    object where it exceeds one half. A map that is zero everywhere predicts nothing. Raises ValueError for
    wrong shapes, an empty mask, and a map with negative or non-finite values.
    """
    if attention_map.ndim != 2 or mask.ndim != 2:
        raise ValueError(
            f"attention map has shape {tuple(attention_map.shape)} and mask {tuple(mask.shape)}; "
            "they must be (h, w) and (H, W)"
        )
    values = attention_map.detach().double()
    if not torch.isfinite(values).all() or (values < 0).any():
        raise ValueError("attention map has negative or non-finite values; it must hold probabilities")
    inside = mask.to(values.device) > 0.5
    if not inside.any():
        raise ValueError("mask is empty; it must cover at least one pixel")
    full = F.interpolate(values[None, None], size=mask.shape, mode="bilinear", align_corners=False)[0, 0]
    peak = full.max()
    if peak == 0:
        return torch.zeros(len(thresholds))
    levels = torch.tensor(thresholds, dtype=torch.float64, device=values.device)
    predicted = full / peak >= levels[:, None, None]
    intersection = (predicted & inside).sum(dim=(1, 2))
    union = (predicted | inside).sum(dim=(1, 2))
    return (intersection / union).float().cpu()


def best_iou(attention_map: Tensor, mask: Tensor, thresholds: Sequence[float] = IOU_THRESHOLDS) -> float:
    """The highest value of `iou_curve`: how well the map finds the object at the threshold that suits it
    best."""
    return float(iou_curve(attention_map, mask, thresholds).max())


def _check(a: Tensor, b: Tensor, mask: Tensor | None) -> Tensor:
    """The pixels' weights, (H, W) float64, after every shape was checked."""
    if a.shape != b.shape or a.ndim != 4:
        raise ValueError(f"images have shapes {tuple(a.shape)} and {tuple(b.shape)}; both must be (B, 3, H, W)")
    if mask is None:
        return torch.ones(a.shape[-2:], dtype=torch.float64, device=a.device)
    if mask.shape != a.shape[-2:]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; the images need {tuple(a.shape[-2:])}")
    weights = mask.to(device=a.device, dtype=torch.float64)
    if not torch.isfinite(weights).all() or (weights < 0).any() or (weights > 1).any():
        raise ValueError("mask has values outside 0 to 1; it must weigh pixels from 0 to 1")
    if not weights.any():
        raise ValueError("mask counts no pixel; it must cover at least one")
    return weights
