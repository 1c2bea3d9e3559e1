"""Box proposals {B_j} around each anchor, their masks, and the features inside them (Learnable Regions Eq. 1).

The published boxes are j × j. Ours grow by whole patches on each side of the anchor's, so that every box is
centred on its anchor and ends between two patches.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from .options import SIZES, Sizes

PixelBox = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels, x1 and y1 exclusive."""

POOLED = 7
"""l: the side that RoI pooling brings every box to."""

_PATCHES_PER_REACH = 16


@dataclass(frozen=True, eq=False)
class RegionProposals:
    """M boxes around each of K anchors on one image of `size` (H, W), `grid` (h, w) patches of `patch` pixels.

    anchors: (K, 2) long, row and column of each anchor's patch. boxes: (K, M, 4) float32, pixels: x0, y0, x1, y1,
    the last two exclusive; clipped to the image.
    """

    anchors: Tensor
    boxes: Tensor
    grid: tuple[int, int]
    patch: int
    size: tuple[int, int]

    def __post_init__(self) -> None:
        shape = tuple(self.boxes.shape)
        if self.boxes.ndim != 3 or shape[2] != 4 or tuple(self.anchors.shape) != (shape[0], 2):
            raise ValueError(
                f"proposals: got boxes {shape} and anchors {tuple(self.anchors.shape)}, requires (K, M, 4) and (K, 2)"
            )
        for box in self.boxes.flatten(0, 1):
            pixel_box(box, self.size)

    @property
    def k(self) -> int:
        return int(self.boxes.shape[0])

    @property
    def m(self) -> int:
        return int(self.boxes.shape[1])

    def pixel_boxes(self) -> list[list[PixelBox]]:
        """The boxes of each anchor in whole pixels; clipping makes some of them the same."""
        return [[pixel_box(box, self.size) for box in boxes] for boxes in self.boxes]


def propose(
    anchors: Tensor,
    grid: tuple[int, int],
    patch: int,
    size: tuple[int, int],
    m: int = 7,
    sizes: Sizes = "learned",
    seed: int = 0,
    *,
    reach: int | None = None,
) -> RegionProposals:
    """Boxes around `anchors` (K, 2) on an image of `size` (H, W) with a `grid` (h, w) of `patch` pixels.

    "learned": M squares for the network to choose from; the j-th has the anchor's patch in the middle and
    `reach`·j patches beyond it on every side (None: a 16th of the grid's shorter side, as the published
    code's steps), clipped to the image. "random", a published baseline: one box an anchor with height and
    width drawn evenly from [0, H] and [0, W], clipped, but never under a patch; `m` and `reach` are not read.
    Raises ValueError for anchors off the grid, an image smaller than a patch, a grid that is not the
    image's, and an M whose last square would grow no more around any anchor.
    """
    if sizes not in SIZES:
        raise ValueError(f"sizes: got {sizes!r}, requires one of {', '.join(SIZES)}")
    _check_grid(anchors, grid, patch, size)
    centres = anchors.flip(1).cpu()  # (x, y)
    if sizes == "random":
        boxes = _random_boxes(centres, patch, size, seed)
    else:
        step = default_reach(grid) if reach is None else reach
        if step < 1:
            raise ValueError(f"reach: got {step}, requires 1 patch or more")
        most = -(-(max(grid) - 1) // step) if max(grid) > 1 else 1
        if not 1 <= m <= most:
            raise ValueError(
                f"m: got {m} boxes an anchor, requires 1 to {most}: on a grid of {grid[1]}x{grid[0]} patches a"
                " square that grows further is the whole image, wherever its anchor"
            )
        reaches = step * torch.arange(1, m + 1)[None, :, None]
        low = (centres[:, None] - reaches) * patch
        high = (centres[:, None] + reaches + 1) * patch
        boxes = torch.cat([low, high], dim=-1).float()
    height, width = size
    limits = torch.tensor([width, height, width, height], dtype=torch.float32)
    return RegionProposals(anchors.cpu(), boxes.clamp_min(0).minimum(limits), grid, patch, size)


def default_reach(grid: tuple[int, int]) -> int:
    """Patches by which each square outgrows the one before it on every side."""
    return max(1, round(min(grid) / _PATCHES_PER_REACH))


def pixel_box(box: Tensor | Sequence[float], size: tuple[int, int]) -> PixelBox:
    """A box rounded to whole pixels. Raises ValueError if it has none or leaves the image (H, W)."""
    values = [float(value) for value in box]
    height, width = size
    x0, y0, x1, y1 = (math.floor(value + 0.5) for value in values)
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise ValueError(f"box: got {values}, requires x0 < x1 and y0 < y1 inside {width}x{height} pixels")
    return x0, y0, x1, y1


def check_counts(settings: object, *names: str) -> None:
    """Raise ValueError unless each of these settings is at least 1."""
    for name in names:
        if getattr(settings, name) < 1:
            raise ValueError(f"{name}: got {getattr(settings, name)}, requires 1 or more")


def box_masks(boxes: Sequence[PixelBox], size: tuple[int, int]) -> Tensor:
    """Masks (B, 1, H, W) float32: 1 inside each box, 0 outside."""
    masks = torch.zeros(len(boxes), 1, *size)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[:, y0:y1, x0:x1] = 1
    return masks


def roi_features(features: Tensor, boxes: Tensor, patch: int) -> Tensor:
    """f_j = ROI-pool(F, B_j), and [f_1 … f_M] joined on channels (Learnable Regions Eq. 1).

    features: (d, h, w). boxes: (K, M, 4) in pixels. The result is (K, M·d, 7, 7); for boxes (M, 4) of one
    anchor it is (M·d, 7, 7). A patch's feature stands at its middle (RoIAlign, `aligned`).
    """
    from torchvision.ops import roi_align

    flat = boxes.to(features).reshape(-1, 4)
    pooled = roi_align(features[None], [flat], POOLED, spatial_scale=1 / patch, sampling_ratio=2, aligned=True)
    joined = rearrange(pooled, "(k m) d h w -> k (m d) h w", m=boxes.shape[-2])
    return joined if boxes.ndim == 3 else joined[0]


def _random_boxes(centres: Tensor, patch: int, size: tuple[int, int], seed: int) -> Tensor:
    drawn = torch.rand(len(centres), 1, 2, generator=torch.Generator().manual_seed(seed))
    sides = (drawn * torch.tensor([size[1], size[0]])).clamp_min(patch)
    # The middle of a patch that reaches beyond the image may leave less than a patch of a box in it.
    furthest = torch.tensor([size[1], size[0]]) - patch / 2
    middles = ((centres[:, None] + 0.5) * patch).minimum(furthest)
    return torch.cat([middles - sides / 2, middles + sides / 2], dim=-1)


def _check_grid(anchors: Tensor, grid: tuple[int, int], patch: int, size: tuple[int, int]) -> None:
    height, width = size
    if patch < 1 or min(size) < patch:
        raise ValueError(f"image: got {width}x{height} pixels, requires at least a patch of {patch}")
    wanted = (-(-height // patch), -(-width // patch))
    if tuple(grid) != wanted:
        raise ValueError(f"grid: got {tuple(grid)}, requires {wanted}, patches of {patch} on {width}x{height}")
    fits = anchors.ndim == 2 and anchors.shape[1] == 2 and len(anchors) > 0 and anchors.dtype == torch.long
    if not fits or not bool(((anchors >= 0) & (anchors.cpu() < torch.tensor(grid))).all()):
        raise ValueError(
            f"anchors: got {tuple(anchors.shape)} {anchors.dtype}, requires (K, 2) long rows and columns inside"
            f" a grid of {grid[0]} rows and {grid[1]} columns"
        )
