"""The embedded model as ComfyUI's own MODEL, CLIP and VAE, so that KSampler and every other node run on it."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any, ClassVar

import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.utils
import torch
from torch import nn

from ...assets import EMBEDDED as EMBEDDED_WEIGHTS
from .backbone import NATIVE_SIZE

FOLDER = EMBEDDED_WEIGHTS / "sd"
_TOKENS = 40
_SPECIAL = {"start": 632, "end": 633, "pad": 633}


class EmbeddedLatents(comfy.latent_formats.LatentFormat):
    """Latents of the embedded VAE."""

    scale_factor = 0.92336
    latent_channels = 8


class EmbeddedFamily(comfy.supported_models.SD15):
    """Stable Diffusion 1.x with fewer channels, heads of 32 channels and a noisier schedule."""

    unet_extra_config: ClassVar[dict[str, Any]] = {"num_heads": -1, "num_head_channels": 32}
    latent_format = EmbeddedLatents
    sampling_settings: ClassVar[dict[str, Any]] = {"linear_start": 0.0015, "linear_end": 0.0195}


class EmbeddedTextEncoder(comfy.sd1_clip.SDClipModel):
    """CLIP's text encoder of 3 layers and 634 tokens."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: Any = None) -> None:
        told = json.loads((FOLDER / "text_encoder" / "config.json").read_text(encoding="utf-8"))
        super().__init__(
            device=device,
            max_length=_TOKENS,
            textmodel_json_config=told,
            dtype=dtype,
            special_tokens=_SPECIAL,
            return_projected_pooled=False,
            model_options=model_options or {},
        )
        table = self.operations.Embedding(told["vocab_size"], told["hidden_size"], dtype=dtype, device=device)
        self.transformer.set_input_embeddings(table)


class EmbeddedTokenizer(comfy.sd1_clip.SDTokenizer):
    """CLIP's tokenizer with 634 tokens."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None) -> None:
        super().__init__(
            str(FOLDER / "tokenizer"),
            max_length=_TOKENS,
            embedding_directory=embedding_directory,
            embedding_size=128,
            tokenizer_data=tokenizer_data or {},
        )


class _Ratio(Fraction):
    """A level's channels as a multiple of the first level's, which need not be whole; their product is."""

    def __mul__(self, channels: Any) -> Any:
        return int(super().__mul__(channels))

    __rmul__ = __mul__


def embedded_parts() -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE; their weights are read anew at each call."""
    return _model(), _clip(), _vae()


def _weights(part: str, name: str) -> dict[str, torch.Tensor]:
    read = comfy.utils.load_torch_file(str(FOLDER / part / name), safe_load=True)
    return {key: weight.float() for key, weight in read.items()}


def _config(part: str) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((FOLDER / part / "config.json").read_text(encoding="utf-8"))
    return told


def _model() -> Any:
    told = _config("unet")
    channels, levels = told["block_out_channels"], len(told["block_out_channels"])
    per_level = [told["layers_per_block"]] * levels
    unet = {
        "image_size": told["sample_size"],
        "in_channels": told["in_channels"],
        "out_channels": told["out_channels"],
        "model_channels": channels[0],
        "channel_mult": tuple(_Ratio(channel, channels[0]) for channel in channels),
        "num_res_blocks": per_level,
        "transformer_depth": [1] * sum(per_level),
        "transformer_depth_output": [1] * sum(count + 1 for count in per_level),
        "transformer_depth_middle": 1,
        "context_dim": told["cross_attention_dim"],
        "use_spatial_transformer": True,
        "legacy": False,
        "use_linear_in_transformer": False,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "dtype": torch.float32,
    }
    load = comfy.model_management.get_torch_device()
    offload = comfy.model_management.unet_offload_device()
    base = comfy.model_base.BaseModel(EmbeddedFamily(unet), device=offload)
    names = comfy.utils.unet_to_diffusers(unet)
    read = _weights("unet", "diffusion_pytorch_model.safetensors")
    _group(base.diffusion_model, told["norm_num_groups"])
    base.diffusion_model.load_state_dict({names[key]: weight for key, weight in read.items()})
    patcher = comfy.model_patcher.ModelPatcher(base, load, offload)
    patcher.set_attachments(NATIVE_SIZE, told["sample_size"] * 2 ** (len(_config("vae")["block_out_channels"]) - 1))
    return patcher


def _clip() -> Any:
    class Target:
        params: ClassVar[dict[str, Any]] = {}
        clip = comfy.sd1_clip.SD1ClipModel
        tokenizer = comfy.sd1_clip.SD1Tokenizer

    clip = comfy.sd.CLIP(
        Target,
        tokenizer_data={"clip_l_tokenizer_class": EmbeddedTokenizer},
        model_options={"clip_l_class": EmbeddedTextEncoder, "dtype": torch.float32},
    )
    read = _weights("text_encoder", "model.safetensors")
    named = {f"text_model.{key.removeprefix('text_model.')}": weight for key, weight in read.items()}
    transformer = clip.cond_stage_model.clip_l.transformer
    lacking = transformer.load_state_dict(named, strict=False)
    assert lacking.missing_keys == ["text_projection.weight"], lacking
    # Nothing reads it; what ComfyUI leaves in it may be anything.
    transformer.text_projection.weight.data.zero_()
    return clip


def _vae() -> Any:
    told = _config("vae")
    channels = told["block_out_channels"]
    autoencoder = {
        "double_z": True,
        "z_channels": told["latent_channels"],
        "resolution": told["sample_size"],
        "in_channels": 3,
        "out_ch": 3,
        "ch": channels[0],
        "ch_mult": [channel // channels[0] for channel in channels],
        "num_res_blocks": told["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    vae = comfy.sd.VAE(
        sd=_weights("vae", "diffusion_pytorch_model.safetensors"),
        config={"params": {"ddconfig": autoencoder, "embed_dim": told["latent_channels"]}},
        dtype=torch.float32,
    )
    vae.latent_channels = told["latent_channels"]
    _group(vae.first_stage_model, told["norm_num_groups"])
    for half in (vae.first_stage_model.encoder, vae.first_stage_model.decoder):
        half.mid.attn_1 = nn.Identity()
    return vae


def _group(network: nn.Module, groups: int) -> None:
    """ComfyUI's networks normalize in 32 groups; those of the embedded model are fewer."""
    for module in network.modules():
        if isinstance(module, nn.GroupNorm):
            module.num_groups = groups
