"""Small random models of Stable Diffusion's shape, for everyone's tests: seeded, float32, built in memory.

Latents are 4×32×32 for pictures of 128×128; cross-attention is on the 32×32 and the 16×16 grid.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from pinpoint.locinv_core import single_file
from pinpoint.locinv_core.model import EditModel
from pinpoint.locinv_core.schedule import schedule_from_config
from pinpoint.locinv_core.vocabulary import clip_tokenizer
from pinpoint.tests.locinv_core.ldm_names import checkpoint

PICTURE = 128
LATENT = 32
WIDTH = 32


def tiny_unet(seed: int = 0, **changes: Any) -> UNet2DConditionModel:
    """A UNet of two levels, (32, 64) channels, that attends to the prompt on both."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "sample_size": LATENT,
        "block_out_channels": (32, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "layers_per_block": 1,
        "cross_attention_dim": WIDTH,
        "attention_head_dim": 4,
        "norm_num_groups": 8,
    }
    return UNet2DConditionModel(**{**config, **changes}).eval()


def tiny_vae(seed: int = 0, **changes: Any) -> AutoencoderKL:
    """A VAE of three levels, so that a latent cell is 4 pixels wide."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "sample_size": PICTURE,
        "block_out_channels": (8, 16, 16),
        "down_block_types": ("DownEncoderBlock2D",) * 3,
        "up_block_types": ("UpDecoderBlock2D",) * 3,
        "layers_per_block": 1,
        "latent_channels": 4,
        "norm_num_groups": 8,
    }
    return AutoencoderKL(**{**config, **changes}).eval()


def tiny_text_encoder(seed: int = 0, **changes: Any) -> CLIPTextModel:
    """A CLIP text encoder of two layers and width 32 that reads the real vocabulary, 77 tokens."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "vocab_size": 49408,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 77,
        "projection_dim": WIDTH,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }
    encoder = CLIPTextModel(CLIPTextConfig(**{**config, **changes})).eval()
    # As drawn (σ = 0.02) different tokens would hardly differ in the context.
    torch.nn.init.normal_(encoder.get_input_embeddings().weight, std=1.0)
    return encoder


def tiny_scheduler(**changes: Any) -> DDIMScheduler:
    """Stable Diffusion's schedule."""
    config: dict[str, Any] = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "num_train_timesteps": 1000,
        "steps_offset": 1,
        "set_alpha_to_one": False,
        "clip_sample": False,
        "timestep_spacing": "leading",
        "prediction_type": "epsilon",
    }
    return DDIMScheduler(**{**config, **changes})


def tiny_model(prediction_type: str = "epsilon", seed: int = 0) -> EditModel:
    """A tiny EditModel on the CPU in float32; `prediction_type` may be "v_prediction"."""
    return EditModel(
        unet=tiny_unet(seed),
        vae=tiny_vae(seed),
        text_encoder=tiny_text_encoder(seed),
        tokenizer=clip_tokenizer(),
        schedule=schedule_from_config(tiny_scheduler(prediction_type=prediction_type).config),
        name="tiny",
    )


def write_tiny_folder(
    folder: Path,
    *,
    prediction_type: str = "epsilon",
    dtype: torch.dtype = torch.float32,
    variant: str | None = None,
    seed: int = 0,
    scheduler_config: dict[str, Any] | None = None,
) -> Path:
    """The tiny model as a diffusers folder; `variant` names the weights `….fp16.safetensors` and the like."""
    tiny_unet(seed).to(dtype).save_pretrained(folder / "unet", variant=variant)
    tiny_vae(seed).to(dtype).save_pretrained(folder / "vae", variant=variant)
    encoder = tiny_text_encoder(seed).to(dtype)
    encoder.save_pretrained(folder / "text_encoder", variant=variant)
    clip_tokenizer().save_pretrained(folder / "tokenizer")
    tiny_scheduler(prediction_type=prediction_type).save_pretrained(folder / "scheduler")
    if scheduler_config is not None:
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler_config))
    return folder


def write_tiny_file(
    path: Path,
    *,
    family: str = "sd1",
    dtype: torch.dtype = torch.float32,
    metadata: dict[str, str] | None = None,
) -> Path:
    """The tiny model as a single checkpoint file with the names of SD 1.x or 2.x ("sd1", "sd2")."""
    weights = checkpoint(tiny_unet().to(dtype), tiny_vae().to(dtype), tiny_text_encoder().to(dtype), family)
    save_file({name: w.contiguous().clone() for name, w in weights.items()}, str(path), metadata)
    return path


def write_tiny_configs(folder: Path) -> Path:
    """The configs that the tiny single file is to be opened with."""
    tiny_unet().save_config(folder / "unet")
    tiny_vae().save_config(folder / "vae")
    tiny_text_encoder().config.save_pretrained(folder / "text_encoder")
    tiny_scheduler().save_pretrained(folder / "scheduler")
    index = Path(single_file.CONFIGS) / "sd1" / "model_index.json"
    (folder / "model_index.json").write_text(index.read_text())
    return folder
