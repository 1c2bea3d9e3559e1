"""A pass through a backbone's network, counted: whole, or stopped early; shared by all model families."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import suppress

import torch
from torch import Tensor

from ..cost import CostTracker
from .attention import AttentionControl, AttentionLayer, StoppedEarly

NO_ROWS = slice(0)


class CountedPasses(ABC):
    """What a `Backbone` makes of one call of its network, `_noise`, and of its size, `_flops`."""

    _shares: dict[tuple[str, int, int], float]
    """Of `share`, by layer and size."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where the network computes."""

    @property
    @abstractmethod
    def latent_factor(self) -> int:
        """Pixels a latent cell is wide."""

    @property
    @abstractmethod
    def map_layers(self) -> tuple[AttentionLayer, ...]:
        """The cross-attention layers that word maps are averaged over."""

    @abstractmethod
    def _noise(
        self,
        latents: Tensor,
        timestep: float,
        context: Tensor,
        control: AttentionControl | None,
        stop_after: AttentionLayer | None,
        value_context: Tensor | None,
        unconditional: slice,
    ) -> Tensor:
        """ε (B, C, h, w) float32; context and value_context have a row for each of the latents, `unconditional` are
        those without the prompt. With `stop_after` the network raises `StoppedEarly` in that layer."""

    @abstractmethod
    def _flops(self, stop_after: AttentionLayer | None, latent_height: int, latent_width: int) -> int:
        """Floating point operations of one pass of one sample, up to and including `stop_after`."""

    def predict_noise(
        self,
        latents: Tensor,
        timestep: float,
        context: Tensor,
        *,
        tracker: CostTracker | None = None,
        control: AttentionControl | None = None,
        value_context: Tensor | None = None,
        unconditional: slice = NO_ROWS,
    ) -> Tensor:
        """ε_θ(z_t, t, C): latents (B, C, h, w) and context (B, L, D) to noise (B, C, h, w), float32.

        `control` is called at every attention layer. `unconditional`: the rows without the prompt, for patches that
        tell them apart. A gradient through the result is counted when it is taken.
        """
        noise = self._pass(latents, timestep, context, tracker, control, None, value_context, unconditional)
        if noise is None:
            raise RuntimeError("the pass stopped before its end")
        return noise

    def capture(
        self,
        latents: Tensor,
        timestep: float,
        context: Tensor,
        control: AttentionControl,
        *,
        tracker: CostTracker | None = None,
        stop_after: AttentionLayer | None = None,
    ) -> None:
        """Run the network only as far as the last layer that word maps are read from (or `stop_after`).

        What the control keeps is the result; the cost is the pass's share of the multiply-adds.
        """
        self._pass(latents, timestep, context, tracker, control, stop_after or self.map_layers[-1])

    def share(self, stop_after: AttentionLayer | None, latent_height: int, latent_width: int) -> float:
        """The part of a full pass's multiply-adds that is run up to and including `stop_after`."""
        if stop_after is None:
            return 1.0
        key = (stop_after.name, latent_height, latent_width)
        if key not in self._shares:
            part, whole = (self._flops(layer, latent_height, latent_width) for layer in (stop_after, None))
            self._shares[key] = part / whole
        return self._shares[key]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the word maps of an image of this size in pixels."""
        return self.map_layers[0].grid(height // self.latent_factor, width // self.latent_factor)

    def _pass(
        self,
        latents: Tensor,
        timestep: float,
        context: Tensor,
        tracker: CostTracker | None,
        control: AttentionControl | None,
        stop_after: AttentionLayer | None,
        value_context: Tensor | None = None,
        unconditional: slice = NO_ROWS,
    ) -> Tensor | None:
        tracker = tracker or CostTracker()
        samples, share = len(latents), self.share(stop_after, *latents.shape[-2:])
        tracker.count_forward(samples, share)
        context = context.to(self.device).expand(samples, -1, -1)
        if torch.is_grad_enabled() and context.requires_grad:
            stage = tracker.current
            context = context.clone()
            context.register_hook(lambda _: tracker.count_backward(samples, share, stage))
        if value_context is not None:
            value_context = value_context.to(self.device).expand(samples, -1, -1)
        with suppress(StoppedEarly):
            return self._noise(latents, timestep, context, control, stop_after, value_context, unconditional)
        return None
