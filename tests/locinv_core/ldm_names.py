"""The names that Stable Diffusion's own code gives the weights, written from that code's structure.

The UNet is `input_blocks`, `middle_block` and `output_blocks`, each a list of small lists; the VAE
counts its levels from the pixels inwards; SD 2.x has OpenCLIP's text encoder, with one layer more than is
used and with query, key and value in one matrix.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

Weights = dict[str, Tensor]

_RES_BLOCK = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_VAE_BLOCK = {"conv_shortcut": "nin_shortcut"}
_VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
_OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}


def checkpoint(unet: Any, vae: Any, text_encoder: Any, family: str) -> Weights:
    """The weights of the three networks, and some of the training state that released files carry."""
    text = openai_clip(text_encoder) if family == "sd1" else open_clip(text_encoder)
    return {
        **{f"model.diffusion_model.{name}": weight for name, weight in ldm_unet(unet).items()},
        **{f"first_stage_model.{name}": weight for name, weight in ldm_vae(vae).items()},
        **{f"cond_stage_model.{name}": weight for name, weight in text.items()},
        "alphas_cumprod": torch.linspace(1, 0, 1000),
        "model_ema.decay": torch.tensor(0.9999),
        "model_ema.num_updates": torch.tensor(7, dtype=torch.int32),
    }


def ldm_unet(unet: Any) -> Weights:
    """The UNet's weights, without the prefix `model.diffusion_model.`."""
    out: Weights = {}
    for ours, theirs in (("linear_1", "0"), ("linear_2", "2")):
        _take(out, getattr(unet.time_embedding, ours), f"time_embed.{theirs}")
    _take(out, unet.conv_in, "input_blocks.0.0")
    block = 1
    for down in unet.down_blocks:
        attentions = getattr(down, "attentions", None)
        for layer, resnet in enumerate(down.resnets):
            _take(out, resnet, f"input_blocks.{block}.0", _RES_BLOCK)
            if attentions is not None:
                _take(out, attentions[layer], f"input_blocks.{block}.1")
            block += 1
        if down.downsamplers is not None:
            _take(out, down.downsamplers[0].conv, f"input_blocks.{block}.0.op")
            block += 1
    _take(out, unet.mid_block.resnets[0], "middle_block.0", _RES_BLOCK)
    _take(out, unet.mid_block.attentions[0], "middle_block.1")
    _take(out, unet.mid_block.resnets[1], "middle_block.2", _RES_BLOCK)
    block = 0
    for up in unet.up_blocks:
        attentions = getattr(up, "attentions", None)
        for layer, resnet in enumerate(up.resnets):
            _take(out, resnet, f"output_blocks.{block}.0", _RES_BLOCK)
            place = 1
            if attentions is not None:
                _take(out, attentions[layer], f"output_blocks.{block}.1")
                place = 2
            if up.upsamplers is not None and layer == len(up.resnets) - 1:
                _take(out, up.upsamplers[0].conv, f"output_blocks.{block}.{place}.conv")
            block += 1
    _take(out, unet.conv_norm_out, "out.0")
    _take(out, unet.conv_out, "out.2")
    return out


def ldm_vae(vae: Any) -> Weights:
    """The VAE's weights, without the prefix `first_stage_model.`."""
    out: Weights = {}
    for side in ("encoder", "decoder"):
        network = getattr(vae, side)
        _take(out, network.conv_in, f"{side}.conv_in")
        for number, resnet in enumerate(network.mid_block.resnets):
            _take(out, resnet, f"{side}.mid.block_{number + 1}", _VAE_BLOCK)
        attention: Weights = {}
        _take(attention, network.mid_block.attentions[0], f"{side}.mid.attn_1", _VAE_ATTENTION)
        # A matrix here, a 1×1 convolution there.
        out.update({n: w[:, :, None, None] if w.ndim == 2 else w for n, w in attention.items()})
        _take(out, network.conv_norm_out, f"{side}.norm_out")
        _take(out, network.conv_out, f"{side}.conv_out")
    for level, down in enumerate(vae.encoder.down_blocks):
        for layer, resnet in enumerate(down.resnets):
            _take(out, resnet, f"encoder.down.{level}.block.{layer}", _VAE_BLOCK)
        if down.downsamplers is not None:
            _take(out, down.downsamplers[0].conv, f"encoder.down.{level}.downsample.conv")
    for level, up in enumerate(reversed(vae.decoder.up_blocks)):
        for layer, resnet in enumerate(up.resnets):
            _take(out, resnet, f"decoder.up.{level}.block.{layer}", _VAE_BLOCK)
        if up.upsamplers is not None:
            _take(out, up.upsamplers[0].conv, f"decoder.up.{level}.upsample.conv")
    _take(out, vae.quant_conv, "quant_conv")
    _take(out, vae.post_quant_conv, "post_quant_conv")
    return out


def openai_clip(text_encoder: Any) -> Weights:
    """SD 1.x: the text encoder under `transformer.text_model.`, with its table of positions."""
    out = {f"transformer.text_model.{name}": weight for name, weight in _text_weights(text_encoder).items()}
    out["transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return out


def open_clip(text_encoder: Any) -> Weights:
    """SD 2.x: OpenCLIP's names under `model.`, and the last layer, which is not used."""
    ours = _text_weights(text_encoder)
    width = ours["final_layer_norm.weight"].shape[0]
    dtype = ours["final_layer_norm.weight"].dtype
    out = {
        "model.token_embedding.weight": ours["embeddings.token_embedding.weight"],
        "model.positional_embedding": ours["embeddings.position_embedding.weight"],
        "model.ln_final.weight": ours["final_layer_norm.weight"],
        "model.ln_final.bias": ours["final_layer_norm.bias"],
        "model.text_projection": torch.eye(width, dtype=dtype),
        "model.logit_scale": torch.tensor(4.6, dtype=dtype),
    }
    layers = 1 + max(int(name.split(".")[2]) for name in ours if name.startswith("encoder.layers."))
    for layer in range(layers + 1):
        old, new = f"encoder.layers.{min(layer, layers - 1)}.", f"model.transformer.resblocks.{layer}."
        for kind in ("weight", "bias"):
            stacked = torch.cat([ours[f"{old}self_attn.{part}_proj.{kind}"] for part in "qkv"])
            out[f"{new}attn.in_proj_{kind}"] = stacked
            out[f"{new}attn.out_proj.{kind}"] = ours[f"{old}self_attn.out_proj.{kind}"]
            for our_name, their_name in _OPEN_CLIP.items():
                out[f"{new}{their_name}.{kind}"] = ours[f"{old}{our_name}.{kind}"]
    return out


def _text_weights(text_encoder: Any) -> Weights:
    return {name.removeprefix("text_model."): w for name, w in text_encoder.state_dict().items()}


def _take(out: Weights, module: nn.Module, prefix: str, names: dict[str, str] | None = None) -> None:
    for name, weight in module.state_dict().items():
        stem, _, kind = name.rpartition(".")
        stem = (names or {}).get(stem, stem)
        out[".".join(part for part in (prefix, stem, kind) if part)] = weight
