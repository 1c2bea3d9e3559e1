"""Guided DDIM sampling by diffusers' scheduler and the bare UNet: what a method without effect comes to."""

from __future__ import annotations

import torch
from diffusers import DDIMScheduler
from torch import Tensor

from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.text.prompt import Prompt, empty_prompt


@torch.no_grad()
def sampled(
    model: EditModel,
    latents: Tensor,
    target: Prompt,
    guidance: float,
    steps: int,
    first: int = 0,
    negative: Prompt | None = None,
):
    """From latents (1, C, h, w) at the start of step `first` to clean ones.

    negative: the prompt that guidance leads away from, the empty one where None.
    """
    scheduler = DDIMScheduler.from_config(dict(model.schedule.config))
    scheduler.set_timesteps(steps)
    context, empty = (
        model.text_encoder(torch.tensor([prompt.token_ids]))[0]
        for prompt in (target, negative or empty_prompt(model.tokenizer))
    )
    for t in scheduler.timesteps[first:]:
        conditional = model.unet(latents, t, encoder_hidden_states=context).sample
        unconditional = model.unet(latents, t, encoder_hidden_states=empty).sample
        output = unconditional + guidance * (conditional - unconditional)
        latents = scheduler.step(output, t, latents).prev_sample
    return latents
