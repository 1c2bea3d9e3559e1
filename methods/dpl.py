"""Dynamic Prompt Learning (Wang et al., NeurIPS 2023): three attention losses that need no prior.

They rest on the image and the prompt alone: no two nouns should look at the same place (disjoint object
attention), no noun at the background (background leakage), and every noun somewhere (attention balancing).
The background is found by clustering the image's self-attention.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..locinv_core.backbones.attention import AttentionControl, AttentionLayer, MapReader
from ..locinv_core.backbones.base import Backbone
from ..locinv_core.cost import CostTracker
from ..locinv_core.inversion.ddim_inversion import Inversion
from ..locinv_core.localization.losses import (
    LossTerm,
    Objective,
    TokenGroup,
    against_thresholds,
    check_token_groups,
    word_maps,
)
from ..locinv_core.localization.plan import Binding, TuningPlan
from ..locinv_core.localization.priors import LocalizationPrior
from ..locinv_core.recipe import EditRecipe
from ..locinv_core.text.prompt import Prompt
from .shared.inversion_methods import inversion_method

BACKGROUND_PASSES = 8
SHARPNESS = 100.0
"""What token probabilities are multiplied by before the second softmax, as in Attend-and-Excite."""


@dataclass(frozen=True)
class DPLPreset:
    """The terms of DPL's loss."""

    balance: LossTerm
    background: LossTerm
    disjoint: LossTerm

    def __post_init__(self) -> None:
        if not (self.balance.active or self.background.active or self.disjoint.active):
            raise ValueError("DPL preset: every weight is 0, requires at least one above 0")


DPL = DPLPreset(
    balance=LossTerm(1.0, 25.0, 0.3), background=LossTerm(0.05, 50.0, 0.7), disjoint=LossTerm(0.05, 25.0, 0.9)
)
"""The numbers of the authors' script."""


def disjoint_loss(maps: Tensor) -> Tensor:
    """Disjoint object attention: the mean cosine of all pairs of W ≥ 2 word maps (W, N); the result is ()."""
    if maps.ndim != 2 or len(maps) < 2:
        raise ValueError(f"maps: got the shape {tuple(maps.shape)}, requires (W, N) with at least two words")
    first, second = torch.triu_indices(len(maps), len(maps), offset=1, device=maps.device)
    return F.cosine_similarity(maps[first], maps[second], dim=-1).mean()


def background_loss(maps: Tensor, background: Tensor) -> Tensor:
    """Background leakage: the mean over words of cos(A, background), for maps (W, N) and a mask (N,); ()."""
    if maps.ndim != 2 or background.shape != maps.shape[1:]:
        raise ValueError(
            f"background: got the shape {tuple(background.shape)} for maps of {tuple(maps.shape)}, requires (N,)"
        )
    return F.cosine_similarity(maps, background[None], dim=-1).mean()


def balance_loss(maps: Tensor, token_groups: Sequence[TokenGroup], grid: tuple[int, int]) -> Tensor:
    """Attention balancing: 1 − the peak of the word that has the lowest, for token maps (N, L); ().

    The first and the last token take no part: the others' probabilities, sharpened, are normalised once more,
    and a word's map is smoothed before its peak is taken (Attend-and-Excite).
    """
    rows, columns = grid
    if min(grid) < 2 or maps.ndim != 2 or rows * columns != len(maps):
        shape = tuple(maps.shape)
        raise ValueError(f"grid: got {rows}x{columns} for maps of {shape}, requires maps (rows·columns, L)")
    tokens = (SHARPNESS * maps[:, 1:-1]).softmax(dim=-1)
    last = maps.shape[-1] - 1
    if any(position >= last for group in token_groups for position in group):
        raise ValueError(f"token groups: got a position from {last} on, requires words before the last token")
    # The dropped first token stays as an empty column, so that positions keep their meaning.
    words = word_maps(F.pad(tokens, (1, 1)), token_groups)
    peaks = _smooth(words.unflatten(-1, grid)).flatten(1).amax(dim=-1)
    return (1 - peaks).amax()


@dataclass(frozen=True, eq=False)
class DPLObjective:
    """DPL's loss for the nouns of a prompt. Terms: `balance`, `background`, `disjoint`.

    A single noun has nothing to be disjoint from, and a background of no cell or of every cell tells nothing:
    then that loss is left out.
    """

    token_groups: Sequence[TokenGroup]
    """The tokens of each of the W nouns."""
    grid: tuple[int, int]
    """(rows, columns) of the attention maps."""
    background: Tensor | None = None
    """(N,) 1 where the background is, else 0."""
    preset: DPLPreset = DPL

    def __post_init__(self) -> None:
        check_token_groups(self.token_groups)
        rows, columns = self.grid
        if min(self.grid) < 2:
            raise ValueError(f"grid: got {rows}x{columns}, requires at least 2x2")
        if self.background is not None and self.background.shape != (rows * columns,):
            shape = tuple(self.background.shape)
            raise ValueError(f"background: got the shape {shape}, requires ({rows * columns},) for this grid")

    def __call__(self, maps: Tensor, step: int) -> Objective:
        """Judge the maps (N, L) of a step."""
        words = word_maps(maps, self.token_groups)
        losses = {"balance": (self.preset.balance, balance_loss(maps, self.token_groups, self.grid))}
        if self.background is not None and 0 < float(self.background.mean()) < 1:
            # A copy: what was made inside inference mode could never take part in a gradient.
            leak = background_loss(words, self.background.to(words).clone())
            losses["background"] = (self.preset.background, leak)
        if len(self.token_groups) > 1:
            losses["disjoint"] = (self.preset.disjoint, disjoint_loss(words))
        total = torch.stack([term.weight * loss for term, loss in losses.values()]).sum()
        return against_thresholds(total, losses, step)


def background_mask(
    self_attention: Tensor, noun_maps: Tensor, *, clusters: int = 5, threshold: float = 0.2, seed: int = 0
) -> Tensor:
    """The cells (N,) that belong to no noun: 1 there, else 0, float32.

    Cells that attend to the same places, by the rows of `self_attention` (N, N), are clustered by k-means. A
    cluster is background unless some noun's map, of `noun_maps` (W, N), has a mean above `threshold` there
    when its lowest value is put to 0 and divided by its highest.
    """
    cells = self_attention.shape[-1]
    if self_attention.shape != (cells, cells):
        raise ValueError(f"self-attention: got the shape {tuple(self_attention.shape)}, requires (N, N)")
    if noun_maps.ndim != 2 or len(noun_maps) == 0 or noun_maps.shape[1] != cells:
        raise ValueError(f"noun maps: got the shape {tuple(noun_maps.shape)}, requires (W, {cells})")
    if not 2 <= clusters <= cells:
        raise ValueError(f"clusters: got {clusters}, requires 2 to {cells}")
    if not 0 <= threshold < 1:
        raise ValueError(f"threshold: got {threshold}, requires 0 up to 1")
    labels = _cluster(self_attention.detach().cpu().double().numpy(), clusters, seed).to(noun_maps.device)
    maps = noun_maps.detach().float()
    highest = maps.amax(dim=-1, keepdim=True)
    scaled = (maps - maps.amin(dim=-1, keepdim=True)) / highest.clamp_min(torch.finfo(maps.dtype).tiny)
    mask = torch.zeros(cells, device=maps.device)
    for label in labels.unique():
        members = labels == label
        if scaled[:, members].mean(dim=-1).max() <= threshold:
            mask[members] = 1.0
    return mask


@torch.no_grad()
def collect_background(
    model: Backbone,
    inversion: Inversion,
    noun_groups: Sequence[TokenGroup],
    *,
    passes: int = BACKGROUND_PASSES,
    tracker: CostTracker | None = None,
) -> Tensor:
    """The background (N,) of an inverted image: 1 there, else 0, on the model's attention grid.

    Self- and cross-attention are averaged over the layers of the level that word maps are read from, and over
    `passes` early-stopped UNet passes at pivots spread evenly over the steps; the stage is `background`.
    """
    check_token_groups(noun_groups)
    if passes < 1:
        raise ValueError(f"passes: got {passes}, requires at least 1")
    inversion.check_model(model)
    tracker = tracker or CostTracker()
    passes = min(passes, inversion.steps)
    steps = [(2 * k + 1) * inversion.steps // (2 * passes) for k in range(passes)]
    level = model.map_layers[0].level
    self_layers = [s for s in model.layers if s.kind == "self" and s.level == level and s.place != "mid"]
    self_maps: list[Tensor] = []
    cross_maps: list[Tensor] = []
    with tracker.stage("background"):
        for done, step in enumerate(steps, start=1):
            reader = _TwoReaders(MapReader(self_layers), MapReader(model.map_layers))
            latents = inversion.pivot(step)
            context = inversion.context(model, step)
            model.capture(latents, inversion.timesteps[step], context, reader, tracker=tracker)
            self_maps.append(reader.first.mean()[0])
            cross_maps.append(reader.second.mean()[0])
            tracker.report(done, passes, latents)
    nouns = word_maps(torch.stack(cross_maps).mean(dim=0), noun_groups)
    return background_mask(torch.stack(self_maps).mean(dim=0), nouns)


def plan_dpl(
    model: Backbone,
    inversion: Inversion,
    prior: LocalizationPrior | None = None,
    bindings: Sequence[Binding] = (),
    *,
    tracker: CostTracker | None = None,
) -> TuningPlan:
    """DPL's plan: the prompt's nouns, and the background found by a few early-stopped passes.

    Of a prior only the words count, in place of the nouns that the parser finds: DPL uses no masks, and no
    bindings. Raises
    ValueError where there is neither.
    """
    source = inversion.prompt
    groups = dpl_groups(source, prior)
    grid = model.map_layers[0].grid(*inversion.latents.shape[-2:])
    background = collect_background(model, inversion, groups, tracker=tracker)
    return TuningPlan.of(groups, DPLObjective(groups, grid, background))


def dpl_groups(source: Prompt, prior: LocalizationPrior | None = None) -> list[TokenGroup]:
    """The tokens of each word that DPL tunes: of the prior's words, or else of the nouns.

    Raises ValueError where there is neither.
    """
    if prior is not None:
        return [word.tokens for word in prior.check_against(source).values()]
    if not source.nouns:
        raise ValueError(f"source: DPL tunes nouns, and none was found in {source.text!r}")
    return [source.words[index].tokens for index in source.nouns]


class _TwoReaders(AttentionControl):
    """Lets two readers see the same pass."""

    def __init__(self, first: MapReader, second: MapReader) -> None:
        self.first, self.second = first, second

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return self.first.needs_probabilities(layer) or self.second.needs_probabilities(layer)

    def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
        self.first.probabilities(layer, probabilities)
        self.second.probabilities(layer, probabilities)
        return probabilities


def _cluster(features: np.ndarray, clusters: int, seed: int) -> Tensor:
    """k-means labels (N,) of the rows of (N, D): the best of 20 starts."""
    from scipy.cluster.vq import kmeans, vq

    # The threshold of convergence is absolute, and rows of probabilities lie very near to one another.
    scaled = features / max(float(features.std()), float(np.finfo(features.dtype).tiny))
    centres, _ = kmeans(scaled, clusters, iter=20, seed=seed)
    return torch.from_numpy(vq(scaled, centres)[0].astype(np.int64))


def _smooth(maps: Tensor) -> Tensor:
    """Maps (W, rows, columns) under a 3×3 Gaussian of standard deviation 1/√2 cells, edges mirrored.

    The published code names 0.5, but its kernel is exp(−(d/2σ)²), which is a Gaussian of √2·0.5.
    """
    side = maps.new_tensor([math.exp(-1.0), 1.0, math.exp(-1.0)])
    kernel = torch.outer(side, side) / side.sum() ** 2
    padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernel[None, None])[:, 0]


RECIPE = EditRecipe(
    "dpl",
    "exact",
    "null-text",
    plan=plan_dpl,
    check_plan=lambda name, source, prior: dpl_groups(source, prior),
    # DPL knows no masks, even where a prior names the words that it optimizes.
    defaults={"local_blend": "off", "attribute_attention": "tuned"},
)
METHOD = inversion_method(RECIPE, "DPL", "Wang et al. 2023")
