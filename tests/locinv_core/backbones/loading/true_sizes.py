"""Networks of the published sizes, without their weights."""

from __future__ import annotations

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from pinpoint.locinv_core.backbones import single_file


def true_networks(family: str) -> tuple[nn.Module, nn.Module, nn.Module]:
    """The networks of the pack's configs, on the meta device."""
    folder = single_file.CONFIGS / family
    with torch.device("meta"):
        return (
            UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(folder / "unet")),
            AutoencoderKL.from_config(AutoencoderKL.load_config(folder / "vae")),
            CLIPTextModel(CLIPTextConfig.from_pretrained(folder / "text_encoder")),
        )
