"""A region that an edit should keep to: how well boxes fit it, and which of them are considered at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor
from torchvision.ops import masks_to_boxes

from ..proposals import PixelBox, RegionProposals, box_masks
from .base import BoxPrior

IN_REGION = 0.85
"""A box is in a region if it fits it at least this well, as a share of how the best of all boxes does."""
BEYOND, MISSED = 0.25, 2.0
"""What a box has beyond the region counts so much against it, and what it misses of the region so much."""
ROOM = 1 / 8
"""The box around a region is enlarged by this share of its sides on each: a region found is often too tight."""


def region_fits(proposals: RegionProposals, region_mask: Tensor) -> Tensor:
    """How well each box fits a region (H, W) from 0 to 1: (K, M) float32 from 0 to 1.

    This is Tversky's index, covered / (covered + ¼·beyond + 2·missed), in pixels (IoU has weights of 1): a box that
    cuts an object leaves a part of it beside what is drawn.
    Raises ValueError for a region of another size than the proposals' image, and one that is empty.
    """
    if tuple(region_mask.shape) != tuple(proposals.size):
        got, wanted = tuple(region_mask.shape), tuple(proposals.size)
        raise ValueError(f"region_mask: got the shape {got}, requires {wanted} like the image")
    if not bool((region_mask > 0).any()):
        raise ValueError("region_mask: got an empty mask, requires at least one pixel")
    region = region_mask.cpu().double().clamp(0, 1)
    masks = box_masks([box for row in proposals.pixel_boxes() for box in row], proposals.size)[:, 0]
    covered = (masks * region).flatten(1).sum(dim=1)
    beyond, missed = masks.flatten(1).sum(dim=1) - covered, region.sum() - covered
    fits = covered / (covered + BEYOND * beyond + MISSED * missed)
    return rearrange(fits.float(), "(k m) -> k m", k=proposals.k)


def anchors_in_region(fits: Tensor) -> Tensor:
    """Which anchors have a box in the region, (K,) bool, by how well the boxes fit it (K, M)."""
    return fits.amax(dim=1) >= IN_REGION * fits.max()


def considered(fits: Tensor) -> Tensor:
    """Which boxes are considered, (K, M) bool: those in the region, and of an anchor without any, its first best."""
    best = F.one_hot(fits.argmax(dim=1), fits.shape[1]).bool()
    return torch.where(anchors_in_region(fits)[:, None], fits >= IN_REGION * fits.max(), best)


def region_prior(proposals: RegionProposals, region_mask: Tensor) -> BoxPrior:
    """Which boxes are considered in a region (H, W), and 1 − their fit, added to their losses; raises as
    `region_fits`."""
    fits = region_fits(proposals, region_mask)
    inside = tuple(anchors_in_region(fits).tolist())
    return BoxPrior(considered(fits), 1 - fits, inside, box_around(region_mask))


def box_around(region_mask: Tensor) -> PixelBox:
    """The box around the pixels of a region (H, W) of at least half its maximum, and `ROOM`."""
    inside = region_mask.cpu() >= region_mask.max().item() / 2
    x0, y0, x1, y1 = masks_to_boxes(inside[None])[0].long().tolist()  # x1 and y1 are the last pixels
    room_x, room_y = ROOM * (x1 + 1 - x0), ROOM * (y1 + 1 - y0)
    height, width = inside.shape
    low = max(0, round(x0 - room_x)), max(0, round(y0 - room_y))
    return *low, min(width, round(x1 + 1 + room_x)), min(height, round(y1 + 1 + room_y))
