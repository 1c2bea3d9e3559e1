"""Prompt-to-Prompt attention control (Hertz et al. 2022): Replace, Refine and Reweight, word by word.

A plan says what happens in all steps; a control carries it out in the layers of one UNet pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from ..backbones.attention import AttentionControl, AttentionLayer
from ..text.prompt import Prompt
from ..text.word_alignment import Alignment
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
    Raises as `check_words`.
    """
    check_words(targets, settings)
    ranges = settings.cross_replace_ranges
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


class SourceAttention(Protocol):
    """What targets take for the source's cross-attention, in place of what the source attends with."""

    def probabilities(self, layer: AttentionLayer, query: Tensor, key: Tensor) -> Tensor:
        """(n, heads, N, L) for n targets, from the source's own query (heads, N, d) and key (heads, L, d)."""
        ...


class PromptToPromptControl(AttentionControl):
    """Step `step` of a plan, in a batch whose first row is the source and whose last n are the targets.

    `maps()` are the word maps of the pass, (1 + n, N, L): the source's and then the targets' after the
    control, averaged over the heads and over the layers `map_layers`.
    """

    def __init__(
        self,
        plan: AttentionPlan,
        step: int,
        *,
        map_layers: Sequence[AttentionLayer],
        device: torch.device,
        source_attention: SourceAttention | None = None,
    ) -> None:
        self._mapper = rearrange(plan.mapper.to(device), "n i j -> n 1 i j")
        self._weights = rearrange(plan.weights[step].to(device), "n l -> n 1 1 l")
        self._factors = rearrange(plan.factors.to(device), "n l -> n 1 1 l")
        self._changes_cross = bool((plan.weights[step] != 0).any() or (plan.factors != 1).any())
        self._self_layers = plan.self_layers if step < plan.self_steps else frozenset()
        self._targets = slice(-len(plan.mapper), None)
        self._read = {layer.name for layer in map_layers}
        self._source_attention = source_attention
        self._source: Tensor | None = None
        self._maps: list[Tensor] = []

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return layer.kind == "cross" and (self._changes_cross or layer.name in self._read)

    def inputs(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if layer.name in self._self_layers:
            # The source's queries and keys give its probabilities, and leave the fused kernel in use.
            query, key = self._from_source(query), self._from_source(key)
        if self._source_attention is not None and self._changes_cross and layer.kind == "cross":
            self._source = self._source_attention.probabilities(layer, query[0], key[0])
        return query, key, value

    def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
        if self._changes_cross:
            probabilities = probabilities.clone()
            own = probabilities[self._targets]
            source = probabilities[:1] if self._source is None else self._source.to(own)
            probabilities[self._targets] = self._mixed(source, own)
        if layer.name in self._read:
            kept = torch.cat([probabilities[:1], probabilities[self._targets]])
            self._maps.append(kept.float().mean(dim=1))
        return probabilities

    def maps(self) -> Tensor:
        """The word maps; RuntimeError if the pass did not reach all of the layers that are read."""
        if len(self._maps) != len(self._read):
            raise RuntimeError(f"{len(self._maps)} of {len(self._read)} attention layers were reached")
        return torch.stack(self._maps).mean(dim=0)

    def _mixed(self, source: Tensor, own: Tensor) -> Tensor:
        """source (1 or n, heads, N, L) and own (n, heads, N, L) to (n, heads, N, L)."""
        weights = self._weights.to(own.dtype)
        mixed = weights * (source @ self._mapper.to(own.dtype)) + (1 - weights) * own
        return mixed * self._factors.to(own.dtype)

    def _from_source(self, tensor: Tensor) -> Tensor:
        tensor = tensor.clone()
        tensor[self._targets] = tensor[0]
        return tensor


def _positions(prompt: Prompt, word: str) -> list[int]:
    """Token positions of a word; none if it is not in the prompt."""
    try:
        return list(prompt.find(word).tokens)
    except ValueError:
        return []


def check_words(targets: Sequence[Prompt], settings: EditSettings) -> None:
    """Raise ValueError for a word of `cross_replace_steps` or `equalizer` that is in none of the targets."""
    for setting, words in (("cross_replace_steps", settings.cross_replace_ranges), ("equalizer", settings.equalizer)):
        for word in words:
            if word != ALL_WORDS and not any(_positions(target, word) for target in targets):
                there = "; ".join(f"{t.text!r} has {', '.join(w.text for w in t.words)}" for t in targets)
                raise ValueError(f"{setting}: the word {word!r} is in no target prompt: {there}")
