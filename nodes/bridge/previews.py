"""Images of latents while they form: colours as a linear map of latents, fitted to the image at hand.

It needs no decoder and no table of factors, so it costs next to nothing and works with every model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from ...locinv_core.backbones.base import Backbone

_RIDGE = 1e-3


@dataclass(frozen=True)
class LatentPreview:
    """RGB = [latent, 1] · W at every cell, with W (C + 1, 3); drawn `factor` times as large."""

    weights: Tensor
    factor: int

    @classmethod
    def fit(cls, latents: Tensor, image: Tensor) -> LatentPreview:
        """W by least squares between latents (1, C, h, w) and their image (1, 3, H, W)."""
        height, width = latents.shape[-2:]
        with torch.inference_mode(False), torch.no_grad():
            small = F.interpolate(image.detach().clone().float().cpu(), (height, width), mode="area")
            known = _with_ones(latents)
            colours = rearrange(small, "1 c h w -> (h w) c")
            inner = known.T @ known + _RIDGE * len(known) * torch.eye(known.shape[1])
            return cls(torch.linalg.solve(inner, known.T @ colours), image.shape[-1] // width)

    def image(self, latents: Tensor) -> Image.Image:
        """The first of the latents (B, C, h, w) as a Pillow image."""
        from ...locinv_core.imaging.io import to_pil

        height, width = latents.shape[-2:]
        with torch.inference_mode(False), torch.no_grad():
            colours = rearrange(_with_ones(latents) @ self.weights, "(h w) c -> 1 c h w", h=height)
            size = (height * self.factor, width * self.factor)
            return to_pil(F.interpolate(colours.clamp(0, 1), size, mode="bilinear"))


def latent_preview(model: Backbone, image: Tensor) -> LatentPreview:
    """How the model's latents of an image (1, 3, H, W) look; the model is ready."""
    from ...locinv_core.imaging.padding import Padding

    padded = Padding.of(image.shape[-2], image.shape[-1], model.size_multiple).pad_image(image)
    return LatentPreview.fit(model.encode(padded), padded)


def _with_ones(latents: Tensor) -> Tensor:
    """The first of the latents as (h·w, C + 1), float32, on the CPU."""
    cells = rearrange(latents[0].detach().clone().float().cpu(), "c h w -> (h w) c")
    return torch.cat([cells, torch.ones(len(cells), 1)], dim=1)
