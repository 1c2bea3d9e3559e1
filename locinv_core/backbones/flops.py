"""How much of a UNet pass is run when it stops early: counted multiply-adds, on a copy without weights."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch.utils.flop_counter import FlopCounterMode

from .attention import AttentionControl, AttentionLayer, StoppedEarly, controlled_attention, list_attention_layers

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel


class ExplicitAt(AttentionControl):
    """Explicit probabilities at one layer, so that a stop there counts Q·Kᵀ and not the values."""

    def __init__(self, layer: AttentionLayer | None) -> None:
        self._layer = layer

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return layer == self._layer


def count_flops(
    unet: UNet2DConditionModel,
    latent_height: int,
    latent_width: int,
    context_length: int,
    stop_after: AttentionLayer | None = None,
) -> int:
    """Floating point operations (two a multiply-add) of one pass of one sample.

    The pass is traced on the meta device from the UNet's config, so it costs no memory and no arithmetic.
    Convolutions and matrix products are counted, as is usual; norms and activations are not.
    """
    with torch.device("meta"):
        hollow = type(unet).from_config(unet.config)
        latents = torch.empty(1, unet.config.in_channels, latent_height, latent_width)
        context = torch.empty(1, context_length, unet.config.cross_attention_dim)
        timestep = torch.zeros(1, dtype=torch.long)
        added = None
        if unet.config.addition_embed_type == "text_time":
            sizes = torch.empty(1, 6)
            width = unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim
            added = {"text_embeds": torch.empty(1, width), "time_ids": sizes}
    layers = list_attention_layers(hollow)
    counter = FlopCounterMode(display=False)
    control = controlled_attention(hollow, layers, ExplicitAt(stop_after), stop_after=stop_after)
    with torch.no_grad(), counter, control, suppress(StoppedEarly):
        hollow(latents, timestep, encoder_hidden_states=context, added_cond_kwargs=added)
    return int(counter.get_total_flops())
