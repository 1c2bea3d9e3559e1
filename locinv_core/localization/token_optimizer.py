"""Tuning the words' vectors at every timestep until their cross-attention stays in its place (LocInv §3.3).

Two solvers: `exact` takes the gradient through the UNet, stopped after the last layer that maps are read
from; `fast` takes those layers' queries once and tunes against them, with no gradient through the UNet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones.attention import MapReader, QueryReader, attention_probabilities
from ..backbones.stable_diffusion import EditModel
from ..cost import CostTracker
from ..inversion.ddim_inversion import Inversion
from ..options import SOLVERS, Solver
from ..text.prompt import Prompt
from .losses import AttentionObjective

MOST_INNER_STEPS = 31
"""As many as the published code takes at a timestep at most."""


@dataclass(frozen=True)
class TuningSettings:
    """How the vectors are tuned.

    `inner_steps` of Adam at most at each timestep, 31 at the most. `learning_rate` is in units of the root
    mean square of the text encoder's embeddings, so that it means the same to every model. With `anneal` it
    falls along half a cosine over the inner steps of a timestep, step k of n at ½(1 + cos πk/n) of it: long
    steps find where the vectors should point, and short ones settle there. `fast` takes the
    queries 1 + `refreshes` times a timestep, at even spaces among the inner steps. Only the first `share` of
    the timesteps is tuned; later ones keep the last vectors.
    """

    solver: Solver = "fast"
    inner_steps: int = 16
    learning_rate: float = 20.0
    anneal: bool = True
    refreshes: int = 0
    share: float = 1.0

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise ValueError(f"tokens: got {self.solver!r}, requires one of {', '.join(SOLVERS)}")
        if not 1 <= self.inner_steps <= MOST_INNER_STEPS:
            raise ValueError(f"inner_steps: got {self.inner_steps}, requires 1 to {MOST_INNER_STEPS}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate: got {self.learning_rate}, requires a number above 0")
        if not 0 <= self.refreshes < self.inner_steps:
            raise ValueError(f"refreshes: got {self.refreshes}, requires 0 to {self.inner_steps - 1}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share: got {self.share}, requires a number above 0 and at most 1")

    @classmethod
    def for_solver(cls, solver: Solver) -> TuningSettings:
        """A solver's defaults: `exact` as published, `fast` as measured."""
        if solver == "exact":
            return cls(solver, inner_steps=MOST_INNER_STEPS, learning_rate=5.0, anneal=False)
        return cls(solver)

    def tuned_steps(self, steps: int) -> int:
        """How many of `steps` timesteps are tuned."""
        return max(1, round(self.share * steps))

    def rate(self, inner_step: int) -> float:
        """The learning rate of an inner step, counted from 0."""
        if not self.anneal:
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * inner_step / self.inner_steps)) / 2


@dataclass(frozen=True)
class TokenTuner:
    """What stays the same from one timestep to the next: whose vectors are tuned, and towards what."""

    model: EditModel
    prompt: Prompt
    positions: tuple[int, ...]
    objective: AttentionObjective
    settings: TuningSettings

    def initial_vectors(self) -> Tensor:
        """The words' own input embeddings, (K, D) float32."""
        return self.model.token_vectors([self.prompt.token_ids[p] for p in self.positions])

    def tune(self, latents: Tensor, timestep: int, step: int, vectors: Tensor, tracker: CostTracker) -> Tensor:
        """V_t from V_{t+1} at z_t: `latents` (1, C, h, w), `vectors` (K, D); the while loop of Algorithm 1.

        Stops as soon as every active loss is under its threshold of this step. `fast`, whose long steps may
        overshoot, returns the vectors of the least loss that it met; `exact` the last ones, as published.
        """
        with torch.inference_mode(False), torch.enable_grad():
            latents = latents.detach().clone()
            tuned = vectors.detach().float().clone().requires_grad_(True)
            unit = self.model.embedding_scale
            optimizer = torch.optim.Adam([tuned], lr=self.settings.learning_rate * unit)
            maps_of = self._frozen if self.settings.solver == "fast" else self._through_unet
            parts = 1 + self.settings.refreshes
            queries: dict[str, Tensor] = {}
            best, least = tuned.detach().clone(), math.inf
            for k in range(self.settings.inner_steps):
                if self.settings.solver == "fast" and k * parts % self.settings.inner_steps < parts:
                    queries = self._queries(latents, timestep, tuned, tracker)
                    least = math.inf  # losses on other queries do not compare
                objective = self.objective(maps_of(latents, timestep, tuned, queries, tracker), step)
                if objective.satisfied:
                    return tuned.detach()
                if (loss := objective.total.item()) < least:
                    best, least = tuned.detach().clone(), loss
                optimizer.param_groups[0]["lr"] = self.settings.rate(k) * unit
                optimizer.zero_grad()
                objective.total.backward()
                optimizer.step()
            if self.settings.solver == "exact":
                return tuned.detach()
            with torch.no_grad():
                last = self.objective(maps_of(latents, timestep, tuned, queries, tracker), step).total.item()
            return tuned.detach() if last < least else best

    def context(self, vectors: Tensor) -> Tensor:
        """The source prompt with `vectors` (K, D) in it, encoded to (1, L, D)."""
        return self.model.encode_prompt(self.prompt.token_ids, vectors, self.positions)

    def _through_unet(
        self, latents: Tensor, timestep: int, vectors: Tensor, queries: dict[str, Tensor], tracker: CostTracker
    ) -> Tensor:
        reader = MapReader(self.model.map_layers)
        self.model.capture(latents, timestep, self.context(vectors), reader, tracker=tracker)
        return reader.mean()[0]

    def _queries(self, latents: Tensor, timestep: int, vectors: Tensor, tracker: CostTracker) -> dict[str, Tensor]:
        reader = QueryReader(self.model.map_layers)
        with torch.no_grad():
            self.model.capture(latents, timestep, self.context(vectors), reader, tracker=tracker)
        return reader.queries

    def _frozen(
        self, latents: Tensor, timestep: int, vectors: Tensor, queries: dict[str, Tensor], tracker: CostTracker
    ) -> Tensor:
        return maps_from_queries(self.model, queries, self.context(vectors))[0]


def maps_from_queries(model: EditModel, queries: dict[str, Tensor], context: Tensor) -> Tensor:
    """Cross-attention (B, N, L) that these queries pay to a context (B, L, D): mean over heads and layers.

    `queries` holds (B, heads, N, d) by layer name. Differentiable in the context.
    """
    maps = []
    for name, query in queries.items():
        attention = model.layer_modules[name]
        key = attention.to_k(context.to(model.dtype)).float()
        key = key.unflatten(-1, (attention.heads, -1)).transpose(1, 2)
        maps.append(attention_probabilities(query, key, attention.scale).mean(dim=1))
    return torch.stack(maps).mean(dim=0)


def optimize_tokens(
    model: EditModel,
    inversion: Inversion,
    positions: Sequence[int],
    objective: AttentionObjective,
    settings: TuningSettings | None = None,
    *,
    tracker: CostTracker | None = None,
) -> Inversion:
    """Tune the tokens at `positions` (K,) of the source prompt along the pivots z_T … z_1.

    Returns the inversion with `token_vectors` (T, K, D); null-text fitted before is dropped from it.
    """
    inversion.check_model(model)
    tuner = TokenTuner(model, inversion.prompt, tuple(positions), objective, settings or TuningSettings())
    tracker = tracker or CostTracker()
    with tracker.stage("tokens"):
        vectors = tuner.initial_vectors()
        found = []
        for i, timestep in enumerate(inversion.timesteps):
            if i < tuner.settings.tuned_steps(inversion.steps):
                vectors = tuner.tune(inversion.pivot(i), timestep, i, vectors, tracker)
            found.append(vectors)
            tracker.report(i + 1, inversion.steps)
    return inversion.with_tokens(tuner.positions, torch.stack(found))
