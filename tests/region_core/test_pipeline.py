"""What may be asked of a region edit."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pinpoint.region_core.anchors import ProposalSettings
from pinpoint.region_core.pipeline import RegionRequest
from pinpoint.region_core.trainer import LearningSettings


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
        RegionRequest.from_options("a cat", "a fox", anchors=anchors, **{name: value})


def test_options_by_name_go_to_the_stage_that_they_are_of() -> None:
    asked = RegionRequest.from_options("a cat", "a fox", min_distance=0.0, smoothing=1, lr=0.1, seed=5, other=1)
    assert asked.proposals == ProposalSettings(min_distance=0.0, smoothing=1, seed=5)
    assert asked.learning == LearningSettings(lr=0.1, seed=5)
    assert RegionRequest.from_options("a cat", "a fox") == RegionRequest("a cat", "a fox")
