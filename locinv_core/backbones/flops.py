"""How much of a UNet pass is run when it stops early: counted multiply-adds, on a copy without weights."""

from __future__ import annotations

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from .attention import AttentionControl, AttentionSite, StoppedEarly, attention_sites, controlled_attention


class _Explicit(AttentionControl):
    """Asks for explicit probabilities at one layer, so that a stop there counts Q·Kᵀ and not the values."""

    def __init__(self, site: AttentionSite | None) -> None:
        self._site = site

    def wants(self, site: AttentionSite) -> bool:
        return site == self._site


def count_flops(
    unet: UNet2DConditionModel,
    latent_height: int,
    latent_width: int,
    context_length: int,
    stop_after: AttentionSite | None = None,
) -> int:
    """Floating point operations (two a multiply-add) of one pass of one sample.

    The pass is traced on the meta device from the UNet's config, so it costs no memory and no arithmetic.
    Convolutions and matrix products are counted, as is usual; norms and activations are not.
    """
    with torch.device("meta"):
        hollow = UNet2DConditionModel.from_config(unet.config)
        latents = torch.empty(1, unet.config.in_channels, latent_height, latent_width)
        context = torch.empty(1, context_length, unet.config.cross_attention_dim)
        timestep = torch.zeros(1, dtype=torch.long)
    sites = attention_sites(hollow)
    counter = FlopCounterMode(display=False)
    with (
        torch.no_grad(),
        counter,
        controlled_attention(hollow, sites, _Explicit(stop_after), stop_after=stop_after),
    ):
        try:
            hollow(latents, timestep, encoder_hidden_states=context)
        except StoppedEarly:
            pass
    return int(counter.get_total_flops())
