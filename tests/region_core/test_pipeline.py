"""What may be asked of a region edit."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pinpoint.region_core.pipeline import RegionRequest


@pytest.mark.parametrize("anchors", ["dino", "random"])
@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("min_distance", math.nan, "a finite number of patches, 0 or more"),
        ("min_distance", math.inf, "a finite number of patches, 0 or more"),
        ("min_distance", -1.0, "a finite number of patches, 0 or more"),
        ("smoothing", 4, "an odd number of patches, 1 or more"),
        ("smoothing", -1, "an odd number of patches, 1 or more"),
    ],
)
def test_spacing_out_of_bounds_is_refused_whatever_the_anchors(
    anchors: Any, name: str, value: float, wanted: str
) -> None:
    with pytest.raises(ValueError, match=f"{name}: got {value}, requires {wanted}"):
        RegionRequest("a cat", "a fox", anchors=anchors, **{name: value})  # type: ignore[arg-type]


def test_no_spacing_at_all_may_be_asked_for() -> None:
    request = RegionRequest("a cat", "a fox", min_distance=0.0, smoothing=1)
    assert (request.min_distance, request.smoothing) == (0.0, 1)
    usual = RegionRequest("a cat", "a fox")
    assert usual.min_distance is None and usual.smoothing is None
