"""Masks as runs, the form in which PIE-Bench keeps them: (start, length, start, length, …) of the pixels
inside, counted along the rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def decode_runs(runs: Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W) bool of the runs; a run that goes on past the last pixel ends there.

    size: (H, W). Raises ValueError for an odd number of runs' numbers, and a run that starts outside.
    """
    pixels = size[0] * size[1]
    pairs = np.asarray(runs, dtype=np.int64)
    if len(pairs) % 2:
        raise ValueError(f"mask runs: got {len(pairs)} numbers, requires pairs of a start and a length")
    starts, lengths = pairs[::2], pairs[1::2]
    if ((starts < 0) | (starts >= pixels) | (lengths < 0)).any():
        raise ValueError(f"mask runs leave the image of {size[1]}×{size[0]} (width×height)")
    edges = np.zeros(pixels + 1, dtype=np.int64)
    np.add.at(edges, starts, 1)
    np.add.at(edges, np.minimum(starts + lengths, pixels), -1)
    inside: NDArray[np.bool_] = (np.cumsum(edges[:-1]) > 0).reshape(size)
    return inside


def encode_runs(mask: NDArray[np.bool_]) -> tuple[int, ...]:
    """The runs of a mask (H, W)."""
    edges = np.diff(np.concatenate([[0], mask.ravel().astype(np.int8), [0]]))
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    return tuple(np.stack([starts, ends - starts], axis=1).ravel().tolist())
