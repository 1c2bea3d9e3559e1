"""diffusers and transformers modules of Stable Diffusion 1.x and 2.x from the weights that ComfyUI holds.

ComfyUI names its UNet's and VAE's weights as the original checkpoints do, and its text encoder's as
transformers does. Weights are copied: what ComfyUI holds stays its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from torch import Tensor, nn
    from transformers import CLIPTextModel

_VAE_LAYERS = (
    (r"^(encoder|decoder)\.mid_block\.resnets\.0\.", r"\1.mid.block_1."),
    (r"^(encoder|decoder)\.mid_block\.resnets\.1\.", r"\1.mid.block_2."),
    (r"^(encoder|decoder)\.mid_block\.attentions\.0\.", r"\1.mid.attn_1."),
    (r"^encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.", r"encoder.down.\1.block.\2."),
    (r"^encoder\.down_blocks\.(\d+)\.downsamplers\.0\.", r"encoder.down.\1.downsample."),
    (r"^decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\.", r"decoder.up.\1.block.\2."),
    (r"^decoder\.up_blocks\.(\d+)\.upsamplers\.0\.", r"decoder.up.\1.upsample."),
    (r"\.conv_norm_out\.", ".norm_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.group_norm\.", ".norm."),
    (r"\.to_(q|k|v)\.", r".\1."),
    (r"\.to_out\.0\.", ".proj_out."),
)


def unet_of(
    state: Mapping[str, Tensor],
    config: Mapping[str, Any],
    names: Mapping[str, str],
    sample_size: int,
    dtype: torch.dtype,
) -> UNet2DConditionModel:
    """The UNet of ComfyUI's `unet_config`; `names`: its names by diffusers' ones; sizes in latent cells."""
    from diffusers import UNet2DConditionModel

    channels = [int(config["model_channels"] * factor) for factor in config["channel_mult"]]
    per_level = list(config["num_res_blocks"])
    starts = [sum(per_level[:level]) for level in range(len(channels))]
    crossed = [bool(config["transformer_depth"][start]) for start in starts]
    width = config.get("num_head_channels", -1)
    heads = config["num_heads"] if width == -1 else [channel // width for channel in channels]
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=sample_size,
            in_channels=config["in_channels"],
            out_channels=config["out_channels"],
            block_out_channels=channels,
            layers_per_block=per_level,
            down_block_types=["CrossAttnDownBlock2D" if cross else "DownBlock2D" for cross in crossed],
            up_block_types=["CrossAttnUpBlock2D" if cross else "UpBlock2D" for cross in crossed[::-1]],
            cross_attention_dim=config["context_dim"],
            attention_head_dim=heads,
            use_linear_projection=bool(config.get("use_linear_in_transformer", False)),
        )
    return _filled(unet, {name: state.get(names.get(name, "")) for name in unet.state_dict()}, dtype)


def vae_of(state: Mapping[str, Tensor], scaling_factor: float, dtype: torch.dtype) -> AutoencoderKL:
    """The VAE whose sizes the weights themselves tell."""
    from diffusers import AutoencoderKL

    if "encoder.down.0.block.0.conv1.weight" not in state or "quant_conv.weight" not in state:
        raise ValueError("vae: it is not Stable Diffusion 1.x's or 2.x's; requires the VAE of such a checkpoint")
    levels = 1 + max(int(match[1]) for name in state if (match := re.match(r"encoder\.down\.(\d+)\.", name)))
    blocks = 1 + max(int(match[1]) for name in state if (match := re.match(r"encoder\.down\.0\.block\.(\d+)\.", name)))
    with torch.device("meta"):
        vae = AutoencoderKL(
            block_out_channels=[len(state[f"encoder.down.{level}.block.0.conv1.weight"]) for level in range(levels)],
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            layers_per_block=blocks,
            latent_channels=state["decoder.conv_in.weight"].shape[1],
            scaling_factor=scaling_factor,
        )
    found = {}
    for name, wanted in vae.state_dict().items():
        weight = state.get(vae_name(name, levels))
        # Attention was a 1x1 convolution once.
        found[name] = weight if weight is None else weight.reshape(wanted.shape)
    return _filled(vae, found, dtype)


def vae_name(name: str, levels: int) -> str:
    """The original name of one of the VAE's weights by diffusers' name for it."""
    for pattern, replacement in _VAE_LAYERS:
        name = re.sub(pattern, replacement, name)
    # Levels of the decoder are counted from the image, not in the order of execution.
    return re.sub(r"^decoder\.up\.(\d+)\.", lambda match: f"decoder.up.{levels - 1 - int(match[1])}.", name)


def text_encoder_of(
    state: Mapping[str, Tensor], heads: int, activation: str, layers: int, pad_token: int, dtype: torch.dtype
) -> CLIPTextModel:
    """The text encoder with its first `layers` layers, which is what clip skip leaves, and the last norm."""
    from transformers import CLIPTextConfig, CLIPTextModel

    bare = {name.removeprefix("text_model."): weight for name, weight in state.items()}
    table = bare["embeddings.token_embedding.weight"]
    encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(table),
            hidden_size=table.shape[1],
            intermediate_size=len(bare["encoder.layers.0.mlp.fc1.weight"]),
            num_hidden_layers=layers,
            num_attention_heads=heads,
            max_position_embeddings=len(bare["embeddings.position_embedding.weight"]),
            hidden_act=activation,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=pad_token,
            projection_dim=table.shape[1],
        )
    )
    return _filled(encoder, {name: bare.get(name.removeprefix("text_model.")) for name in encoder.state_dict()}, dtype)


def _filled(module: Any, weights: Mapping[str, Tensor | None], dtype: torch.dtype) -> Any:
    """The module with copies of these weights. Raises ValueError for one that is missing or does not fit."""
    copies: dict[str, Tensor] = {}
    shapes: dict[str, Any] = {name: tensor.shape for name, tensor in module.state_dict().items()}
    for name, weight in weights.items():
        if weight is None or weight.shape != shapes[name]:
            got = "nothing" if weight is None else tuple(weight.shape)
            raise ValueError(
                f"model: it is not built as Stable Diffusion 1.x or 2.x: {name} requires {tuple(shapes[name])},"
                f" got {got}"
            )
        copies[name] = weight.detach().to("cpu", dtype, copy=True).contiguous()
    holder: nn.Module = module
    holder.load_state_dict(copies, assign=True)
    return holder.eval()
