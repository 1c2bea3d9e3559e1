"""Masks as PIE-Bench's run lengths, (start, length, start, length, …) of the pixels inside, counted along the rows
(COCO's, which pycocotools reads, are others), and the boxes of masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .fields import Box


def decode_runs(runs: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool of the runs; a run that goes on past the last pixel ends there.

    size: (H, W). Raises ValueError for an odd number of runs' numbers, and a run that starts outside.
    """
    if len(runs) % 2:
        raise ValueError(f"mask runs: got {len(runs)} numbers, requires pairs of a start and a length")
    inside = np.zeros(size[0] * size[1], dtype=bool)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if not 0 <= start < len(inside) or length < 0:
            raise ValueError(f"mask runs leave the image of {size[1]}×{size[0]} (width×height)")
        inside[start : start + length] = True
    return inside.reshape(size)


def encode_runs(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """The runs of a mask (H, W)."""
    edges = np.diff(np.concatenate([[0], mask.ravel().astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return tuple(np.stack([starts, ends - starts], axis=1).ravel().tolist())


def box_of_mask(mask: NDArray[np.bool_]) -> Box:
    """(x0, y0, x1, y1) around a mask (H, W) that is not empty, x1 and y1 exclusive."""
    import torch
    from torchvision.ops import masks_to_boxes

    x0, y0, x1, y1 = masks_to_boxes(torch.from_numpy(mask)[None])[0].tolist()
    return x0, y0, x1 + 1, y1 + 1
