"""The composite editing loss of one image's edits, by CLIP (Learnable Regions Eq. 3 to 6)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoders.clip import ClipEncoder

NO_CHANGE = 1e-4
"""Embeddings less than this apart have no direction between them: L_Dir is then near 1, with a gradient."""


def clip_loss(edited: Tensor, prompt: Tensor) -> Tensor:
    """L_Clip = D_cos(E_v(X_o), E_t(T)) (Learnable Regions Eq. 4): (B, e) and (1, e) to (B,). D_cos is 1 − cosine."""
    return 1 - F.cosine_similarity(edited, prompt, dim=-1)


def self_similarity(features: Tensor) -> Tensor:
    """Q: features (B, N, d) to the cosines between any two of an image's patches, (B, N, N)."""
    unit = F.normalize(features, dim=-1)
    return unit @ unit.transpose(-1, -2)


def structure_loss(edited: Tensor, source: Tensor) -> Tensor:
    """L_Str = ‖Q(f_Xo) − Q(f_X)‖₂ / N (Learnable Regions Eq. 5): features (B, N, d) and (1, N, d) to (B,).

    Divided by N the norm is the root mean square over the N × N pairs of patches. As printed it grows with
    the ViT's grid, to tens where the other two losses are at most 2; the published code averages, too.
    """
    difference = self_similarity(edited) - self_similarity(source)
    # vector_norm's gradient at 0, where the edit has changed nothing, is 0 and not NaN.
    return torch.linalg.vector_norm(difference, dim=(-2, -1)) / difference.shape[-1]


def direction_loss(edited: Tensor, source: Tensor, prompt: Tensor, roi: Tensor) -> Tensor:
    """L_Dir = D_cos(E_v(X_o) − E_v(X), E_t(T) − E_t(T_ROI)) (Learnable Regions Eq. 6): (B, e), three (1, e) to (B,)."""
    return 1 - F.cosine_similarity(edited - source, prompt - roi, dim=-1, eps=NO_CHANGE)


@dataclass(frozen=True)
class LossWeights:
    """λ_C, λ_S and λ_D of Learnable Regions Eq. 3; a loss of weight 0 is not computed."""

    clip: float = 1.0
    structure: float = 1.0
    direction: float = 1.0

    def __post_init__(self) -> None:
        weights = asdict(self)
        for name, weight in weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ValueError(f"weight of the {name} loss: got {weight}, requires a number, 0 or more")
        if not any(weights.values()):
            raise ValueError("weights of the losses: got 0 for each, requires at least one above 0")


@dataclass(frozen=True)
class Crops:
    """Views, the same of source and edit, that L_Clip and L_Dir are averaged over beside the whole images.

    Each of `count` crops has `smallest` to 1 of each side, at a random place, and is mirrored half of the time if
    `flip`.
    """

    count: int = 0
    smallest: float = 0.6
    flip: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        if self.count < 0:
            raise ValueError(f"crops: got {self.count}, requires 0 or more")
        if not 0 < self.smallest <= 1:
            raise ValueError(f"crops: got {self.smallest} as the smallest, requires above 0 and up to 1")

    def views(self, images: Tensor) -> list[Tensor]:
        """The whole images (B, 3, H, W), then every crop (B, 3, h, w)."""
        height, width = images.shape[-2:]
        generator = torch.Generator().manual_seed(self.seed)
        views = [images]
        for share, left, top, mirror in torch.rand(self.count, 4, generator=generator).tolist():
            kept = self.smallest + share * (1 - self.smallest)
            h, w = max(1, round(height * kept)), max(1, round(width * kept))
            y, x = round(top * (height - h)), round(left * (width - w))
            view = images[..., y : y + h, x : x + w]
            views.append(view.flip(-1) if self.flip and mirror < 0.5 else view)
        return views


@dataclass(eq=False)
class CompositeLoss:
    """L of Learnable Regions Eq. 3 for the edits X_o of one image X, towards the prompt T and away from T_ROI.

    source: X, (1, 3, H, W) in [0, 1]. prompt: T, what the edit is to show. caption: T_ROI, the part of the source
    to edit, as text.
    """

    clip: ClipEncoder
    source: Tensor
    prompt: str
    caption: str
    weights: LossWeights = field(default_factory=LossWeights)
    crops: Crops = field(default_factory=Crops)

    def __post_init__(self) -> None:
        """Encode what stays the same. Raises ValueError for texts that CLIP cannot read whole or that do not
        differ (then there is no direction from one to the other)."""
        prompt = self.clip.encode_texts([self.prompt], "prompt")
        roi = self.clip.encode_texts([self.caption], "caption")
        if self.weights.direction and bool((prompt - roi).norm() < NO_CHANGE):
            raise ValueError(
                f"caption: got {self.caption!r}, which is to CLIP what the prompt is; requires a text of"
                f" what the source shows, and a prompt that says something else: it is {self.prompt!r}"
            )
        with torch.no_grad():
            # E_v(X) of the whole image and of each crop, (1, e) each; f_X, (1, N, d).
            self._views = [self.clip.encode_images(view) for view in self.crops.views(self.source)]
            self._patches = self.clip.patch_features(self.source) if self.weights.structure else None
        self._texts = prompt, roi

    def __call__(self, edited: Tensor) -> Tensor:
        """L = λ_C·L_Clip + λ_S·L_Str + λ_D·L_Dir (Learnable Regions Eq. 3): (B, 3, H, W) to (B,), differentiable."""
        weights = asdict(self.weights)
        return torch.stack([weights[name] * loss for name, loss in self.terms(edited).items()]).sum(dim=0)

    def terms(self, edited: Tensor) -> Mapping[str, Tensor]:
        """The losses with a weight above 0 by name, before their weights, (B,) each."""
        prompt, roi = self._texts
        whole, *crops = self.crops.views(edited)
        terms: dict[str, Tensor] = {}
        if self._patches is None:
            first = self.clip.encode_images(whole)
        else:
            first, patches = self.clip.look(whole)
            terms["structure"] = structure_loss(patches, self._patches)
        encoded = [first, *(self.clip.encode_images(crop) for crop in crops)]
        if self.weights.clip:
            terms["clip"] = torch.stack([clip_loss(e, prompt) for e in encoded]).mean(dim=0)
        if self.weights.direction:
            pairs = zip(encoded, self._views, strict=True)
            terms["direction"] = torch.stack([direction_loss(e, s, prompt, roi) for e, s in pairs]).mean(0)
        return terms
