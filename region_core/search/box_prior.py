"""A place that an edit should keep to: how well boxes fit it, and which of them are considered at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..proposals import PixelBox, RegionProposals, box_masks
from .budget import BoxPrior

NEAR = 0.85
"""A box is near a place if it fits it at least this well, as a share of how the best of all boxes does."""
BEYOND, MISSED = 0.25, 2.0
"""What a box has beyond its place counts so much against it, and what it misses of the place so much."""
ROOM = 1 / 8
"""The box around a place has so much of its sides more on each side: one that is found is often too tight."""


def place_fits(proposals: RegionProposals, place: Tensor) -> Tensor:
    """How well each box fits a place (H, W) from 0 to 1: (K, M) float32 from 0 to 1.

    This is Tversky's index, covered / (covered + ¼·beyond + 2·missed), in pixels; IoU is that with weights of
    1. A box that cuts an object leaves a part of it beside what is drawn, so it is better a little too large.
    Raises ValueError for a place of another size than the proposals' image, and one that is empty.
    """
    if tuple(place.shape) != tuple(proposals.size):
        got, wanted = tuple(place.shape), tuple(proposals.size)
        raise ValueError(f"place: got the shape {got}, requires {wanted} like the image")
    if not bool((place > 0).any()):
        raise ValueError("place: got an empty mask, requires at least one pixel")
    place = place.cpu().double().clamp(0, 1)
    masks = box_masks([box for row in proposals.pixel_boxes() for box in row], proposals.size)[:, 0]
    covered = (masks * place).flatten(1).sum(dim=1)
    beyond, missed = masks.flatten(1).sum(dim=1) - covered, place.sum() - covered
    fits = covered / (covered + BEYOND * beyond + MISSED * missed)
    return fits.float().view(proposals.k, proposals.m)


def anchors_near(fits: Tensor) -> Tensor:
    """Which anchors have a box near the place, (K,) bool, by how well the boxes fit it (K, M)."""
    return fits.amax(dim=1) >= NEAR * fits.max()


def considered(fits: Tensor) -> Tensor:
    """Which boxes are in play, (K, M) bool: those near the place, and of an anchor without any, its best.

    Of boxes that fit equally, not at all for instance, that is the first, the smallest.
    """
    best = F.one_hot(fits.argmax(dim=1), fits.shape[1]).bool()
    return torch.where(anchors_near(fits)[:, None], fits >= NEAR * fits.max(), best)


def box_prior(proposals: RegionProposals, place: Tensor | None) -> BoxPrior:
    """What a place says of boxes before any edit: which are in play, and their losses have 1 − fit added.

    Without a place all are in play and nothing is added. Raises ValueError as `place_fits` does.
    """
    if place is None:
        return BoxPrior.unplaced(proposals)
    fits = place_fits(proposals, place)
    return BoxPrior(considered(fits), 1 - fits, tuple(anchors_near(fits).tolist()), box_around(place))


def box_around(place: Tensor) -> PixelBox:
    """The box around what is at least half as much in a place (H, W) as anything is, and `ROOM`."""
    inside = place.cpu() >= place.max().item() / 2
    rows, columns = (inside.any(dim=dim).nonzero()[:, 0].tolist() for dim in (1, 0))
    room_y, room_x = (ROOM * (cells[-1] + 1 - cells[0]) for cells in (rows, columns))
    height, width = inside.shape
    return (
        max(0, round(columns[0] - room_x)),
        max(0, round(rows[0] - room_y)),
        min(width, round(columns[-1] + 1 + room_x)),
        min(height, round(rows[-1] + 1 + room_y)),
    )
