"""A self-supervised ViT's features of an image: the attention of its [CLS] token, and its patches' features.

DINO, DINOv2 and any other ViT of transformers that gives its attention (Learnable Regions §3.1: F and the [CLS] map).
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torchvision.transforms.functional import normalize

from .hub import normalization, open_network

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MOST_PATCHES = 1600
"""Attention is quadratic in the patches (and all layers' is held): larger images are reduced first."""
_WANTED = "a ViT whose first token is [CLS] and that sees every patch, such as DINO's"


@dataclass(frozen=True, eq=False)
class PatchFeatures:
    """What the ViT made of one image of `size` (H, W), on its grid of patches, float32.

    attention: (h, w), what [CLS] pays each patch in the last layer, mean over heads. features: F, (d, h, w), of
    the last layer. patch: pixels a patch is wide; the last row and column may reach beyond the image.
    """

    attention: Tensor
    features: Tensor
    patch: int
    size: tuple[int, int]

    @property
    def grid(self) -> tuple[int, int]:
        rows, columns = self.attention.shape
        return rows, columns


@dataclass(frozen=True, eq=False)
class VisionFeatures:
    """A ViT that gives its attention, and how it requires its images; nothing here changes its weights."""

    model: Any
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    patch: int
    name: str

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.model.parameters()).device
        return device

    @torch.no_grad()
    def look(self, image: Tensor) -> PatchFeatures:
        """Attention and features of an image (1, 3, H, W) in [0, 1].

        A side that is no multiple of the patch is continued by its edge; an image of more than MOST_PATCHES
        patches is first averaged over blocks of pixels. Raises ValueError for another shape, for an image
        smaller than a patch, and for a ViT without attention, without [CLS] or that does not see every patch.
        """
        if image.ndim != 4 or image.shape[:2] != (1, 3):
            raise ValueError(f"image: got the shape {tuple(image.shape)}, requires (1, 3, H, W)")
        pixels, patch = self._pixels(image)
        rows, columns = (side // self.patch for side in pixels.shape[-2:])
        output = self._forward(pixels, output_attentions=True)
        attentions = getattr(output, "attentions", None)
        if not attentions or attentions[-1] is None:
            raise ValueError(f"vit {self.name!r}: it gives no attention, requires a ViT with eager attention")
        self._check_tokens(output.last_hidden_state, attentions[-1], rows * columns)
        # [CLS] comes first, then registers if there are any, then the patches.
        to_patches = attentions[-1][0, :, 0, -rows * columns :]
        tokens = output.last_hidden_state[0, -rows * columns :]
        return PatchFeatures(
            attention=rearrange(to_patches.float().mean(dim=0), "(y x) -> y x", y=rows),
            features=rearrange(tokens.float(), "(y x) d -> d y x", y=rows),
            patch=patch,
            size=(image.shape[-2], image.shape[-1]),
        )

    def patch_features(self, images: Tensor) -> Tensor:
        """The last layer's patch features (B, h·w, d) of images (B, 3, H, W), differentiable in them."""
        pixels, _ = self._pixels(images)
        rows, columns = (side // self.patch for side in pixels.shape[-2:])
        tokens: Tensor = self._forward(pixels).last_hidden_state[:, -rows * columns :]
        return tokens.float()

    def check(self) -> None:
        """Raise ValueError, as `look` does, for a ViT that cannot read a small oblong image."""
        try:
            self.look(torch.full((1, 3, 4 * self.patch, 6 * self.patch), 0.5))
        except (RuntimeError, TypeError, AttributeError, LookupError) as error:
            reason = str(error).strip().split("\n")[0]
            raise ValueError(
                f"vit {self.name!r}: it cannot read an image of {6 * self.patch}x{4 * self.patch} pixels"
                f" ({reason}), requires {_WANTED}"
            ) from error

    def _check_tokens(self, tokens: Tensor, attention: Tensor, patches: int) -> None:
        """Raise ValueError unless the tokens (1, N, d) and the attention (1, heads, N, N) are [CLS]'s, what
        else comes before the patches, and every patch's."""
        among = attention.shape[-1]
        if tokens.ndim != 3 or attention.shape[-2:] != (tokens.shape[1], tokens.shape[1]):
            what = f"its attention is among {among} tokens and it gives {tuple(tokens.shape[1:-1])}"
        elif among < patches:
            what = f"it reads {among} tokens"
        elif among == patches:
            what = "it has no [CLS] token"
        else:
            return
        raise ValueError(f"vit {self.name!r}: {what}, on {patches} patches; requires {_WANTED}")

    def _pixels(self, images: Tensor) -> tuple[Tensor, int]:
        """Normalised images, and the pixels of the original that a patch of them is wide."""
        height, width = images.shape[-2:]
        if min(height, width) < self.patch:
            raise ValueError(f"image: got {width}x{height} pixels, requires at least a patch of {self.patch}")
        patch = self.patch
        while -(-height // patch) * -(-width // patch) > MOST_PATCHES and min(height, width) >= patch + self.patch:
            patch += self.patch
        pixels = images.to(self.device, torch.float32)
        pixels = F.pad(pixels, (0, -width % patch, 0, -height % patch), mode="replicate")
        if patch > self.patch:
            pixels = F.avg_pool2d(pixels, patch // self.patch)
        return normalize(pixels, list(self.mean), list(self.std)), patch

    def _forward(self, pixels: Tensor, **options: Any) -> Any:
        if "interpolate_pos_encoding" in inspect.signature(self.model.forward).parameters:
            options["interpolate_pos_encoding"] = True
        return self.model(pixels.to(next(self.model.parameters()).dtype), **options)


def load_vit(
    name: str | Path = "embedded", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> VisionFeatures:
    """Open a ViT: "embedded", a folder of transformers' layout, or a hub name (facebook/dino-vitb16).

    Images are normalised as preprocessor_config.json says, else by ImageNet's mean and deviation. Raises
    ValueError for what cannot be had, what is no ViT, and a ViT that `VisionFeatures.look` has no use for.
    """
    from transformers import AutoModel

    # Weights made inside a caller's inference mode (ComfyUI's), and what a pass leaves in a model's caches, could
    # never take part in a gradient.
    with torch.inference_mode(False):
        model = open_network(AutoModel, name, "vit", may_lack=("pooler.",), attn_implementation="eager")
        model = model.to(device, dtype)
        patch = getattr(model.config, "patch_size", None)
        patch = patch[0] if isinstance(patch, (tuple, list)) and len(set(patch)) == 1 else patch
        if not isinstance(patch, int):
            kind = type(model).__name__
            raise ValueError(f"vit {str(name)!r}: it is a {kind} without square patches, requires a ViT")
        mean, std = normalization(name, "vit", IMAGENET_MEAN, IMAGENET_STD)
        vision = VisionFeatures(model, mean, std, patch, str(name))
        vision.check()
    return vision
