"""Priors from COCO's `segmentation` field: polygons and run-length encodings, decoded by pycocotools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...extras import require
from ..priors import Kind, LocalizationPrior, Size, from_masks
from .registry import PriorSource

if TYPE_CHECKING:
    from torch import Tensor


def from_coco(segmentations: Mapping[str, Any], size: Size, *, kind: Kind = "segment") -> LocalizationPrior:
    """A prior from COCO `segmentation`s by word, each as `coco_mask` takes it; size: (H, W) of the image."""
    return from_masks({word: coco_mask(word, given, size) for word, given in segmentations.items()}, kind=kind)


def coco_mask(word: str, given: Any, size: Size) -> np.ndarray:
    """(H, W) uint8 0/1 of polygons, a compressed or uncompressed RLE, an annotation that holds one, or a list
    of these.

    word: named in errors. size: (H, W) of the image.
    Raises ValueError for what is none of these, an RLE of another size or length, a polygon outside the image.
    """
    coco = require("pycocotools.mask", "evaluate")

    if isinstance(given, Mapping):
        if "segmentation" in given:
            return coco_mask(word, given["segmentation"], size)
        return coco.decode(_rle(word, given, size))
    if not isinstance(given, Sequence) or isinstance(given, (str, bytes)) or not given:
        raise ValueError(f"COCO segmentation of {word!r} is {given!r}: require polygons or an RLE of size and counts")
    if not all(isinstance(value, (int, float)) for value in given):
        return np.maximum.reduce([coco_mask(word, part, size) for part in given])
    return coco.decode(coco.frPyObjects([_polygon(word, given, size)], *size))[..., 0]


def _polygon(word: str, given: Sequence[float], size: Size) -> list[float]:
    height, width = size
    if len(given) < 6 or len(given) % 2:
        raise ValueError(f"COCO polygon of {word!r} has {len(given)} numbers: require x, y of at least three points")
    # Annotations overshoot the border by rounding, hence the pixel of tolerance.
    if not all(-1 <= x <= width + 1 for x in given[::2]) or not all(-1 <= y <= height + 1 for y in given[1::2]):
        raise ValueError(
            f"COCO polygon of {word!r} leaves the image: require finite x from 0 to {width} and y from 0 to {height}"
        )
    return [float(value) for value in given]


def _rle(word: str, given: Mapping[str, Any], size: Size) -> dict[str, Any]:
    """The RLE, compressed and checked: pycocotools decodes runs that end early to uninitialised memory."""
    coco = require("pycocotools.mask", "evaluate")

    if not {"size", "counts"} <= given.keys():
        raise ValueError(f"COCO RLE of {word!r} has the keys {sorted(given)}: require size and counts")
    try:
        rows, columns = (int(value) for value in given["size"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"COCO RLE of {word!r} cannot be read: {error}") from error
    if (rows, columns) != tuple(size):
        raise ValueError(
            f"COCO RLE of {word!r} is {columns}×{rows} (width×height) "
            f"and the image is {size[1]}×{size[0]}: require the same size"
        )
    counts = given["counts"]
    try:
        if isinstance(counts, (str, bytes)):
            counts = counts.encode("ascii") if isinstance(counts, str) else counts
            rle = {"size": [rows, columns], "counts": counts}
            # What is encoded again has runs over all pixels.
            whole = coco.encode(np.asfortranarray(coco.decode(rle)))["counts"] == counts
        else:
            rle = coco.frPyObjects({"size": [rows, columns], "counts": list(counts)}, rows, columns)
            whole = sum(counts) == rows * columns
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"COCO RLE of {word!r} cannot be read: {error}") from error
    if not whole:
        raise ValueError(f"COCO RLE of {word!r}: its runs do not cover the image's {rows * columns} pixels")
    return rle


def _from_text(word: str, given: str, image: Tensor) -> LocalizationPrior:
    try:
        segmentation = json.loads(Path(given).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"COCO file {given!r} of {word!r} cannot be read: {error}") from error
    return from_coco({word: segmentation}, (image.shape[-2], image.shape[-1]))


PRIOR_SOURCE = PriorSource("a COCO annotation, or its segmentation", "FILE.json", _from_text)
