"""Making guided sampling reconstruct the image: null-text optimization, and the methods that need none.

Null-text inversion (Mokady et al. 2023) optimizes the unconditional context of every step (LocInv Eq. 4).
Negative-prompt inversion (Miyake et al. 2023) and its proximal form (Han et al. 2023) put the source prompt
in its place; Direct Inversion (Ju et al. 2023) adds back what the source branch misses, which puts that
branch on the pivots.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from ..backbones.base import Backbone
from ..cost import CostTracker
from ..ddim import step_pairs
from ..guidance import check_guidance, guided_noise
from ..options import NULL_METHODS, NullMethod
from ..text.prompt import empty_prompt
from .ddim_inversion import Inversion


@dataclass(frozen=True)
class NullTextSettings:
    """Null-text optimization as published: Adam at rate lr·(1 − i/100), stopped under base + i·slope."""

    inner_steps: int = 10
    learning_rate: float = 1e-2
    tolerance: float = 1e-5
    tolerance_slope: float = 2e-5

    def rate(self, step: int) -> float:
        """The learning rate at step i = 0 … T−1."""
        return self.learning_rate * max(1.0 - step / 100.0, 0.0)

    def enough(self, step: int) -> float:
        """The loss under which step i is done."""
        return self.tolerance + step * self.tolerance_slope


class NullTextOptimizer:
    """Null-text optimization of one timestep at a time, at one guidance scale w."""

    def __init__(
        self, model: Backbone, guidance: float, settings: NullTextSettings, tracker: CostTracker | None = None
    ) -> None:
        self._model, self._guidance, self._settings = model, guidance, settings
        self._tracker = tracker or CostTracker()

    def initial_context(self) -> Tensor:
        """∅_T = τ_θ(""), (1, L, D)."""
        return self._model.encode_prompt(empty_prompt(self._model.tokenizer)).float()

    def optimize(
        self, step: tuple[int, int, int], latents: Tensor, context: Tensor, null_context: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        """min over ∅_t of ‖z_{t−1} − z̄_{t−1}(∅_t)‖² (LocInv Eq. 4). Returns (∅_t, z̄_{t−1}).

        step: i = 0 … T−1, and the timesteps that it goes from and to. `latents` z̄_t and `target` z_{t−1} are
        (1, C, h, w); `context` C_t and `null_context` ∅_{t+1} are (1, L, D). The conditional pass is made
        once; the inner loop runs the unconditional branch alone.
        """
        i, start, end = step
        model, settings, tracker = self._model, self._settings, self._tracker
        with torch.no_grad():
            conditional = model.predict_noise(latents, start, context, tracker=tracker)

        def sample(null: Tensor) -> Tensor:
            unconditional = model.predict_noise(latents, start, null, tracker=tracker, unconditional=slice(None))
            noise = guided_noise(conditional, unconditional, self._guidance)
            return model.schedule.ddim_step(latents, noise, start, end)

        null = null_context.detach().float().clone().requires_grad_(True)
        optimizer = torch.optim.Adam([null], lr=settings.rate(i))
        # The gradient of a mean over all latents is too small for a UNet in half precision: it goes through it
        # multiplied by a power of two, which changes nothing else.
        scale = 2.0 ** target.numel().bit_length()
        # Past step 100 the published rate is 0: what would be spent there would change nothing.
        for _ in range(settings.inner_steps if settings.rate(i) > 0 else 0):
            reached = sample(null)
            loss = F.mse_loss(reached, target)
            if loss.item() < settings.enough(i):
                return null.detach(), reached.detach()
            (gradient,) = torch.autograd.grad(scale * loss, null)
            null.grad = gradient / scale
            optimizer.step()
        with torch.no_grad():
            return null.detach(), sample(null)


def optimize_null_text(
    model: Backbone,
    inversion: Inversion,
    guidance: float,
    settings: NullTextSettings | None = None,
    *,
    tracker: CostTracker | None = None,
) -> Inversion:
    """Fit ∅_t to the pivots at every step; the inversion's tuned tokens, if any, are used.

    Returns the inversion with `null_text` (T, L, D) and the replayed `trajectory` (T+1, C, h, w).
    """
    check_guidance(guidance)
    inversion.check_model(model)
    inversion = inversion.on(model.device)
    tracker = tracker or CostTracker()
    optimizer = NullTextOptimizer(model, guidance, settings or NullTextSettings(), tracker)
    with tracker.stage("null-text"), torch.inference_mode(False), torch.enable_grad():
        null, z = optimizer.initial_context(), inversion.pivot(0).clone()
        nulls, trajectory = [], [z]
        for i, pair in enumerate(step_pairs(inversion.timesteps)):
            context, target = inversion.context(model, i), inversion.pivot(i + 1).clone()
            null, z = optimizer.optimize((i, *pair), z, context, null, target)
            nulls.append(null)
            trajectory.append(z)
            tracker.report(i + 1, inversion.steps, z)
    return with_null_text(inversion, nulls, trajectory, guidance)


def with_null_text(inversion: Inversion, nulls: list[Tensor], trajectory: list[Tensor], guidance: float) -> Inversion:
    """The inversion with ∅_t (each (1, L, D), noisiest first) and z̄_T … z̄_0 (each (1, C, h, w)) added."""
    return replace(
        inversion,
        null_method="null-text",
        null_text=torch.cat(nulls),
        trajectory=torch.cat(trajectory[::-1]),
        guidance=guidance,
    )


def reconstruct_by(
    method: NullMethod,
    model: Backbone,
    inversion: Inversion,
    guidance: float,
    settings: NullTextSettings | None = None,
    *,
    tracker: CostTracker | None = None,
) -> Inversion:
    """The inversion made ready for guided sampling by any of the methods, `null-text` by optimization."""
    if method not in NULL_METHODS:
        raise ValueError(f"null: got {method!r}, requires one of {', '.join(NULL_METHODS)}")
    check_guidance(guidance)
    if method == "null-text":
        return optimize_null_text(model, inversion, guidance, settings, tracker=tracker)
    return replace(inversion, null_method=method, null_text=None, trajectory=None, guidance=None)
