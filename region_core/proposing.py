"""From what a ViT saw of an image to the boxes that an edit could go in: anchors, then boxes around each."""

from __future__ import annotations

from contextlib import suppress

from .anchors import (
    DEFAULT_DISTANCE,
    DEFAULT_SMOOTHING,
    PLACE_DISTANCE,
    PLACE_SMOOTHING,
    dino_anchors,
    random_anchors,
    smoothed,
)
from .encoders.vit import PatchFeatures
from .options import ANCHORS, Anchors, Sizes
from .proposals import RegionProposals, propose


def propose_regions(
    features: PatchFeatures,
    *,
    anchors: Anchors = "dino",
    k: int = 8,
    m: int = 7,
    min_distance: float = DEFAULT_DISTANCE,
    smoothing: int = DEFAULT_SMOOTHING,
    sizes: Sizes = "learned",
    seed: int = 0,
) -> RegionProposals:
    """M boxes around each of K anchors (paper §3.1): learned regions, or with "random" the paper's baselines.

    min_distance: patches between any two "dino" anchors, at least; 0 as published. smoothing: side of the
    square of patches that attention is averaged over for them; 1 as published. seed: draws what is random.
    Raises ValueError as ``dino_anchors``, ``smoothed``, ``random_anchors`` and ``propose`` do.
    """
    if anchors not in ANCHORS:
        raise ValueError(f"anchors: got {anchors!r}, requires one of {', '.join(ANCHORS)}")
    if anchors == "dino":
        attention = smoothed(features.attention, smoothing)
        points = dino_anchors(attention, k, min_distance=min_distance)
    else:
        points = random_anchors(features.grid, k, seed)
    return propose(points, features.grid, features.patch, features.size, m, sizes, seed)


def anchoring(
    features: PatchFeatures, k: int, min_distance: float | None, smoothing: int | None, *, placed: bool
) -> tuple[float, int]:
    """min_distance and smoothing of `k` "dino" anchors for `propose_regions`, with defaults for what is None.

    placed: the place of the object to be edited is known. Then anchors are far apart in the middle of objects,
    if the grid has room for that many; else they are as published but for a distance.
    """
    if placed:
        made = _or_default(min_distance, smoothing, PLACE_DISTANCE, PLACE_SMOOTHING)
        with suppress(ValueError):
            dino_anchors(smoothed(features.attention, made[1]), k, min_distance=made[0])
            return made
    return _or_default(min_distance, smoothing, DEFAULT_DISTANCE, DEFAULT_SMOOTHING)


def _or_default(min_distance: float | None, smoothing: int | None, distance: float, side: int) -> tuple[float, int]:
    return distance if min_distance is None else min_distance, side if smoothing is None else smoothing
