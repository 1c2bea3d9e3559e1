"""Classifier-free guidance, and its proximal kind, which lets the strong part of the guidance through."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .ddim import Schedule
from .editing.settings import EditSettings


def guided_noise(conditional: Tensor, unconditional: Tensor | None, scale: float) -> Tensor:
    """ε = ε_uncond + scale·(ε_cond − ε_uncond) (LocInv Eq. 3); ε_cond itself where there is no ε_uncond."""
    if unconditional is None:
        return conditional
    return unconditional + scale * (conditional - unconditional)


def proximal_step(
    schedule: Schedule,
    latents: Tensor,
    conditional: Tensor,
    unconditional: Tensor,
    clean_source: Tensor,
    start: int,
    end: int,
    settings: EditSettings,
) -> Tensor:
    """One DDIM step of proximal negative-prompt inversion (Han et al. 2023) of latents (n, C, h, w).

    The guidance difference is thresholded hard (the proximal map of an l0 penalty) at the quantile of its
    magnitude, row by row. At low timesteps the predicted clean latents are pulled to `clean_source`
    (1, C, h, w), the source's z_0, wherever the difference was dropped.
    """
    difference, kept = hard_threshold(conditional - unconditional, settings.proximal_quantile)
    noise = unconditional + settings.guidance * difference
    return reconstruction_step(schedule, latents, noise, kept, clean_source, start, end, settings)


def hard_threshold(difference: Tensor, quantile: float) -> tuple[Tensor, Tensor]:
    """(n, C, h, w) with what is not above the row's quantile of |difference| set to 0, and what was kept."""
    magnitude = difference.abs()
    threshold = torch.quantile(magnitude.flatten(1), quantile, dim=1).view(-1, 1, 1, 1)
    kept = magnitude > threshold
    return torch.where(kept, difference, 0.0), kept


def reconstruction_step(
    schedule: Schedule,
    latents: Tensor,
    noise: Tensor,
    kept: Tensor,
    clean_source: Tensor,
    start: int,
    end: int,
    settings: EditSettings,
) -> Tensor:
    """A DDIM step whose clean latents are pulled to `clean_source` outside of `kept` (n, C, h, w, bool)."""
    if start >= settings.proximal_until * schedule.train_steps:
        return schedule.ddim_step(latents, noise, start=start, end=end)
    grow = settings.proximal_grow
    inside = F.max_pool2d(kept.float(), 2 * grow + 1, stride=1, padding=grow)
    clean = schedule.predict_clean(latents, noise, start)
    clean = clean - settings.proximal_pull * (1 - inside) * (clean - clean_source)
    return schedule.to_latents(clean, noise, end)
