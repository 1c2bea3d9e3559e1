"""The noise schedule of ComfyUI's MODEL: its own table of σ, walked on by one of its own schedulers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import comfy.model_sampling
import comfy.samplers
import torch

from ...locinv_core.ddim import Schedule

DEFAULT = "auto"
"""Evenly spaced timesteps that end in the least noise of training, as the command line has them."""
_EVENLY = {"steps_offset": 1, "set_alpha_to_one": False, "timestep_spacing": "leading"}


@dataclass(frozen=True)
class ComfySchedule(Schedule):
    """ᾱ = 1/(1 + σ²) of a MODEL. A timestep is a place in its table of σ, between two entries a fraction."""

    sampling: Any = None
    scheduler: str = DEFAULT

    @classmethod
    def of(cls, sampling: Any, scheduler: str) -> ComfySchedule:
        """The schedule of `model_sampling`. Raises ValueError for a flow and for an unknown scheduler."""
        flows = [getattr(comfy.model_sampling, name, None) for name in ("CONST", "COSMOS_RFLOW", "IMG_TO_IMG")]
        if isinstance(sampling, tuple(kind for kind in flows if kind is not None)) or not hasattr(sampling, "sigmas"):
            raise ValueError(
                "model: it is sampled as a flow (Flux, SD3 and their like), requires Stable Diffusion 1.x, 2.x or"
                " SDXL; to edit inside a mask, ComfyUI Sampler as Region Editor takes any MODEL"
            )
        if scheduler != DEFAULT and scheduler not in comfy.samplers.SCHEDULER_NAMES:
            known = ", ".join([DEFAULT, *comfy.samplers.SCHEDULER_NAMES])
            raise ValueError(f"scheduler: got {scheduler!r}, requires one of {known}")
        sigmas = sampling.sigmas.detach().to("cpu", torch.float64)
        exact = 1 / (1 + sigmas**2)
        alphas = exact.float()
        betas = 1 - exact / torch.cat([torch.ones(1, dtype=torch.float64), exact[:-1]])
        config = {**_EVENLY, "num_train_timesteps": len(alphas), "trained_betas": betas.tolist()}
        # ComfyUI's schedulers end at σ = 0.
        final = float(alphas[0]) if scheduler == DEFAULT else 1.0
        return cls(alphas, final, "epsilon", config, sampling, scheduler)

    def timesteps(self, steps: int) -> tuple[int, ...]:
        """Those of the scheduler, noisiest first; some schedulers give another number of them than `steps`."""
        evenly = super().timesteps(steps)
        if self.scheduler == DEFAULT:
            return evenly
        sigmas = comfy.samplers.calculate_sigmas(self.sampling, self.scheduler, steps)
        return tuple(self._place(float(sigma)) for sigma in sigmas if float(sigma) > 0)  # type: ignore[misc]

    def alpha(self, timestep: float) -> float:
        """ᾱ at a timestep; at `CLEAN` (any negative timestep) the final ᾱ."""
        return self.final_alpha if timestep < 0 else 1 / (1 + self.sigma(timestep) ** 2)

    def sigma(self, timestep: float) -> float:
        """σ at a timestep, between two entries along its logarithm."""
        table, lower = self._log_sigmas, min(int(timestep), len(self._log_sigmas) - 1)
        upper, share = min(lower + 1, len(table) - 1), timestep - lower
        return math.exp(table[lower] + share * (table[upper] - table[lower]))

    def _place(self, sigma: float) -> float:
        """The timestep of a σ; the first or last entry for one beyond the table."""
        table, log = self._log_sigmas, math.log(sigma)
        upper = next((i for i, entry in enumerate(table) if entry >= log), len(table) - 1)
        if upper == 0 or table[upper] <= log:
            return float(upper)
        return upper - (table[upper] - log) / (table[upper] - table[upper - 1])

    @cached_property
    def _log_sigmas(self) -> list[float]:
        return [float(entry) for entry in self.sampling.sigmas.detach().to("cpu", torch.float64).log()]
