"""Optimizing token embeddings so that their cross-attention stays inside the prior (LocInv §3.3).

Two solvers: `exact` takes the gradient through the UNet, stopped after the last layer that maps are read
from; `fast` reads those layers' queries once and optimizes against them, with no gradient through the UNet.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones.attention import MapReader, QueryReader, attention_probabilities
from ..backbones.base import Backbone
from ..cost import CostTracker
from ..options import SOLVERS, Solver
from ..text.prompt import Prompt

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

    def reads_queries(self, inner_step: int) -> bool:
        """Whether `fast` reads the queries before an inner step, counted from 0."""
        parts = 1 + self.refreshes
        return inner_step < self.inner_steps and inner_step * parts % self.inner_steps < parts

    def rate(self, inner_step: int) -> float:
        """The learning rate of an inner step, counted from 0."""
        if not self.anneal:
            return self.learning_rate
        return self.learning_rate * (1 + math.cos(math.pi * inner_step / self.inner_steps)) / 2


class TokenOptimizer:
    """The vectors V_t (K, D) of the tokens at `positions`, with Adam and the attention maps that they lead to.

    The vectors go over from one timestep to the next; Adam starts anew at each. `fast` reads the queries
    before an inner step and takes maps from them until it reads them again.
    """

    def __init__(
        self,
        model: Backbone,
        prompt: Prompt,
        positions: Sequence[int],
        settings: TuningSettings,
        tracker: CostTracker | None = None,
    ) -> None:
        self.settings = settings
        self.vectors = model.token_vectors([prompt.token_ids[p] for p in positions])
        self._model, self._prompt, self._positions = model, prompt, tuple(positions)
        self._tracker = tracker or CostTracker()

    def start_timestep(self, latents: Tensor, timestep: int) -> None:
        """Go to z̄_t, `latents` (1, C, h, w); the vectors are the last timestep's."""
        self._latents, self._timestep, self._inner_step = latents.detach().clone(), timestep, 0
        self.vectors = self.vectors.detach().float().clone().requires_grad_(True)
        self._adam = torch.optim.Adam([self.vectors])
        self._best, self._least = self.vectors.detach().clone(), math.inf

    def context(self) -> Tensor:
        """C_t = τ_θ(P_t): the source prompt with the vectors in it, encoded to (1, L, D)."""
        return self._model.encode_prompt(self._prompt, self.vectors, self._positions)

    def attention_maps(self) -> Tensor:
        """The tokens' cross-attention maps (N, L) at z̄_t, mean over heads and layers; differentiable."""
        if self.settings.solver == "exact":
            reader = MapReader(self._model.map_layers)
            self._model.capture(self._latents, self._timestep, self.context(), reader, tracker=self._tracker)
            return reader.mean()[0]
        if self.settings.reads_queries(self._inner_step):
            queries = QueryReader(self._model.map_layers)
            with torch.no_grad():
                self._model.capture(self._latents, self._timestep, self.context(), queries, tracker=self._tracker)
            self._queries = queries.queries
            self._least = math.inf  # losses on other queries do not compare
        return maps_from_queries(self._model, self._queries, self.context())[0]

    def descend(self, loss: Tensor) -> None:
        """V_t ← V_t − ∇L, by Adam; L (), of the vectors as they are."""
        if (value := loss.item()) < self._least:
            self._best, self._least = self.vectors.detach().clone(), value
        self._adam.param_groups[0]["lr"] = self.settings.rate(self._inner_step) * self._model.embedding_scale
        self._adam.zero_grad()
        loss.backward()
        self._adam.step()
        self._inner_step += 1

    def keep_best(self, loss: Tensor) -> None:
        """Go back to the vectors of the least loss since the queries were read, unless `loss`, of the last, is less."""
        if not loss.item() < self._least:
            self.vectors = self._best


def maps_from_queries(model: Backbone, queries: dict[str, Tensor], context: Tensor) -> Tensor:
    """Cross-attention (B, N, L) that these queries pay to a context (B, L, D): mean over heads and layers.

    `queries` holds (B, heads, N, d) by layer name. Differentiable in the context.
    """
    maps = []
    for name, query in queries.items():
        key = model.word_keys(name, context)
        maps.append(attention_probabilities(query, key, model.key_scale(name)).mean(dim=1))
    return torch.stack(maps).mean(dim=0)
