"""LocInv's attention losses (LocInv Eq. 5 to 8), their thresholds, and the objective of token optimization.

The paper sums over the K words. Its published thresholds fit the average, as its authors' code has it, and
with a sum a word would count for less the more words there are: every loss here is a mean over words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_SUM = 1e-8
"""An attention map with less than this in all counts as having no attention anywhere."""

TokenGroup = Sequence[int]
"""The positions in the tokenized prompt of one word's tokens."""


@dataclass(frozen=True)
class LossTerm:
    """A loss's weight λ, and the α and β of its threshold β·exp(−i/α)."""

    weight: float
    alpha: float
    beta: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"weight: got {self.weight}, requires a finite number that is not negative")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise ValueError(f"alpha: got {self.alpha}, requires a finite number above 0")
        if not (math.isfinite(self.beta) and self.beta > 0):
            raise ValueError(f"beta: got {self.beta}, requires a finite number above 0")

    @property
    def active(self) -> bool:
        """Whether the loss counts at all: one of weight 0 neither adds to the total nor has a threshold."""
        return self.weight > 0

    def threshold(self, step: float) -> float:
        """TH_i = β·exp(−i/α); `step` i is 0 at the noisiest step."""
        return self.beta * math.exp(-step / self.alpha)


BINDING = LossTerm(weight=2.0, alpha=50.0, beta=0.1)
"""Adjective binding (LocInv Eq. 8), for attribute edits only."""


@dataclass(frozen=True)
class LossPreset:
    """The terms of LocInv Eq. 7; `binding` is None unless the edit is of an attribute."""

    similarity: LossTerm
    overlap: LossTerm
    binding: LossTerm | None = None

    def __post_init__(self) -> None:
        if not any(term is not None and term.active for term in self._terms):
            raise ValueError("loss preset: every weight is 0, requires at least one above 0")

    @property
    def _terms(self) -> tuple[LossTerm | None, ...]:
        return self.similarity, self.overlap, self.binding

    def with_binding(self, term: LossTerm = BINDING) -> LossPreset:
        """The same preset with adjectives bound to their nouns."""
        return replace(self, binding=term)


SEGMENT = LossPreset(similarity=LossTerm(1.0, 50.0, 0.7), overlap=LossTerm(1.0, 10.0, 0.7))
"""For priors that follow the object's outline (LocInv §4.1)."""

DETECTION = LossPreset(similarity=LossTerm(0.1, 25.0, 0.5), overlap=LossTerm(1.0, 25.0, 0.3))
"""For priors that are boxes (LocInv §4.1)."""


def preset_for(kind: Literal["segment", "detection"]) -> LossPreset:
    """The published numbers for a kind of prior; ValueError for another kind."""
    presets = {"segment": SEGMENT, "detection": DETECTION}
    if kind not in presets:
        raise ValueError(f"prior kind: got {kind!r}, requires one of {', '.join(presets)}")
    return presets[kind]


def word_maps(maps: Tensor, token_groups: Sequence[TokenGroup]) -> Tensor:
    """Token maps (…, N, L) to word maps (…, W, N): a word of several tokens has the mean of their maps."""
    length = maps.shape[-1]
    check_token_groups(token_groups)
    for group in token_groups:
        if max(group) >= length:
            raise ValueError(f"token groups: got the position {max(group)}, requires one below {length}")
    return torch.stack([maps[..., list(group)].mean(dim=-1) for group in token_groups], dim=-2)


def similarity_loss(maps: Tensor, priors: Tensor) -> Tensor:
    """L_sim (LocInv Eq. 5): the mean over words of 1 − cos(A, S); maps and priors are (W, N), the result ()."""
    _check_alike(maps, priors, "priors")
    return 1 - F.cosine_similarity(maps, priors, dim=-1).mean()


def overlap_loss(maps: Tensor, priors: Tensor) -> Tensor:
    """L_ovl (LocInv Eq. 6): the mean over words of 1 − ΣA·S/ΣA; maps and priors are (W, N), the result ().

    It is the share of a word's attention that lies outside its prior.
    """
    _check_alike(maps, priors, "priors")
    inside = (maps * priors).sum(dim=-1)
    return 1 - (inside / maps.sum(dim=-1).clamp_min(SMALLEST_SUM)).mean()


def binding_loss(noun_maps: Tensor, adjective_maps: Tensor) -> Tensor:
    """L_adj (LocInv Eq. 8): the mean over pairs of 1 − cos(A_noun, A_adjective); both are (P, N), the result ()."""
    _check_alike(noun_maps, adjective_maps, "adjective maps")
    return 1 - F.cosine_similarity(noun_maps, adjective_maps, dim=-1).mean()


def localization_loss(similarity: Tensor, overlap: Tensor, preset: LossPreset, binding: Tensor | None = None) -> Tensor:
    """λ_sim·L_sim + λ_ovl·L_ovl (LocInv Eq. 7), and + λ_adj·L_adj where adjectives are bound (LocInv §3.4); ()."""
    total = preset.similarity.weight * similarity + preset.overlap.weight * overlap
    if binding is not None and preset.binding is not None:
        total = total + preset.binding.weight * binding
    return total


@dataclass(frozen=True, eq=False)
class Objective:
    """What an objective makes of one step's maps."""

    total: Tensor
    """() the weighted sum of the active losses; this is what is minimised."""
    terms: dict[str, Tensor]
    """The active losses by name, each (), before their weights and without gradient."""
    satisfied: bool
    """Whether every active loss is under its threshold at this step."""


class AttentionObjective(Protocol):
    """A loss on attention maps that tells when it is low enough."""

    def __call__(self, maps: Tensor, step: int) -> Objective:
        """Judge the maps (N, L) of a step: softmax probabilities, averaged over heads and layers."""
        ...


def against_thresholds(total: Tensor, losses: Mapping[str, tuple[LossTerm, Tensor]], step: float) -> Objective:
    """The objective of a step: `total`, and whether each active loss is under its TH_i.

    Raises ValueError where no loss has a weight above 0.
    """
    active = {name: (term, loss) for name, (term, loss) in losses.items() if term.active}
    if not active:
        raise ValueError(f"losses: got none of {', '.join(losses)} with a weight above 0, requires at least one")
    terms = {name: loss.detach() for name, (_, loss) in active.items()}
    values = torch.stack(list(terms.values())).tolist()
    thresholds = [term.threshold(step) for term, _ in active.values()]
    return Objective(total, terms, all(v < limit for v, limit in zip(values, thresholds, strict=True)))


@dataclass(frozen=True, eq=False)
class LocInvObjective:
    """LocInv's loss (LocInv Eq. 7) for words that have a prior, and for adjectives bound to them.

    A word without a prior has no group here, and is left alone. Terms: `similarity`, `overlap`, `binding`.
    """

    token_groups: Sequence[TokenGroup]
    """The tokens of each of the W words."""
    priors: Tensor
    """(W, N) in [0, 1], on the attention grid, flattened row by row."""
    preset: LossPreset
    binding_groups: Sequence[tuple[TokenGroup, TokenGroup]] = ()
    """(the noun's tokens, the adjective's tokens) of each bound pair; without any, LocInv Eq. 8 is left out."""

    def __post_init__(self) -> None:
        check_token_groups(self.token_groups)
        shape, words = tuple(self.priors.shape), len(self.token_groups)
        if len(shape) != 2 or shape[0] != words:
            raise ValueError(f"priors: got the shape {shape}, requires (W, N) with W = {words}")
        # An area mean of ones may be a rounding error above 1; NaN fails both comparisons.
        if not bool(((self.priors >= 0) & (self.priors < 1.001)).all()):
            raise ValueError("priors: got values outside 0 to 1, requires each cell's share of the mask")
        for word, prior in enumerate(self.priors):
            if not bool(prior.any()):
                raise ValueError(f"priors: word {word} has an empty one on this grid, requires a cell above 0")
        for pair in self.binding_groups:
            check_token_groups(pair)
        if self.binding_groups and self.preset.binding is None:
            raise ValueError("binding: got pairs of nouns and adjectives, requires a preset with_binding()")
        bound = bool(self.binding_groups) and self.preset.binding is not None and self.preset.binding.active
        if not (bound or self.preset.similarity.active or self.preset.overlap.active):
            raise ValueError("binding: it is the only active loss of the preset, requires at least one pair")

    def __call__(self, maps: Tensor, step: int) -> Objective:
        """Judge the maps (N, L) of a step."""
        words = word_maps(maps, self.token_groups)
        # Priors made inside a caller's inference mode could never take part in a gradient; a copy can.
        priors = self.priors.to(words).clone()
        similarity, overlap, binding = similarity_loss(words, priors), overlap_loss(words, priors), None
        losses = {"similarity": (self.preset.similarity, similarity), "overlap": (self.preset.overlap, overlap)}
        if self.preset.binding is not None and self.binding_groups:
            nouns = word_maps(maps, [noun for noun, _ in self.binding_groups])
            adjectives = word_maps(maps, [adjective for _, adjective in self.binding_groups])
            binding = binding_loss(nouns, adjectives)
            losses["binding"] = (self.preset.binding, binding)
        return against_thresholds(localization_loss(similarity, overlap, self.preset, binding), losses, step)


def check_token_groups(token_groups: Sequence[TokenGroup]) -> None:
    """Raise ValueError unless there is a word, and each has tokens, none the one that begins the text."""
    if not token_groups:
        raise ValueError("token groups: got none, requires one a word")
    for word, group in enumerate(token_groups):
        if not group or min(group) < 1:
            raise ValueError(f"token groups: got {list(group)} for word {word}, requires positions from 1 on")


def _check_alike(maps: Tensor, others: Tensor, name: str) -> None:
    if maps.ndim != 2 or maps.shape != others.shape:
        raise ValueError(
            f"{name}: got the shape {tuple(others.shape)} for maps of {tuple(maps.shape)}, requires both (W, N)"
        )
