"""Proximal guidance (ProxEdit, Han et al. 2023), as the sampling step of an edit.

The guidance difference is thresholded hard (the proximal map of an l0 penalty) at the quantile of its magnitude,
row by row. At low timesteps the predicted clean latents are pulled to the source's wherever it was dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ..ddim import Schedule
from .settings import EditSettings


@dataclass(frozen=True, eq=False)
class ProximalStep:
    """The sampling step of proximal negative-prompt inversion. `clean_source` (1, C, h, w) is the source's z_0."""

    schedule: Schedule
    settings: EditSettings
    clean_source: Tensor
    always_guided: bool = True

    def target(
        self, latents: Tensor, conditional: Tensor, unconditional: Tensor | None, timesteps: tuple[int, int]
    ) -> Tensor:
        """n targets' latents (n, C, h, w) after the step from one timestep to the next."""
        if unconditional is None:
            raise ValueError("proximal guidance: requires the unconditional prediction")
        difference, kept = hard_threshold(conditional - unconditional, self.settings.proximal_quantile)
        noise = unconditional + self.settings.guidance * difference
        return self._pulled(latents, noise, kept, timesteps)

    def source(
        self, latents: Tensor, conditional: Tensor, unconditional: Tensor | None, timesteps: tuple[int, int]
    ) -> Tensor:
        """The source's latents (1, C, h, w) after the step: its guidance difference is 0, and all of it is pulled."""
        return self._pulled(latents, conditional, torch.zeros_like(latents, dtype=torch.bool), timesteps)

    def _pulled(self, latents: Tensor, noise: Tensor, kept: Tensor, timesteps: tuple[int, int]) -> Tensor:
        """A DDIM step whose clean latents are pulled to the source's outside of `kept` (n, C, h, w, bool)."""
        start, end = timesteps
        if start >= self.settings.proximal_until * self.schedule.train_steps:
            return self.schedule.ddim_step(latents, noise, start=start, end=end)
        grow = self.settings.proximal_grow
        inside = F.max_pool2d(kept.float(), 2 * grow + 1, stride=1, padding=grow)
        clean = self.schedule.predict_clean(latents, noise, start)
        clean = clean - self.settings.proximal_pull * (1 - inside) * (clean - self.clean_source)
        return self.schedule.to_latents(clean, noise, end)


def hard_threshold(difference: Tensor, quantile: float) -> tuple[Tensor, Tensor]:
    """(n, C, h, w) with what is not above the row's quantile of |difference| set to 0, and what was kept."""
    magnitude = difference.abs()
    threshold = torch.quantile(rearrange(magnitude, "n c h w -> n (c h w)"), quantile, dim=1)
    kept = magnitude > rearrange(threshold, "n -> n 1 1 1")
    return torch.where(kept, difference, 0.0), kept
