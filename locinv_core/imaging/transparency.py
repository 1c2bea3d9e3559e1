"""An image's own transparency: laid over white for a model, given back to what the model has made."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Transparency:
    """The colours (H, W, 3) and the alpha (H, W, 1) of an image with transparency, both float32 in [0, 1]."""

    colours: np.ndarray
    alpha: np.ndarray

    def over_white(self) -> Tensor:
        """The image (1, 3, H, W) as it looks on white."""
        shown = torch.from_numpy(self.colours * self.alpha + (1 - self.alpha))
        return rearrange(shown, "h w c -> 1 c h w").contiguous()

    def given_to(self, edited: Tensor) -> Image.Image:
        """An RGBA image of 8 bits that looks on white as `edited` (1, 3, H, W) does, with this alpha.

        A pixel that `edited` leaves as `over_white` shows it in 8 bits keeps its own colour, bit for bit. What was
        drawn where alpha is 0 stays invisible.
        """
        new, old = (
            _eight_bits(rearrange(image, "1 c h w -> h w c").cpu().numpy()) for image in (edited, self.over_white())
        )
        bare = np.clip(1 - (1 - new / np.float32(255)) / np.maximum(self.alpha, np.float32(1 / 255)), 0, 1)
        kept = (new == old).all(axis=-1, keepdims=True) | (self.alpha == 0)
        return Image.fromarray(_eight_bits(np.concatenate([np.where(kept, self.colours, bare), self.alpha], axis=-1)))


def _eight_bits(values: np.ndarray) -> np.ndarray:
    return (values.clip(0, 1) * 255 + 0.5).astype(np.uint8)
