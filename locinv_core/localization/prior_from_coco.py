"""COCO's `segmentation` field as a mask: polygons and run-length encodings, decoded by pycocotools.

pycocotools trusts its input (a short RLE gives uninitialised memory), so all is checked before it decodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def coco_mask(word: str, given: Any, size: tuple[int, int]) -> np.ndarray:
    """(H, W) uint8 0/1 of polygons, a compressed or uncompressed RLE, an annotation that holds one, or a list
    of these.

    word: named in errors. size: (H, W) of the image.
    Raises ValueError for what is none of these, an RLE of another size, a polygon that leaves the image.
    """
    from pycocotools import mask as coco

    height, width = size
    if isinstance(given, Mapping):
        if "segmentation" in given:
            return coco_mask(word, given["segmentation"], size)
        rle = _checked_rle(word, given, size)
        return coco.decode(rle if isinstance(rle["counts"], bytes) else coco.frPyObjects(rle, height, width))
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)) or not given:
        raise ValueError(f"COCO segmentation of {word!r} is {given!r}: require polygons or an RLE of size and counts")
    if not all(isinstance(value, (int, float)) for value in given):
        return np.maximum.reduce([coco_mask(word, part, size) for part in given])
    return coco.decode(coco.frPyObjects([_checked_polygon(word, given, size)], height, width))[..., 0]


def _checked_polygon(word: str, given: Sequence[float], size: tuple[int, int]) -> list[float]:
    height, width = size
    polygon = np.asarray(given, dtype=np.float64)
    if len(polygon) < 6 or len(polygon) % 2:
        raise ValueError(f"COCO polygon of {word!r} has {len(polygon)} numbers: require x, y of at least three points")
    # Annotations overshoot the border by rounding, hence the pixel of tolerance.
    limits = np.tile([width, height], len(polygon) // 2) + 1
    if not (np.isfinite(polygon) & (polygon >= -1) & (polygon <= limits)).all():
        raise ValueError(
            f"COCO polygon of {word!r} leaves the image: require finite x from 0 to {width} and y from 0 to {height}"
        )
    return polygon.tolist()


def _checked_rle(word: str, given: Mapping[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """The RLE with its counts as bytes (compressed) or a list of integers, of the image's size and all its
    pixels."""
    if not {"size", "counts"} <= given.keys():
        raise ValueError(f"COCO RLE of {word!r} has the keys {sorted(given)}: require size and counts")
    try:
        rows, columns = (int(value) for value in given["size"])
        counts = given["counts"]
        if isinstance(counts, (str, bytes)):
            counts = counts.encode("ascii") if isinstance(counts, str) else counts
            runs = _runs(counts)
        else:
            counts = runs = [int(tracker) for tracker in counts]
    except (TypeError, ValueError, IndexError) as error:
        raise ValueError(f"COCO RLE of {word!r} cannot be read: {error}") from error
    if (rows, columns) != tuple(size):
        raise ValueError(
            f"COCO RLE of {word!r} is {columns}×{rows} (width×height) "
            f"and the image is {size[1]}×{size[0]}: require the same size"
        )
    if any(tracker < 0 for tracker in runs) or sum(runs) != rows * columns:
        raise ValueError(f"COCO RLE of {word!r}: its runs cover {sum(runs)} pixels and the image has {rows * columns}")
    return {"size": [rows, columns], "counts": counts}


def _runs(counts: bytes) -> list[int]:
    """The run lengths of COCO's compressed counts, to check them: base 32, low digits first, differences from
    the last but one run."""
    runs: list[int] = []
    position = 0
    while position < len(counts):
        value, shift, more = 0, 0, True
        while more:
            digit = counts[position] - 48  # IndexError: the string ends inside a number
            if not 0 <= digit < 64:
                raise ValueError(f"byte {counts[position]} is not part of compressed counts")
            value |= (digit & 31) << shift
            more = bool(digit & 32)
            position, shift = position + 1, shift + 5
        if digit & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
