"""A LoRA with random weights, for the tiny checkpoint."""

from __future__ import annotations

import torch


def lora() -> dict[str, torch.Tensor]:
    """A LoRA of the UNet and of the text encoder, in the names that trainers write."""
    generator = torch.Generator().manual_seed(4)
    layers = {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (32, 64),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": (128, 128),
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_v": (32, 64),
        "lora_te_text_model_encoder_layers_1_self_attn_v_proj": (64, 64),
        "lora_te_text_model_encoder_layers_3_mlp_fc1": (128, 64),
    }
    weights = {}
    for name, (out, into) in layers.items():
        weights[f"{name}.lora_up.weight"] = torch.randn(out, 4, generator=generator) * 0.3
        weights[f"{name}.lora_down.weight"] = torch.randn(4, into, generator=generator) * 0.3
        weights[f"{name}.alpha"] = torch.tensor(4.0)
    return weights
