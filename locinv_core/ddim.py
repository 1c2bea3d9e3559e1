"""The deterministic DDIM schedule: timesteps, and the steps down (sampling) and up (inversion).

The values come from the model's own scheduler config, read through diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction"]
LEAST_ALPHA = 1e-6
"""A timestep with less of the image in it is not sampled at: ε and the latents are one there to float32's precision."""
CLEAN = -1
"""The 'timestep' of z_0, whose ᾱ is the schedule's final one."""


@dataclass(frozen=True)
class Schedule:
    """A noise schedule: `alphas_cumprod` (train_steps,) is ᾱ_t, `final_alpha` is ᾱ of z_0."""

    alphas_cumprod: Tensor
    final_alpha: float
    prediction_type: PredictionType
    config: Mapping[str, Any]

    @property
    def train_steps(self) -> int:
        """Number of timesteps of training (1000 for Stable Diffusion)."""
        return len(self.alphas_cumprod)

    def timesteps(self, steps: int) -> tuple[int, ...]:
        """The `steps` timesteps from the noisiest down; 50 of Stable Diffusion's: 981, 961, …, 1.

        A schedule with zero terminal SNR ends in pure noise (ᾱ = 0), of which an ε makes no clean latents. Timesteps
        there move down to the noisiest with an ᾱ above `LEAST_ALPHA` (999 to 996 or so of 1000), so that sampling
        starts below σ_max, and inversion ends there: a thousandth of the image is left in z_T.
        """
        if not isinstance(steps, int) or not 1 <= steps <= self.train_steps:
            raise ValueError(f"steps: got {steps!r}, requires a whole number from 1 to {self.train_steps}")
        from diffusers import DDIMScheduler

        scheduler = DDIMScheduler.from_config(dict(self.config))
        scheduler.set_timesteps(steps)
        timesteps = tuple(int(t) for t in scheduler.timesteps)
        if timesteps[0] >= self.train_steps:
            raise ValueError(
                f"steps: got {steps}, which puts a timestep at {timesteps[0]}, beyond the schedule's"
                f" {self.train_steps - 1}; requires fewer steps"
            )
        usable = int((self.alphas_cumprod > LEAST_ALPHA).sum()) - 1
        timesteps = tuple(min(t, usable) for t in timesteps)
        if len(set(timesteps)) < steps:
            raise ValueError(
                f"steps: got {steps}, of which several fall where the schedule is pure noise, above {usable};"
                " requires fewer steps"
            )
        return timesteps

    def alpha(self, timestep: int) -> float:
        """ᾱ at a timestep; at `CLEAN` (any negative timestep) the final ᾱ."""
        return self.final_alpha if timestep < 0 else float(self.alphas_cumprod[timestep])

    def noise_from_output(self, output: Tensor, latents: Tensor, timestep: int) -> Tensor:
        """ε from what the UNet put out: itself, or, for v-prediction, ε = √ᾱ·v + √(1−ᾱ)·z."""
        if self.prediction_type == "epsilon":
            return output
        alpha = self.alpha(timestep)
        return alpha**0.5 * output + (1 - alpha) ** 0.5 * latents

    def predict_clean(self, latents: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """f_θ(z_t, t) of LocInv Eq. 2: the clean latents that `noise` implies."""
        alpha = self.alpha(timestep)
        return (latents - (1 - alpha) ** 0.5 * noise) / alpha**0.5

    def ddim_step(self, latents: Tensor, noise: Tensor, start: int, end: int) -> Tensor:
        """DDIM from timestep `start` to `end` along ε: sampling if `end` is lower, inversion if it is higher.

        Both are the same map (LocInv Eq. 2): z_end = √ᾱ_end·f_θ(z_start) + √(1−ᾱ_end)·ε.
        """
        alpha = self.alpha(end)
        clean = self.predict_clean(latents, noise, start)
        return alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise

    def to_latents(self, clean: Tensor, noise: Tensor, timestep: int) -> Tensor:
        """√ᾱ·clean + √(1−ᾱ)·noise: the latents at `timestep` made of these two."""
        alpha = self.alpha(timestep)
        return alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise


def schedule_from_config(config: Mapping[str, Any]) -> Schedule:
    """The schedule that a diffusers scheduler config describes.

    Raises ValueError for a prediction type that is neither epsilon nor v_prediction.
    """
    from diffusers import DDIMScheduler

    kept = {key: value for key, value in config.items() if not key.startswith("_")}
    kept.update(clip_sample=False, thresholding=False)
    scheduler = DDIMScheduler.from_config(kept)
    prediction_type = str(scheduler.config.prediction_type)
    if prediction_type not in ("epsilon", "v_prediction"):
        raise ValueError(
            f"scheduler config: prediction_type is {prediction_type!r}, requires 'epsilon' or 'v_prediction'"
        )
    alphas: Tensor = scheduler.alphas_cumprod.to(torch.float32)
    return Schedule(alphas, float(scheduler.final_alpha_cumprod), prediction_type, kept)  # type: ignore[arg-type]


def step_pairs(timesteps: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
    """(from, to) of every sampling step, noisiest first; the last one goes to `CLEAN`."""
    return tuple(zip(timesteps, (*timesteps[1:], CLEAN), strict=True))
