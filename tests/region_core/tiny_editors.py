"""Small random models for the editors, in the architectures and file layouts of the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AmusedScheduler, UVit2DModel, VQModel
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from pinpoint.locinv_core.model import EditModel
from pinpoint.locinv_core.schedule import schedule_from_config
from pinpoint.locinv_core.vocabulary import clip_tokenizer
from pinpoint.tests.locinv_core.tiny_models import (
    tiny_scheduler,
    tiny_text_encoder,
    tiny_unet,
    tiny_vae,
    write_tiny_folder,
)

CODES = 32
"""Entries of the tiny VQ model's codebook."""
MASK_TOKEN = CODES
"""The id after the last code stands for a masked token."""
TOKEN_PIXELS = 4
"""Pixels a token is wide."""


def small_model(prediction_type: str = "epsilon", unet_channels: int = 4, seed: int = 0) -> EditModel:
    """An EditModel whose text encoder reads CLIP's vocabulary; 9 channels make it an inpainting model."""
    changes: dict[str, Any] = {"in_channels": unet_channels, "out_channels": 4, "block_out_channels": (8, 16)}
    return EditModel(
        unet=tiny_unet(seed, **changes),
        vae=certain_vae(seed),
        text_encoder=tiny_text_encoder(seed),
        tokenizer=clip_tokenizer(),
        schedule=schedule_from_config(tiny_scheduler(prediction_type=prediction_type).config),
        name="small",
    )


def certain_vae(seed: int = 0) -> Any:
    """The tiny VAE with a posterior of no width, so that diffusers' samples of it are its mean."""
    vae = tiny_vae(seed)
    channels = vae.config.latent_channels
    with torch.no_grad():
        vae.quant_conv.weight[channels:] = 0
        vae.quant_conv.bias[channels:] = -60.0
    return vae


def write_inpaint_folder(folder: Path, *, seed: int = 0) -> Path:
    """The tiny inpainting model as a diffusers folder."""
    write_tiny_folder(folder, seed=seed)
    unet = small_model(unet_channels=9, seed=seed).unet
    unet.save_pretrained(folder / "unet")
    return folder


def tiny_vq(seed: int = 0) -> VQModel:
    """A VQ model of three levels with codes that differ as much as what its encoder puts out does."""
    torch.manual_seed(seed)
    model = VQModel(
        block_out_channels=(8, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        latent_channels=8,
        num_vq_embeddings=CODES,
        norm_num_groups=8,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
        force_upcast=True,
    ).eval()
    torch.nn.init.normal_(model.quantize.embedding.weight, std=0.3)
    return model


def tiny_uvit(seed: int = 0, **changes: Any) -> UVit2DModel:
    """aMUSEd's transformer with two layers of width 32 and a vocabulary of `CODES` codes and the mask."""
    torch.manual_seed(seed)
    config: dict[str, Any] = {
        "hidden_size": 32,
        "cond_embed_dim": 32,
        "micro_cond_encode_dim": 8,
        "micro_cond_embed_dim": 40,
        "encoder_hidden_size": 32,
        "vocab_size": CODES + 1,
        "codebook_size": CODES,
        "in_channels": 32,
        "block_out_channels": 32,
        "num_res_blocks": 1,
        "block_num_heads": 4,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "sample_size": 16,
    }
    model = UVit2DModel(**{**config, **changes}).eval()
    # Fresh modulation is zero or tiny: without this, neither the prompt nor the size would have an effect.
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def tiny_text_with_projection(seed: int = 0) -> CLIPTextModelWithProjection:
    """A CLIP text encoder of two layers and width 32 with its projection; CLIP's vocabulary."""
    torch.manual_seed(seed)
    encoder = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=77,
            projection_dim=32,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=49407,
        )
    ).eval()
    torch.nn.init.normal_(encoder.get_input_embeddings().weight, std=1.0)
    return encoder


def write_amused_folder(folder: Path, *, seed: int = 0) -> Path:
    """The tiny aMUSEd as a diffusers folder."""
    tiny_vq(seed).save_pretrained(folder / "vqvae")
    tiny_uvit(seed).save_pretrained(folder / "transformer")
    tiny_text_with_projection(seed).save_pretrained(folder / "text_encoder")
    clip_tokenizer().save_pretrained(folder / "tokenizer")
    AmusedScheduler(mask_token_id=MASK_TOKEN).save_pretrained(folder / "scheduler")
    return folder


def box_masks(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (64, 64)) -> torch.Tensor:
    """(B, 1, H, W) of boxes (x0, y0, x1, y1) in pixels."""
    masks = torch.zeros(len(boxes), 1, *size)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[0, y0:y1, x0:x1] = 1
    return masks


def smooth_picture(height: int = 64, width: int = 64) -> torch.Tensor:
    """(1, 3, height, width): a picture with something different everywhere."""
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None].expand(height, width)
    return torch.stack([rows, columns, ((rows * 9).sin() * (columns * 7).cos() + 1) / 2])[None]
