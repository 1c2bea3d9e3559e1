"""Which pixels of an array are inside a mask: two values, soft edges, or one id of a label map."""

from __future__ import annotations

import numpy as np

_SOFT_ENDS = 0.12
"""Values so near to the least or the greatest, as a share of the range between, count as fully outside or inside."""
_FLAT = 0.3
"""Intermediate values that lie in flat regions to more than this share are ids, not soft edges."""
_MANY = 16
"""A mask of more values than this may have noise around its least and greatest, as JPEG adds."""


def inside_by_values(name: str, values: np.ndarray, *, photograph: bool = False) -> np.ndarray:
    """(H, W) bool of whole numbers or floats (H, W), larger inside.

    Of two values the larger is inside. Soft edges are cut at half of 1, 255 or 65535, or of the greatest value where
    that is less than half of it. Raises ValueError for a label map of several ids, listing them, for a negative or
    non-finite value, and, where `photograph` is true, for values that are mostly in between.
    """
    low, high = float(values.min()), float(values.max())
    full = next((limit for limit in (1, 255, 65535) if high <= limit), None)
    if not (np.isfinite(values).all() and low >= 0) or full is None:
        raise ValueError(f"{name} has values from {low:g} to {high:g}: require 0 to 1, 255 or 65535")
    found = np.unique(values)
    if len(found) == 1:
        return np.full(values.shape, bool(high > 0))
    if len(found) == 2:
        if 0 < low and high < full / 2:
            raise ValueError(_ids_message(name, found))
        return np.asarray(values == high)
    margin = _SOFT_ENDS * (high - low) if len(found) > _MANY else 0
    between = (values > low + margin) & (values < high - margin)
    if between.any() and np.issubdtype(values.dtype, np.integer):
        from scipy import ndimage

        flat = ndimage.maximum_filter(values, 3) == ndimage.minimum_filter(values, 3)
        if flat[between].mean() > _FLAT:
            raise ValueError(_ids_message(name, found))
    margin = _SOFT_ENDS * (high - low)
    share = float(((values > low + margin) & (values < high - margin)).mean())
    if photograph and share > 0.5:
        raise ValueError(
            f"{name} looks like a photograph: {share:.0%} of its pixels are neither black nor white; requires a mask,"
            " white on the object and black elsewhere, or transparency around the object"
        )
    return np.asarray(values * 2.0 >= (full if high * 2 >= full else high))


def inside_by_id(name: str, values: np.ndarray, wanted: int) -> np.ndarray:
    """(H, W) bool: where a label map is `wanted`. Raises ValueError, listing its ids, where it has no such id."""
    inside = np.asarray(values == wanted)
    if not inside.any():
        raise ValueError(f"{name} has no id {wanted}; it has the ids {_listed(np.unique(values))}")
    return inside


def _ids_message(name: str, found: np.ndarray) -> str:
    return f"{name} is a label map with the ids {_listed(found)}: require one of them, as FILE#ID"


def _listed(found: np.ndarray) -> str:
    return ", ".join(f"{value:g}" for value in found[:12].tolist()) + (" …" if len(found) > 12 else "")
