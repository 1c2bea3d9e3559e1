"""COCO's segmentations: polygons and run-length encodings, as pycocotools writes them and drawn by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pycocotools", reason="the extra `evaluate` is not installed")

from pycocotools import mask as coco

from pinpoint.locinv_core.localization.prior_sources.from_coco import from_coco
from pinpoint.tests.fixtures.drawn_prior import DRAWN, SIZE, drawn


def rle_of(mask: np.ndarray) -> dict:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, beginning with the zeros."""
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel == value:
            runs[-1] += 1
        else:
            runs.append(1)
            value = pixel
    return runs


def test_polygons_and_both_kinds_of_rle_give_the_drawn_mask() -> None:
    polygon = [2, 1, 7, 1, 7, 4, 2, 4]
    compressed = rle_of(DRAWN)
    for segmentation in (
        [polygon],
        polygon,
        [[2, 1, 5, 1, 5, 4, 2, 4], [4, 1, 7, 1, 7, 4, 4, 4]],
        compressed,
        {**compressed, "counts": compressed["counts"].decode()},
        {"size": list(SIZE), "counts": runs_of(DRAWN)},
        {"segmentation": [polygon], "bbox": [2, 1, 5, 3]},
        [{"size": list(SIZE), "counts": runs_of(DRAWN)}, {"segmentation": [polygon]}],
    ):
        prior = from_coco({"cat": segmentation}, SIZE)
        assert torch.equal(prior.mask("cat"), drawn()), segmentation
        assert prior.kind == "segment"


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_rle_is_read_as_pycocotools_wrote_it(height: int, width: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random((height, width)) < generator.random()
    mask[generator.integers(height), generator.integers(width)] = True
    for segmentation in (rle_of(mask), {"size": [height, width], "counts": runs_of(mask)}):
        read = from_coco({"cat": segmentation}, (height, width)).mask("cat")
        assert np.array_equal(read.numpy(), mask)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "require polygons or an RLE"),
        ("cat", "require polygons or an RLE"),
        (None, "require polygons or an RLE"),
        ([[1, 1, 4, 4]], "has 4 numbers: require x, y of at least three points"),
        ([[1, 1, 4, 4, 5, 5, 6]], "has 7 numbers"),
        ([[1, 1, 40, 1, 4, 4]], "leaves the image: require finite x from 0 to 8 and y from 0 to 6"),
        ([[1, 1, float("nan"), 1, 4, 4]], "leaves the image"),
        ({"size": [6, 8]}, "require size and counts"),
        ({"size": [8, 6], "counts": [10, 38]}, "is 6×8 .* and the image is 8×6"),
        ({"size": [6, 8], "counts": [10, 10]}, "do not cover the image's 48 pixels"),
        ({"size": [6, 8], "counts": [-1, 49]}, "cannot be read"),
        ({"size": [6, 8], "counts": [48]}, "'cat' is empty"),
        ({"size": [6, 8], "counts": "5"}, "do not cover"),
        ({"size": [6, 8], "counts": ""}, "do not cover"),
        ({"size": [6, 8], "counts": "!!!"}, "cannot be read"),
        ({"size": [6, 8], "counts": "é"}, "cannot be read"),
        ({"size": [6, 8], "counts": "oo"}, "cannot be read"),
        ({"size": 6, "counts": "5"}, "cannot be read"),
    ],
)
def test_a_malformed_segmentation_is_refused(segmentation: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_coco({"cat": segmentation}, SIZE)
