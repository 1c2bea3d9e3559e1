"""Boxes and images of regions in ComfyUI's terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

Box = tuple[float, float, float, float]


def bounding_box(box: Box) -> dict[str, int]:
    """ComfyUI's bounding box of x0, y0, x1, y1 in pixels, the last two exclusive."""
    x0, y0, x1, y1 = (round(side) for side in box)
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}


def boxed(image: Tensor, boxes: Sequence[Box], labels: Sequence[str]) -> Tensor:
    """The image (1, 3, H, W) with labelled boxes, as one."""
    from ...locinv_core.imaging.visualize import box_overlay

    return drawn(box_overlay(image, list(boxes), list(labels)))


def drawn(image: Image.Image) -> Tensor:
    """A Pillow image as an image (1, 3, H, W) in [0, 1]."""
    import numpy as np

    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy())
    return pixels.permute(2, 0, 1)[None].float() / 255


def attention_mask(attention: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """The MASK (1, H, W) of what a ViT attends to, (h, w) patches, as a share of its maximum.

    The last patches may reach beyond the image of `size` (H, W).
    """
    share = attention.float().cpu() / attention.max().clamp_min(1e-12).cpu()
    pixels = share.repeat_interleave(patch, dim=0).repeat_interleave(patch, dim=1)
    return pixels[None, : size[0], : size[1]].contiguous()
