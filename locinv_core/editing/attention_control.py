"""Prompt-to-Prompt's hold on attention (Hertz et al. 2022): targets attend as the source does, word by word.

A plan says what happens in all steps; a control carries it out in the layers of one UNet pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones.attention import AttentionControl, AttentionLayer
from ..text.prompt import Prompt
from ..text.word_alignment import Alignment
from .attribute_preservation import KeptPlaces
from .settings import ALL_WORDS, EditSettings, step_of


@dataclass(frozen=True)
class AttentionPlan:
    """What n targets take from the source in each of T steps.

    In step i target k attends with factors[k]·(w·(P_source @ mapper[k]) + (1 − w)·P_target), where
    w = weights[i, k], in all cross-attention layers, and with the source's own self-attention in the layers
    `self_layers` while i < self_steps.
    """

    mapper: Tensor
    """(n, L, L) float32: source token → target token."""
    weights: Tensor
    """(T, n, L) float32, 0 to 1."""
    factors: Tensor
    """(n, L) float32."""
    self_steps: int
    self_layers: frozenset[str]
    """Names of layers."""


def plan_attention(
    targets: Sequence[Prompt],
    alignments: Sequence[Alignment],
    settings: EditSettings,
    steps: int,
    layers: Sequence[AttentionLayer],
    finest_level: int,
) -> AttentionPlan:
    """The plan of `settings` for these targets.

    Self-attention follows the source at `finest_level` and at coarser ones; finer ones stay the target's.
    Raises ValueError for a word of `cross_replace_steps` or `equalizer` that is in none of the targets.
    """
    ranges = settings.cross_replace_ranges
    for name, words in (("cross_replace_steps", ranges), ("equalizer", settings.equalizer)):
        for word in words:
            if word != ALL_WORDS:
                _check_somewhere(name, word, targets)
    weights = torch.zeros(steps, len(targets), len(targets[0].token_ids))
    factors = torch.ones(weights.shape[1:])
    for k, target in enumerate(targets):
        for word, (start, end) in ranges.items():
            positions = slice(None) if word == ALL_WORDS else _positions(target, word)
            weights[:, k, positions] = 0.0
            weights[step_of(start, steps) : step_of(end, steps), k, positions] = 1.0
        for word, factor in settings.equalizer.items():
            factors[k, _positions(target, word)] = factor
    return AttentionPlan(
        mapper=torch.stack([alignment.mapper for alignment in alignments]),
        weights=weights * torch.stack([alignment.alpha for alignment in alignments]),
        factors=factors,
        self_steps=step_of(settings.self_replace_steps, steps),
        self_layers=frozenset(s.name for s in layers if s.kind == "self" and s.level >= finest_level),
    )


class PromptToPromptControl(AttentionControl):
    """Step `step` of a plan, in a batch with the source's conditional row and the targets' conditional rows.

    With `kept` the attention that targets take from the source is as that says, and else the source's own.
    It also keeps the word maps: `maps()` is (1 + n, N, L), the source's and then the targets' after the
    control, averaged over the heads and over the layers `map_layers`.
    """

    def __init__(
        self,
        plan: AttentionPlan,
        step: int,
        *,
        source_row: int,
        target_rows: slice,
        map_layers: Sequence[AttentionLayer],
        device: torch.device,
        kept: KeptPlaces | None = None,
    ) -> None:
        self._mapper = plan.mapper.to(device)
        self._weights = plan.weights[step].to(device)
        self._factors = plan.factors.to(device)
        self._changes_cross = bool((plan.weights[step] != 0).any() or (plan.factors != 1).any())
        self._self_sites = plan.self_layers if step < plan.self_steps else frozenset()
        self._source_row = source_row
        self._target_rows = target_rows
        self._read = {layer.name for layer in map_layers}
        self._kept = kept
        self._source: Tensor | None = None
        self._maps: list[Tensor] = []

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return layer.kind == "cross" and (self._changes_cross or layer.name in self._read)

    def inputs(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if layer.name in self._self_sites:
            # The source's queries and keys give its probabilities, and leave the fused kernel in use.
            query, key = self._from_source(query), self._from_source(key)
        if self._kept is not None and self._changes_cross and layer.kind == "cross":
            self._source = self._kept.probabilities(layer, query[self._source_row], key[self._source_row])
        return query, key, value

    def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
        if self._changes_cross:
            probabilities = probabilities.clone()
            own = probabilities[self._target_rows]
            source = probabilities[self._source_row][None] if self._source is None else self._source.to(own)
            probabilities[self._target_rows] = self._mixed(source, own)
        if layer.name in self._read:
            kept = torch.cat([probabilities[self._source_row][None], probabilities[self._target_rows]])
            self._maps.append(kept.float().mean(dim=1))
        return probabilities

    def maps(self) -> Tensor:
        """The word maps; RuntimeError if the pass did not reach all of the layers that are read."""
        if len(self._maps) != len(self._read):
            raise RuntimeError(f"{len(self._maps)} of {len(self._read)} attention layers were reached")
        return torch.stack(self._maps).mean(dim=0)

    def _mixed(self, source: Tensor, own: Tensor) -> Tensor:
        """source (1 or n, heads, N, L) and own (n, heads, N, L) to (n, heads, N, L)."""
        weights = self._weights[:, None, None].to(own.dtype)
        mapped = source @ self._mapper[:, None].to(own.dtype)
        mixed = weights * mapped + (1 - weights) * own
        return mixed * self._factors[:, None, None].to(own.dtype)

    def _from_source(self, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor[self._target_rows] = tensor[self._source_row]
        return tensor


def _positions(prompt: Prompt, word: str) -> list[int]:
    """Token positions of a word; none if it is not in the prompt."""
    try:
        return list(prompt.find(word).tokens)
    except ValueError:
        return []


def _check_somewhere(setting: str, word: str, targets: Sequence[Prompt]) -> None:
    if not any(_positions(target, word) for target in targets):
        there = "; ".join(f"{t.text!r} has {', '.join(w.text for w in t.words)}" for t in targets)
        raise ValueError(f"{setting}: the word {word!r} is in no target prompt: {there}")
