"""CLIP's two encoders: E_v of images and E_t of texts (Learnable Regions §3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.functional import normalize

from .hub import normalization, open_network, open_tokenizer
from .vit import VisionFeatures

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, eq=False)
class ClipEncoder:
    """CLIP's two encoders, E_v and E_t, and how their input is made; the weights are never changed.

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
        device: torch.device = next(self.model.parameters()).device
        return device

    def with_structure(self, vision: VisionFeatures) -> ClipEncoder:
        """The same CLIP with L_Str on another ViT's features (DINO's, say)."""
        return replace(self, structure=vision)

    def encode_images(self, images: Tensor) -> Tensor:
        """E_v: images (B, 3, H, W) in [0, 1] to unit vectors (B, e) float32, differentiable."""
        return self._embed(self._vision(images).pooler_output)

    def patch_features(self, images: Tensor) -> Tensor:
        """f: what L_Str compares of images (B, 3, H, W), (B, N, d) float32, differentiable."""
        if self.structure is not None:
            return self.structure.patch_features(images)
        patches: Tensor = self._vision(images).last_hidden_state[:, 1:]
        return patches.float()

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """`encode_images` and `patch_features`, in one pass where both are CLIP's."""
        if self.structure is not None:
            return self.encode_images(images), self.structure.patch_features(images)
        output = self._vision(images)
        return self._embed(output.pooler_output), output.last_hidden_state[:, 1:].float()

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str], name: str = "prompt") -> Tensor:
        """E_t: texts to unit vectors (B, e) float32.

        Raises ValueError, calling the text `name`, for one that is empty or that CLIP would cut.
        """
        tokens = [torch.tensor([self.token_ids(text, name)], device=self.device) for text in texts]
        pooled = [self.model.text_model(input_ids=one).pooler_output for one in tokens]
        return F.normalize(torch.cat([self.model.text_projection(one) for one in pooled]).float(), dim=-1)

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
            pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True).clamp(0, 1)
        normalised = normalize(pixels, list(self.mean), list(self.std))
        return self.model.vision_model(pixel_values=normalised.to(next(self.model.parameters()).dtype))

    def _embed(self, pooled: Tensor) -> Tensor:
        return F.normalize(self.model.visual_projection(pooled).float(), dim=-1)


def load_clip(
    name: str | Path = "embedded", device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> ClipEncoder:
    """Open a CLIP: "embedded", a folder of transformers' layout, or a hub name (openai/clip-vit-base-patch16).

    Images are normalised as preprocessor_config.json says, else as OpenAI's models require them. Raises
    ValueError for what cannot be had, what is no CLIP, and a tokenizer that is not there or another model's.
    """
    from transformers import CLIPModel, CLIPTokenizerFast

    # Weights made inside a caller's inference mode (ComfyUI's) could never take part in a gradient.
    with torch.inference_mode(False):
        model = open_network(CLIPModel, name, "clip").to(device, dtype)
    mean, std = normalization(name, "clip", OPENAI_MEAN, OPENAI_STD)
    tokenizer = open_tokenizer(CLIPTokenizerFast, name, "clip")
    known, wanted = len(tokenizer), int(model.config.text_config.vocab_size)
    # With other tokens texts would mean something else to CLIP; a text model may be padded to a round number.
    if not wanted / 2 <= known <= wanted:
        raise ValueError(
            f"clip {str(name)!r}: its tokenizer has {known} tokens and its text model {wanted}, requires the"
            " tokenizer that the model was trained with"
        )
    return ClipEncoder(model, tokenizer, mean, std, str(name))
