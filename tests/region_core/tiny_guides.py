"""Small random CLIP and ViT models in the architectures and file layouts of the real ones, and a guide whose
opinions are planted, for tests that need to know what is right."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTImageProcessor,
    ViTModel,
)

from pinpoint.locinv_core.run import Run
from pinpoint.locinv_core.vocabulary import clip_tokenizer
from pinpoint.region_core.features import IMAGENET_MEAN, IMAGENET_STD, VisionFeatures
from pinpoint.region_core.guidance import Guide

CLIP_SIDE = 32
PATCH = 8


def tiny_clip_model(seed: int = 0) -> CLIPModel:
    """A CLIP of two layers and width 32 each way; 32 pixels, patches of 8; CLIP's vocabulary, 77 tokens."""
    torch.manual_seed(seed)
    shared = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    text = {"vocab_size": 49408, "bos_token_id": 49406, "eos_token_id": 49407, "pad_token_id": 49407}
    config = CLIPConfig(
        text_config={**shared, **text, "max_position_embeddings": 77},
        vision_config={**shared, "image_size": CLIP_SIDE, "patch_size": PATCH},
        projection_dim=16,
    )
    model = CLIPModel(config).eval().requires_grad_(False)
    # As drawn (σ = 0.02) different texts and pictures would hardly differ.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def tiny_clip(seed: int = 0) -> Guide:
    """The tiny CLIP as a guide, on the CPU in float32."""
    return Guide(model=tiny_clip_model(seed), tokenizer=clip_tokenizer(), name="tiny")


def write_tiny_clip(folder: Path, *, seed: int = 0, preprocessor: bool = True) -> Path:
    """The tiny CLIP as a folder of transformers' layout."""
    tiny_clip_model(seed).save_pretrained(folder)
    clip_tokenizer().save_pretrained(folder)
    if preprocessor:
        side = {"height": CLIP_SIDE, "width": CLIP_SIDE}
        CLIPImageProcessor(size={"shortest_edge": CLIP_SIDE}, crop_size=side).save_pretrained(folder)
    return folder


def tiny_vit_model(seed: int = 0) -> ViTModel:
    """A ViT of DINO's architecture, two layers of width 32; 32 pixels, patches of 8."""
    torch.manual_seed(seed)
    config = ViTConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=PATCH,
        attn_implementation="eager",
    )
    model = ViTModel(config, add_pooling_layer=False).eval().requires_grad_(False)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def tiny_dinov2_model(seed: int = 0) -> Dinov2Model:
    """A DINOv2 of two layers and width 32; patches of 14."""
    torch.manual_seed(seed)
    config = Dinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=14,
        attn_implementation="eager",
    )
    return Dinov2Model(config).eval().requires_grad_(False)


def tiny_vit(seed: int = 0) -> VisionFeatures:
    """The tiny ViT, on the CPU in float32."""
    return VisionFeatures(tiny_vit_model(seed), IMAGENET_MEAN, IMAGENET_STD, PATCH, "tiny")


def write_tiny_vit(folder: Path, *, seed: int = 0, mean: tuple[float, ...] | None = None) -> Path:
    """The tiny ViT as a folder of transformers' layout; with `mean`, a preprocessor config that has it."""
    tiny_vit_model(seed).save_pretrained(folder)
    if mean is not None:
        ViTImageProcessor(image_mean=list(mean), image_std=[0.5] * 3).save_pretrained(folder)
    return folder


@dataclass(frozen=True, eq=False)
class PlantedGuide(Guide):
    """A guide that sees a picture as its pixels on a coarse grid, and to which texts mean pictures.

    `meanings` maps a text to the picture (1, 3, H, W) that it describes.
    """

    model: Any = None
    tokenizer: Any = None
    meanings: dict[str, Tensor] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def encode_images(self, images: Tensor) -> Tensor:
        return F.normalize((F.adaptive_avg_pool2d(images, 16) - 0.5).flatten(1), dim=-1)

    def patch_features(self, images: Tensor) -> Tensor:
        return (F.adaptive_avg_pool2d(images, 8) - 0.5).flatten(2).transpose(1, 2)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.encode_images(images), self.patch_features(images)

    def encode_texts(self, texts: Any, name: str = "prompt") -> Tensor:
        return torch.cat([self.encode_images(self.meanings[text]) for text in texts])


@dataclass
class PaintingEditor:
    """An editor that fills its mask with one colour, and keeps count as diffusion at 50 steps does.

    Outside the mask it adds a little noise, as an autoencoder would. An edit costs ⌊0.75·steps⌋ steps of two
    passes. `calls` holds (mask, steps) of every edit made.
    """

    colour: tuple[float, float, float] = (1.0, 0.0, 0.0)
    steps: int = 50
    name: str = "painting"
    boxes_only: bool = False
    takes: int | None = None
    calls: list[tuple[Tensor, int | None]] = field(default_factory=list)

    def edit(
        self,
        image: Tensor,
        masks: Tensor,
        prompt: str,
        seed: int,
        *,
        steps: int | None = None,
        run: Run | None = None,
    ) -> Tensor:
        run = run or Run()
        for mask in masks:
            self.calls.append((mask[0].clone(), steps))
        for step in range(passes := int(0.75 * (steps or self.steps))):
            run.count_forward(2 * len(masks))
            run.report(step + 1, passes)
        noise = 0.01 * torch.rand(image.shape, generator=torch.Generator().manual_seed(seed))
        paint = torch.tensor(self.colour).view(1, 3, 1, 1)
        return torch.where(masks > 0, paint, (image + noise).clamp(0, 1)).float()
