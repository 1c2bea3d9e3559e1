"""Prompt-to-Prompt with Direct Inversion, written plainly: one branch a UNet pass, diffusers' own steps.

Nothing of the package's attention control, schedule or edit is used; the word alignment is given by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from pinpoint.locinv_core.model import EditModel

Edited = Callable[[str, Tensor], Tensor]


class SlowProcessor:
    """Attention by diffusers' explicit helpers; `edited(name, probabilities)` gets (B, heads, N, L)."""

    def __init__(self, name: str, edited: Edited) -> None:
        self.name, self.edited = name, edited

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        query, key, value = (
            attn.head_to_batch_dim(x)
            for x in (attn.to_q(hidden_states), attn.to_k(context), attn.to_v(context))
        )
        weights = attn.get_attention_scores(query, key, None)
        weights = self.edited(self.name, weights.unflatten(0, (len(hidden_states), attn.heads))).flatten(0, 1)
        return attn.to_out[0](attn.batch_to_head_dim(weights @ value))


@torch.no_grad()
def unet_with(model: EditModel, latents: Tensor, timestep: int, context: Tensor, edited: Edited) -> Tensor:
    """One UNet pass in which `edited` may change every attention's probabilities."""
    before = model.unet.attn_processors
    model.unet.set_attn_processor(
        {name: SlowProcessor(name.removesuffix(".processor"), edited) for name in before}
    )
    try:
        return model.unet(latents, timestep, encoder_hidden_states=context).sample
    finally:
        model.unet.set_attn_processor(before)


@dataclass(frozen=True)
class SlowPlan:
    """What the target takes: `mapper` (L, L), `weights` (T, L), `factors` (L,), `self_steps`, self layers."""

    mapper: Tensor
    weights: Tensor
    factors: Tensor
    self_steps: int
    self_names: frozenset[str]


@torch.no_grad()
def slow_edit(
    model: EditModel,
    pivots: list[Tensor],
    contexts: tuple[Tensor, Tensor, Tensor],
    plan: SlowPlan,
    guidance: float,
) -> Tensor:
    """The target's last latents. pivots: z_T … z_0, (1, C, h, w) each. contexts: source, target, empty."""
    source, target, empty = contexts
    scheduler = DDIMScheduler.from_config(dict(model.schedule.config))
    scheduler.set_timesteps(len(pivots) - 1)
    z = pivots[0]
    for i, timestep in enumerate(scheduler.timesteps):
        seen: dict[str, Tensor] = {}

        def keep(name: str, p: Tensor, seen: dict[str, Tensor] = seen) -> Tensor:
            seen[name] = p.clone()
            return p

        def inject(name: str, p: Tensor, i: int = i, seen: dict[str, Tensor] = seen) -> Tensor:
            if name.endswith("attn1"):
                return seen[name] if i < plan.self_steps and name in plan.self_names else p
            w = plan.weights[i]
            mapped = torch.einsum("bhns,st->bhnt", seen[name], plan.mapper)
            return (w * mapped + (1 - w) * p) * plan.factors

        unet_with(model, pivots[i], timestep, source, keep)
        conditional = unet_with(model, z, timestep, target, inject)
        unconditional = unet_with(model, z, timestep, empty, lambda _, p: p)
        noise = unconditional + guidance * (conditional - unconditional)
        z = scheduler.step(noise, timestep, z).prev_sample
    return z
