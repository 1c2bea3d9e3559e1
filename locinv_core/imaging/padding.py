"""Between an image and the padded size that a model works at; padding is on the right and the bottom, so a
pixel keeps its coordinates, and boxes need no change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Padding:
    """An image's own size and its padded size, in pixels."""

    height: int
    width: int
    padded_height: int
    padded_width: int

    @classmethod
    def of(cls, height: int, width: int, multiple: int) -> Padding:
        """The least padding of `height` x `width` pixels that makes both sides divisible by `multiple`."""
        if min(height, width, multiple) < 1:
            raise ValueError(f"padding of {width}x{height} pixels to a multiple of {multiple}: all must be at least 1")
        return cls(height, width, -(-height // multiple) * multiple, -(-width // multiple) * multiple)

    @property
    def is_trivial(self) -> bool:
        """True where nothing is padded."""
        return (self.height, self.width) == (self.padded_height, self.padded_width)

    def pad_image(self, image: Tensor) -> Tensor:
        """(B, C, height, width) to (B, C, padded_height, padded_width): mirrored at the edge, or the edge's
        pixels repeated where the padding is longer than the image."""
        _check("image", image, 4, (self.height, self.width))
        right, bottom = self.padded_width - self.width, self.padded_height - self.height
        padded = F.pad(image, (0, right, 0, 0), mode="reflect" if right < self.width else "replicate")
        return F.pad(padded, (0, 0, 0, bottom), mode="reflect" if bottom < self.height else "replicate")

    def pad_mask(self, mask: Tensor) -> Tensor:
        """(…, height, width) to (…, padded_height, padded_width), with zeros: no mask reaches into the
        padding."""
        _check("mask", mask, 2, (self.height, self.width))
        return F.pad(mask, (0, self.padded_width - self.width, 0, self.padded_height - self.height))

    def crop(self, tensor: Tensor) -> Tensor:
        """(…, padded_height, padded_width) back to (…, height, width): images, masks and maps of pixels."""
        _check("image", tensor, 2, (self.padded_height, self.padded_width))
        return tensor[..., : self.height, : self.width]

    def map_to_pixels(self, values: Tensor) -> Tensor:
        """A map (rows, columns) of the padded image as one (height, width) float32, interpolated."""
        return self._enlarged(values, "bilinear")

    def mask_to_pixels(self, mask: Tensor) -> Tensor:
        """A mask (rows, columns) of the padded image's cells as one (height, width) float32: each pixel has
        its cell's value."""
        return self._enlarged(mask, "nearest")

    def _enlarged(self, values: Tensor, mode: Literal["bilinear", "nearest"]) -> Tensor:
        size = self.padded_height, self.padded_width
        return self.crop(F.interpolate(values[None, None].float(), size=size, mode=mode))[0, 0]


def _check(kind: str, tensor: Tensor, dimensions: int, size: tuple[int, int]) -> None:
    if tensor.ndim < dimensions or tuple(tensor.shape[-2:]) != size:
        raise ValueError(f"{kind} has shape {tuple(tensor.shape)}; its last two sides must be {size}")
