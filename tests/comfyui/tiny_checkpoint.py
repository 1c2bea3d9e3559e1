"""MODEL, CLIP and VAE of Stable Diffusion's kind with random weights, as ComfyUI's checkpoint loader gives
them; also as a node, for workflows that require a checkpoint. Runs in ComfyUI's process."""

from __future__ import annotations

from typing import Any, ClassVar

import comfy.cldm.cldm
import comfy.controlnet
import comfy.model_base
import comfy.model_patcher
import comfy.ops
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import torch

_UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "transformer_depth_middle": 1,
    "context_dim": 64,
    "use_spatial_transformer": True,
    "legacy": False,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "num_head_channels": -1,
    "dtype": torch.float32,
}
_TEXT = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
_VAE = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def narrow_parts(weights: str = "float32") -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of Stable Diffusion 1.5's architecture with fewer channels.

    weights: how the UNet's are kept: "float32", "fp8" or "scaled fp8"; it computes in float32.
    """
    unet = {
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": (1, 2, 4, 4),
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "num_heads": 8,
    }
    model, clip, vae = _parts(unet, 4, {"ch_mult": [1, 2, 4, 4], "num_res_blocks": 2}, weights=weights)
    with torch.no_grad():
        last = model.model.diffusion_model.out[2].weight
        last.copy_(last.float() * 20)  # so that noise has about the size of noise
    return model, clip, vae


def control_net() -> Any:
    """A ControlNet for `narrow_parts`, with random weights."""
    config = {
        **_UNET,
        "hint_channels": 3,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": (1, 2, 4, 4),
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "num_heads": 8,
    }
    network = comfy.cldm.cldm.ControlNet(**config, operations=comfy.ops.manual_cast)
    _fill(network, 7)
    return comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))


def shallow_parts() -> tuple[Any, Any, Any]:
    """The same with fewer levels and layers too."""
    unet = {
        "num_res_blocks": [1, 1],
        "channel_mult": (1, 2),
        "transformer_depth": [1, 1],
        "transformer_depth_output": [1, 1, 1, 1],
        "num_heads": 4,
    }
    return _parts(unet, 2, {"ch_mult": [1, 1, 1, 1], "num_res_blocks": 1})


def xl_parts() -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of SDXL's architecture with fewer channels and layers."""
    unet = {
        "num_res_blocks": [1, 1, 1],
        "channel_mult": (1, 2, 4),
        "transformer_depth": [0, 1, 2],
        "transformer_depth_output": [0, 0, 1, 1, 2, 2],
        "transformer_depth_middle": 2,
        "num_head_channels": 16,
        "num_heads": -1,
        "use_linear_in_transformer": True,
        "context_dim": 64 + 96,
        "num_classes": "sequential",
        "adm_in_channels": 6 * 256 + 96,
    }
    return _parts(unet, 3, {"ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}, xl=True)


def released_parts(*, xl: bool) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of the size of Stable Diffusion 1.5, or of SDXL; weights in half precision."""
    unet = {
        "model_channels": 320,
        "context_dim": 768,
        "num_res_blocks": [2, 2, 2, 2],
        "channel_mult": (1, 2, 4, 4),
        "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
        "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
        "num_heads": 8,
    }
    if xl:
        unet |= {
            "context_dim": 2048,
            "num_res_blocks": [2, 2, 2],
            "channel_mult": (1, 2, 4),
            "transformer_depth": [0, 0, 2, 2, 10, 10],
            "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10],
            "transformer_depth_middle": 10,
            "use_linear_in_transformer": True,
            "num_heads": -1,
            "num_head_channels": 64,
            "num_classes": "sequential",
            "adm_in_channels": 2816,
        }
    autoencoder = {"ch": 128, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2}
    return _parts(unet, 0, autoencoder, xl=xl, weights="float16")


class TinyCheckpoint:
    """Stands in for Load Checkpoint."""

    CATEGORY = "tests"
    RETURN_TYPES = ("MODEL", "CLIP", "VAE")
    FUNCTION = "load"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {"required": {}}

    def load(self) -> tuple[Any, Any, Any]:
        return narrow_parts()


NODE_CLASS_MAPPINGS = {"TinyCheckpoint": TinyCheckpoint}


def _parts(
    unet: dict[str, Any], layers: int, autoencoder: dict[str, Any], *, xl: bool = False, weights: str = "float32"
) -> tuple[Any, Any, Any]:
    """layers: of narrow text encoders; 0 for those of the released sizes."""
    from comfy.ldm.models.autoencoder import AutoencoderKL

    cpu = torch.device("cpu")
    kind, family = comfy.model_base.BaseModel, comfy.supported_models.SD15
    if xl:
        kind, family = comfy.model_base.SDXL, comfy.supported_models.SDXL
    config = family({**_UNET, **unet})
    if weights != "float32":
        kept = torch.float16 if weights == "float16" else torch.float8_e4m3fn
        config.set_inference_dtype(kept, torch.float32)
    if weights == "scaled fp8":
        config.scaled_fp8 = torch.float8_e4m3fn
    base = kind(config, device=cpu)
    _fill(base.diffusion_model, 1)

    class Target:
        params: ClassVar[dict] = {}
        clip = comfy.sdxl_clip.SDXLClipModel if xl else comfy.sd1_clip.SD1ClipModel
        tokenizer = comfy.sdxl_clip.SDXLTokenizer if xl else comfy.sd1_clip.SD1Tokenizer

    text = {**_TEXT, "num_hidden_layers": layers}
    second = {**text, "hidden_size": 96, "num_attention_heads": 6}
    configs = {"clip_l_model_config": text, "clip_g_model_config": second} if layers else {}
    kept_in = torch.float32 if layers else torch.float16
    clip = comfy.sd.CLIP(Target, model_options={**configs, "dtype": kept_in})
    _fill(clip.cond_stage_model, 2)
    shapes = {**_VAE, **autoencoder}
    network = AutoencoderKL(ddconfig=shapes, embed_dim=4)
    _fill(network, 3)
    vae = comfy.sd.VAE(sd=network.state_dict(), config={"params": {"ddconfig": shapes, "embed_dim": 4}})
    return comfy.model_patcher.ModelPatcher(base, cpu, cpu), clip, vae


def _fill(module: torch.nn.Module, seed: int) -> None:
    """Random weights of a size that lets signals through: ComfyUI's own layers come with any, even NaN."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if name.endswith("scale_weight"):
                weight.fill_(1.5)
                continue
            noise = torch.randn(weight.shape, generator=generator)
            if weight.ndim > 1:
                weight.copy_(noise * 0.8 / weight[0].numel() ** 0.5)
            else:
                weight.copy_(noise * 0.1 + float("norm" in name and name.endswith("weight")))
