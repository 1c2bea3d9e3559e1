"""Two images as a self-supervised ViT sees them: how alike they are, and how far their structures differ.

Structure is the self-similarity of the keys of the ViT's last layer (Tumanyan et al. 2022, Splice, Eq. 2),
which DirectInversion and LocInv (as DINO-Sim ↓) measure, with DINO ViT-B/8 at 224 pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ....region_core.encoders.vit import VisionFeatures
from ....region_core.losses import self_similarity

LONGEST = 480 / 224
"""How much longer than the ViT's own side an image's longer side may be (Splice: 480 of 224 pixels)."""


@dataclass(frozen=True, eq=False)
class SeenByVit:
    """keys: (1 + N, d) float32, the last layer's keys of [CLS] and the patches, heads side by side.
    cls: (d,) float32, the [CLS] token after the last layer and its norm."""

    keys: Tensor
    cls: Tensor


def see(vision: VisionFeatures, image: Tensor) -> SeenByVit:
    """What the ViT makes of an image (1, 3, H, W) in [0, 1].

    The shorter side becomes the side that the ViT was trained at, the longer up to LONGEST times that;
    what is no whole patch is left out, as DINO leaves it out. Raises ValueError for a ViT without keys.
    """
    caught: dict[nn.Module, Any] = {}
    modules = (last_keys(vision), vision.model)
    hooks = [module.register_forward_hook(lambda own, _, output: caught.update({own: output})) for module in modules]
    try:
        with torch.no_grad():
            patches = vision.patch_features(_at_its_side(vision, image)).shape[1]
    finally:
        for hook in hooks:
            hook.remove()
    keys, tokens = caught[modules[0]][0].float(), caught[modules[1]].last_hidden_state[0]
    # Registers, where a ViT has them, lie between [CLS] and the patches and show nothing of the image.
    return SeenByVit(torch.cat([keys[:1], keys[-patches:]]), tokens[0].float())


def last_keys(vision: VisionFeatures) -> nn.Module:
    """The last layer's projection to keys. Raises ValueError for a ViT that has none of its own."""
    named = [m for name, m in vision.model.named_modules() if name.rpartition(".")[2] in ("key", "k_proj")]
    if not named:
        raise ValueError(f"dino {vision.name!r}: its layers have no keys of their own, requires a ViT like DINO")
    last: nn.Module = named[-1]
    return last


def similarity(a: SeenByVit, b: SeenByVit) -> float:
    """The cosine of two images' [CLS] tokens. On the CPU: Apple's GPUs have no double precision."""
    return float(F.cosine_similarity(a.cls.cpu().double(), b.cls.cpu().double(), dim=0))


def structure_distance(a: SeenByVit, b: SeenByVit) -> float:
    """The mean squared difference of the self-similarities, cosines of any two keys, of two images of one
    size."""
    one, other = (self_similarity(seen.keys.cpu().double()[None]) for seen in (a, b))
    return float(F.mse_loss(one, other))


def _at_its_side(vision: VisionFeatures, image: Tensor) -> Tensor:
    from torchvision.transforms.functional import resize

    own = getattr(vision.model.config, "image_size", None)
    side = own if isinstance(own, int) else min(image.shape[-2:])
    pixels: Tensor = image.to(vision.device, torch.float32)
    pixels = resize(pixels, side, max_size=max(side + 1, int(side * LONGEST)), antialias=True)
    rows, columns = (length // vision.patch * vision.patch for length in pixels.shape[-2:])
    return pixels[..., :rows, :columns]
