"""CLIP's guidance: the composite editing loss (paper §3.2, Eq. 3 to 6) and the quality score (Eq. 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .hub import open_network, open_tokenizer, preprocessor_config
from .vit import VisionFeatures, three

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)

NO_CHANGE = 1e-4
"""Embeddings less than this apart have no direction between them: L_Dir is then near 1, with a gradient."""


@dataclass(frozen=True, eq=False)
class ClipEncoder:
    """CLIP's two encoders, E_v and E_t, and how they want their input; the weights are never changed.

    An image that is not square is squeezed into CLIP's square, so that no edit is cropped away.
    """

    model: Any
    tokenizer: Any
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    name: str = "clip"
    structure: VisionFeatures | None = None
    """The ViT whose features L_Str compares; None takes CLIP's own, as the paper does."""

    @property
    def device(self) -> torch.device:
        """Where CLIP is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def with_structure(self, vision: VisionFeatures) -> ClipEncoder:
        """The same guide with L_Str on another ViT's features (DINO's, say)."""
        return replace(self, structure=vision)

    def encode_images(self, images: Tensor) -> Tensor:
        """E_v: images (B, 3, H, W) in [0, 1] to unit vectors (B, e) float32, differentiable."""
        return self._embed(self._vision(images).pooler_output)

    def patch_features(self, images: Tensor) -> Tensor:
        """f: what L_Str compares of images (B, 3, H, W), (B, N, d) float32, differentiable."""
        if self.structure is not None:
            return self.structure.patch_features(images)
        return self._patches(self._vision(images))

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`encode_images` and `patch_features`, in one pass where both are CLIP's."""
        if self.structure is not None:
            return self.encode_images(images), self.structure.patch_features(images)
        output = self._vision(images)
        return self._embed(output.pooler_output), self._patches(output)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], name: str = "prompt") -> Tensor:
        """E_t: texts to unit vectors (B, e) float32.

        Raises ValueError, calling the text `name`, for one that is empty or that CLIP would cut.
        """
        rows = []
        for ids in [self.token_ids(text, name) for text in texts]:
            tokens = torch.tensor([ids], device=self.device)
            output = self.model.text_model(input_ids=tokens)
            rows.append(self.model.text_projection(output.pooler_output))
        return F.normalize(torch.cat(rows).float(), dim=-1)

    def token_ids(self, text: str, name: str = "prompt") -> list[int]:
        """The text's tokens with start and end. Raises ValueError as `encode_texts` does."""
        if not text.strip():
            raise ValueError(f"{name} is empty: got {text!r}, requires at least one word")
        content = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        longest = int(self.model.config.text_config.max_position_embeddings)
        limit = min(longest, int(self.tokenizer.model_max_length))
        if len(content) + 2 > limit:
            raise ValueError(
                f"{name} is too long: it has {len(content)} tokens, and CLIP would cut it after {limit - 2};"
                f" leave out {len(content) + 2 - limit} tokens"
            )
        return [self.tokenizer.bos_token_id, *content, self.tokenizer.eos_token_id]

    def _vision(self, images: Tensor) -> Any:
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"images: got the shape {tuple(images.shape)}, requires (B, 3, H, W)")
        side = int(self.model.config.vision_config.image_size)
        pixels = images.to(self.device, torch.float32)
        if tuple(pixels.shape[-2:]) != (side, side):
            pixels = F.interpolate(
                pixels, size=(side, side), mode="bicubic", align_corners=False, antialias=True
            ).clamp(0, 1)
        mean, std = (pixels.new_tensor(v)[None, :, None, None] for v in (self.mean, self.std))
        dtype = next(self.model.parameters()).dtype
        return self.model.vision_model(pixel_values=((pixels - mean) / std).to(dtype))

    def _embed(self, pooled: Tensor) -> Tensor:
        return F.normalize(self.model.visual_projection(pooled).float(), dim=-1)

    @staticmethod
    def _patches(output: Any) -> Tensor:
        tokens: Tensor = output.last_hidden_state[:, 1:]
        return tokens.float()


def load_clip(
    name: str | Path = "embedded",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> ClipEncoder:
    """Open a CLIP: "embedded", a folder of transformers' layout, or a hub name
    (openai/clip-vit-base-patch16).

    Images are normalised as preprocessor_config.json says, else as OpenAI's models require them. Raises
    ValueError for what cannot be had, what is no CLIP, and a tokenizer that is not there or another model's.
    """
    from transformers import CLIPModel, CLIPTokenizerFast

    # Weights made inside a caller's inference mode (ComfyUI's) could never take part in a gradient.
    with torch.inference_mode(False):
        model = open_network(CLIPModel, name, "clip").to(device, dtype)
    config = preprocessor_config(name, "clip")
    tokenizer = open_tokenizer(CLIPTokenizerFast, name, "clip")
    _check_vocabulary(len(tokenizer), int(model.config.text_config.vocab_size), name)
    return ClipEncoder(
        model=model,
        tokenizer=tokenizer,
        mean=three(config.get("image_mean"), OPENAI_MEAN),
        std=three(config.get("image_std"), OPENAI_STD),
        name=str(name),
    )


def _check_vocabulary(known: int, wanted: int, name: str | Path) -> None:
    """Raise ValueError for a tokenizer with tokens that CLIP does not know, or with under half of those that
    it does: texts would mean something else to CLIP. (A text model may be padded to a round number.)"""
    if not wanted / 2 <= known <= wanted:
        raise ValueError(
            f"clip {str(name)!r}: its tokenizer has {known} tokens and its text model {wanted}, requires the"
            " tokenizer that the model was trained with"
        )


def clip_loss(edited: Tensor, prompt: Tensor) -> Tensor:
    """L_Clip = D_cos(E_v(X_o), E_t(T)) (Eq. 4): (B, e) and (1, e) to (B,). D_cos is 1 − cosine."""
    return 1 - F.cosine_similarity(edited, prompt, dim=-1)


def self_similarity(features: Tensor) -> Tensor:
    """Q: features (B, N, d) to the cosines between any two of an image's patches, (B, N, N)."""
    unit = F.normalize(features, dim=-1)
    return unit @ unit.transpose(-1, -2)


def structure_loss(edited: Tensor, source: Tensor) -> Tensor:
    """L_Str = ‖Q(f_Xo) − Q(f_X)‖₂ / N (Eq. 5): features (B, N, d) and (1, N, d) to (B,).

    Divided by N the norm is the root mean square over the N × N pairs of patches. As printed it grows with
    the ViT's grid, to tens where the other two losses are at most 2; the published code averages, too.
    """
    difference = self_similarity(edited) - self_similarity(source)
    # vector_norm's gradient at 0, where the edit has changed nothing, is 0 and not NaN.
    return torch.linalg.vector_norm(difference, dim=(-2, -1)) / difference.shape[-1]


def direction_loss(edited: Tensor, source: Tensor, prompt: Tensor, roi: Tensor) -> Tensor:
    """L_Dir = D_cos(E_v(X_o) − E_v(X), E_t(T) − E_t(T_ROI)) (Eq. 6): (B, e) and three (1, e) to (B,)."""
    return 1 - F.cosine_similarity(edited - source, prompt - roi, dim=-1, eps=NO_CHANGE)


@dataclass(frozen=True)
class GuidanceWeights:
    """λ_C, λ_S and λ_D of Eq. 3; a loss of weight 0 is not computed."""

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
    """Views of source and edit, beside the whole images, that L_Clip and L_Dir are averaged over.

    Each of `count` crops has `smallest` to 1 of each side, at a random place, and is mirrored half of the
    time if `flip`. Source and edits are cropped alike; the same `seed` crops alike every time.
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


@dataclass(frozen=True, eq=False)
class CompositeLoss:
    """L of Eq. 3 for the edits X_o of one image X, towards the prompt T and away from T_ROI."""

    guide: ClipEncoder
    source: Tensor
    """X: (1, 3, H, W) in [0, 1]."""
    prompt: str
    """T: what the edit is to show."""
    caption: str
    """T_ROI: the part of the source to edit, as text."""
    weights: GuidanceWeights = field(default_factory=GuidanceWeights)
    crops: Crops = field(default_factory=Crops)
    _texts: tuple[Tensor, Tensor] = field(init=False, repr=False)
    """E_t(T) and E_t(T_ROI), (1, e) each."""
    _views: list[Tensor] = field(init=False, repr=False)
    """E_v(X) of the whole image and of each crop, (1, e) each."""
    _patches: Tensor | None = field(init=False, repr=False)
    """f_X: (1, N, d); None where L_Str has no weight."""

    def __post_init__(self) -> None:
        """Encode what stays the same. Raises ValueError for texts that CLIP cannot read whole or that do not
        differ (then there is no direction from one to the other)."""
        prompt = self.guide.encode_texts([self.prompt], "prompt")
        roi = self.guide.encode_texts([self.caption], "caption")
        if self.weights.direction and bool((prompt - roi).norm() < NO_CHANGE):
            raise ValueError(
                f"caption: got {self.caption!r}, which is to CLIP what the prompt is; requires a text of"
                f" what the source shows, and a prompt that says something else: it is {self.prompt!r}"
            )
        with torch.no_grad():
            views = [self.guide.encode_images(view) for view in self.crops.views(self.source)]
            patches = self.guide.patch_features(self.source) if self.weights.structure else None
        object.__setattr__(self, "_texts", (prompt, roi))
        object.__setattr__(self, "_views", views)
        object.__setattr__(self, "_patches", patches)

    def __call__(self, edited: Tensor) -> Tensor:
        """L = λ_C·L_Clip + λ_S·L_Str + λ_D·L_Dir (Eq. 3): images (B, 3, H, W) to (B,), differentiable."""
        weights = asdict(self.weights)
        return torch.stack([weights[name] * loss for name, loss in self.terms(edited).items()]).sum(dim=0)

    def terms(self, edited: Tensor) -> Mapping[str, Tensor]:
        """The losses with a weight above 0 by name, before their weights, (B,) each."""
        prompt, roi = self._texts
        whole, *crops = self.crops.views(edited)
        terms: dict[str, Tensor] = {}
        if self._patches is None:
            first = self.guide.encode_images(whole)
        else:
            first, patches = self.guide.look(whole)
            terms["structure"] = structure_loss(patches, self._patches)
        encoded = [first, *(self.guide.encode_images(crop) for crop in crops)]
        if self.weights.clip:
            terms["clip"] = torch.stack([clip_loss(e, prompt) for e in encoded]).mean(dim=0)
        if self.weights.direction:
            pairs = zip(encoded, self._views, strict=True)
            terms["direction"] = torch.stack([direction_loss(e, s, prompt, roi) for e, s in pairs]).mean(0)
        return terms


def quality(s_t2i: Tensor, s_i2i: Tensor, alpha: float = 2.0, beta: float = 1.0) -> Tensor:
    """S = α·S_t2i + β·S_i2i (Eq. 7), elementwise."""
    return alpha * s_t2i + beta * s_i2i
