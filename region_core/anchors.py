"""Anchor points {C_i}: the patches that boxes are drawn around (Learnable Regions §3.1), and random ones."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from .encoders.vit import PatchFeatures
from .options import ANCHORS, SIZES, Anchors, Sizes
from .proposals import RegionProposals, check_counts, propose

DEFAULT_DISTANCE = 2.0
"""Patches between two anchors. Of 60 embedded scenes of two objects 63 % had one of 8 anchors on a given object
without it, and all have at this distance."""
DEFAULT_SMOOTHING = 1
"""Side of the square that attention is averaged over. With 5, and anchors 3.5 apart, the best of all boxes
has an IoU of 0.72 with a given object on 80 embedded scenes (0.61 as it is), but more anchors are on the
ground, where an editor adds an object that S likes as well as one that has changed."""
REGION_DISTANCE = 3.5
REGION_SMOOTHING = 5
"""The same where the object's region is known: then anchors on the ground do no harm."""


@dataclass(frozen=True)
class ProposalSettings:
    """Which boxes are proposed: M around each of K anchors, or with "random" the baselines of Learnable Regions.

    min_distance: least patches between two "dino" anchors; 0 as published. smoothing: side of the square of patches
    that attention is averaged over; 1 as published. None of either: see `spaced`. seed: draws what is random. Raises
    ValueError for a value out of bounds.
    """

    anchors: Anchors = "dino"
    sizes: Sizes = "learned"
    k: int = 8
    m: int = 7
    min_distance: float | None = None
    smoothing: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, choices in (("anchors", ANCHORS), ("sizes", SIZES)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, requires one of {', '.join(choices)}")
        check_counts(self, "k", "m")
        if self.min_distance is not None and not (math.isfinite(self.min_distance) and self.min_distance >= 0):
            raise ValueError(f"min_distance: got {self.min_distance}, requires a finite number of patches, 0 or more")
        if self.smoothing is not None:
            _check_side(self.smoothing)

    @property
    def random(self) -> bool:
        """Whether anchors or sizes are drawn at random."""
        return "random" in (self.anchors, self.sizes)


def propose_regions(features: PatchFeatures, settings: ProposalSettings | None = None) -> RegionProposals:
    """The boxes around anchors on the image that `features` are of (Learnable Regions §3.1).

    Raises ValueError as `dino_anchors`, `random_anchors` and `propose` do.
    """
    chosen = spaced(settings or ProposalSettings(), features)
    points = _anchor_points(features, chosen)
    return propose(points, features.grid, features.patch, features.size, chosen.m, chosen.sizes, chosen.seed)


def spaced(settings: ProposalSettings, features: PatchFeatures, *, region_known: bool = False) -> ProposalSettings:
    """The settings with numbers for a min_distance and a smoothing that are None.

    region_known: of the object to be edited; then anchors are far apart in the middle of objects, if the grid has
    room for K of them.
    """

    def defaults(distance: float, side: int) -> ProposalSettings:
        return replace(
            settings,
            min_distance=distance if settings.min_distance is None else settings.min_distance,
            smoothing=side if settings.smoothing is None else settings.smoothing,
        )

    if region_known:
        apart = defaults(REGION_DISTANCE, REGION_SMOOTHING)
        with suppress(ValueError):
            _anchor_points(features, apart)
            return apart
    return defaults(DEFAULT_DISTANCE, DEFAULT_SMOOTHING)


def _anchor_points(features: PatchFeatures, settings: ProposalSettings) -> Tensor:
    """The anchors (K, 2) of settings whose numbers are known."""
    if settings.anchors == "random":
        return random_anchors(features.grid, settings.k, settings.seed)
    assert settings.smoothing is not None and settings.min_distance is not None
    attention = smoothed(features.attention, settings.smoothing)
    return dino_anchors(attention, settings.k, min_distance=settings.min_distance)


def dino_anchors(attention: Tensor, count: int, *, min_distance: float = 0.0) -> Tensor:
    """The `count` patches that [CLS] attends to most, (K, 2) long (row, column), strongest first.

    attention: (h, w). min_distance: patches between any two anchors at least, from centre to centre; 0 takes
    the top K as published, which may all lie on one object. Ties go to the upper and left patch.
    Raises ValueError for a map that is not finite, and for more anchors than the grid has room for.
    """
    if attention.ndim != 2 or not bool(torch.isfinite(attention).all()):
        what = "" if attention.ndim != 2 else " with values that are not finite"
        raise ValueError(f"attention: got the shape {tuple(attention.shape)}{what}, requires a finite (h, w)")
    if not min_distance >= 0:
        raise ValueError(f"min_distance: got {min_distance}, requires a number of patches, 0 or more")
    rows, columns = attention.shape
    _check_count(count, (rows, columns))
    order = torch.sort(attention.detach().flatten(), descending=True, stable=True).indices.cpu()
    cells = torch.stack([order // columns, order % columns], dim=1)
    anchors: list[Tensor] = []
    for cell in cells:
        if all(float((cell - other).double().norm()) >= min_distance for other in anchors):
            anchors.append(cell)
        if len(anchors) == count:
            return torch.stack(anchors)
    raise ValueError(
        f"k: got {count} anchors at least {min_distance} patches apart, and the grid of {columns}x{rows}"
        f" patches has room for {len(anchors)}"
    )


def smoothed(attention: Tensor, side: int) -> Tensor:
    """The mean of an attention map (h, w) over a square of `side` patches around each, 0 beyond the edges.

    Its maxima are in the middle of what is attended to. Raises ValueError unless `side` is odd and positive.
    """
    _check_side(side)
    if side == 1:
        return attention
    return F.avg_pool2d(attention[None, None], side, stride=1, padding=side // 2)[0, 0]


def random_anchors(grid: tuple[int, int], count: int, seed: int = 0) -> Tensor:
    """`count` different patches drawn evenly from the grid (h, w), (K, 2) long (row, column).

    Raises ValueError for more anchors than patches.
    """
    _check_count(count, grid)
    rows, columns = grid
    order = torch.randperm(rows * columns, generator=torch.Generator().manual_seed(seed))[:count]
    return torch.stack([order // columns, order % columns], dim=1)


def _check_side(side: int) -> None:
    if side < 1 or side % 2 == 0:
        raise ValueError(f"smoothing: got {side}, requires an odd number of patches, 1 or more")


def _check_count(count: int, grid: tuple[int, int]) -> None:
    rows, columns = grid
    if not 1 <= count <= rows * columns:
        patches = f"{rows * columns}, the patches of a grid of {columns}x{rows}"
        raise ValueError(f"k: got {count} anchors, requires 1 to {patches}")
