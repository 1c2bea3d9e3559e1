"""Crops around masks, enlarged to the image's own size and put back after an edit.

In a window that the mask nearly fills, a model that is not conditioned on it has nowhere else to draw. diffusers'
`padding_mask_crop` crops PIL images, one for a whole batch; this crops tensors, one for each box.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import masks_to_boxes

LEAST = 0.25
"""A window has at least this share of the image's sides: below it, there is little to be seen enlarged."""


def check_window(window: float | None) -> None:
    """Raise ValueError unless `window` is None or a number of at least 1."""
    if window is not None and not (math.isfinite(window) and window >= 1):
        raise ValueError(
            f"window: got {window}, requires a number of at least 1, or for the whole image 0 (in Python None)"
        )


@dataclass(frozen=True)
class Window:
    """A part of an image: rows top to bottom and columns left to right, the last of each exclusive."""

    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def around(cls, mask: Tensor, factor: float) -> Window:
        """The part of the image's shape that is `factor` times as long as the mask (H, W) on the side
        where the mask takes most of it, in its middle as far as there is room."""
        x0, y0, x1, y1 = masks_to_boxes(mask[None] > 0)[0].long().tolist()  # x1 and y1 are the last pixels
        spans = [(y0, y1 + 1), (x0, x1 + 1)]
        sizes = [int(size) for size in mask.shape]
        share = max((end - start) / size for (start, end), size in zip(spans, sizes, strict=True))
        share = min(max(share * factor, LEAST), 1.0)
        ends: list[int] = []
        for (start, end), size in zip(spans, sizes, strict=True):
            length = min(size, math.ceil(share * size - 1e-9))  # 0.6·100 may be 60.000…1
            first = min(max((start + end - length) // 2, 0), size - length)
            ends += [first, first + length]
        return cls(*ends)

    def of(self, images: Tensor) -> Tensor:
        """What the window shows of images or masks (B, C, H, W), at its own size."""
        return images[..., self.top : self.bottom, self.left : self.right]

    def enlarged(self, image: Tensor) -> Tensor:
        """What the window shows of an image (1, 3, H, W), at the image's size."""
        return resized(self.of(image), *image.shape[-2:])

    def enlarged_mask(self, mask: Tensor) -> Tensor:
        """The same of a mask (1, 1, H, W) of 0 and 1; a pixel is in it where most of it is."""
        size = mask.shape[-2:]
        return (F.interpolate(self.of(mask).float(), size=size, mode="bilinear") >= 0.5).to(mask)

    def put_back(self, edited: Tensor, image: Tensor) -> Tensor:
        """The image (1, 3, H, W) with an edit (1, 3, H, W) of what `enlarged` gave in its place."""
        whole = image.to(edited).clone()
        shown = self.of(whole)
        shown.copy_(resized(edited, *shown.shape[-2:]))
        return whole


def resized(images: Tensor, height: int, width: int) -> Tensor:
    """Images (B, 3, H, W) in [0, 1] at another size, bicubic, without aliasing; the same at their own."""
    if tuple(images.shape[-2:]) == (height, width):
        return images
    return F.interpolate(images, size=(height, width), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)


def windows_around(masks: Tensor, factor: float) -> list[Window]:
    """A window for each of the masks (B, 1, H, W), none of them empty."""
    return [Window.around(mask[0], factor) for mask in masks]


def seen_through(windows: list[Window], image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
    """What each window shows of the image (1, 3, H, W) and its mask of (B, 1, H, W), enlarged: B each."""
    inside = [window.enlarged_mask(mask[None]) for window, mask in zip(windows, masks, strict=True)]
    return torch.cat([window.enlarged(image) for window in windows]), torch.cat(inside)
