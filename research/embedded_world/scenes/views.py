"""Views of training images: windows resized to one side, and changes of tone, light and sharpness."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def uniform(shape: tuple[int, ...], least: float, most: float, rng: torch.Generator) -> Tensor:
    """Numbers spread evenly over ``least`` to ``most``."""
    return least + (most - least) * torch.rand(shape, generator=rng)


def look(pictures: Tensor, windows: Tensor, side: int) -> Tensor:
    """What a window of each image shows, resized to a square by bilinear interpolation.

    ``pictures``: (B, 3, H, W) uint8. ``windows``: (B, 4), x0, y0, x1, y1 in pixels, the far ends exclusive. Returns
    (B, 3, side, side), float in [0, 1].
    """
    height, width = pictures.shape[2:]
    x0, y0, x1, y1 = windows.float().unbind(1)
    nought = torch.zeros_like(x0)
    across = torch.stack([(x1 - x0) / width, nought, (x0 + x1) / width - 1], dim=1)
    down = torch.stack([nought, (y1 - y0) / height, (y0 + y1) / height - 1], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), [len(pictures), 3, side, side], align_corners=False)
    return F.grid_sample(pictures.float() / 255, grid, padding_mode="border", align_corners=False)


def mirrored(images: Tensor, which: Tensor) -> Tensor:
    """The images (B, 3, H, W), those of ``which`` (B,) bool from right to left."""
    return torch.where(which.view(-1, 1, 1, 1), images.flip(3), images)


def softened(images: Tensor, shares: Tensor) -> Tensor:
    """Each image (B, 3, H, W) mixed with itself at half the resolution: ``shares`` (B,) of the coarse one."""
    coarse = F.interpolate(F.avg_pool2d(images, 2), size=images.shape[-2:], mode="bilinear")
    return torch.lerp(images, coarse, shares.view(-1, 1, 1, 1))


def toned(images: Tensor, gains: Tensor, shifts: Tensor) -> Tensor:
    """The images (B, 3, H, W) times ``gains`` plus ``shifts`` (both (B, 3)), kept in [0, 1]."""
    return (images * gains[..., None, None] + shifts[..., None, None]).clamp(0, 1)


def windows_on_objects(
    shown: Tensor,
    views: int,
    sides: tuple[float, float],
    shift: float,
    rng: torch.Generator,
    *,
    size: int,
    centres: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Square windows around a place of each image where objects show.

    Args:
        shown: (B, h, w), how much of each cell objects cover; its chance goes with the square.
        views: windows of an image. sides: least and most of their sides. shift: most that a window's centre
            lies from the place, each way. size: side of the images. All in pixels.
        centres: (B, 2), the places (x, y), where they are known already.

    Returns:
        The windows (B * views, 4), those of one image together, moved inside the image, and the places.
    """
    count, height, width = shown.shape
    if centres is None:
        cells = torch.multinomial(shown.square().flatten(1) + 1e-6, 1, generator=rng)[:, 0]
        places = torch.stack([cells % width, cells // width], dim=1) + torch.rand(count, 2, generator=rng)
        centres = places * torch.tensor([size / width, size / height])
    length = uniform((count * views, 1), *sides, rng)
    middle = centres.repeat_interleave(views, dim=0) + uniform((count * views, 2), -shift, shift, rng)
    start = torch.minimum((middle - length / 2).clamp(min=0), size - length)
    return torch.cat([start, start + length], dim=1), centres
