"""The regions command's report: the boxes that were edited, and numbers that JSON has."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pinpoint.cli.report import write_json
from pinpoint.tests.cli.regions_runs import pinpoint_regions, pixels_of, report_of


def test_the_box_of_the_report_is_the_one_that_was_edited(image, models, tmp_path):
    # Random sides are fractions of pixels; the editor's box is not.
    more = ("--anchors", "random", "--sizes", "random", "--k", "3", "--window", "0", "--seed", "3")
    assert pinpoint_regions(image, models, tmp_path, *more) == 0
    report = report_of(tmp_path)
    boxes = [report["box"], *(candidate["box"] for candidate in report["candidates"])]
    assert all(type(side) is int for box in boxes for side in box)
    assert all(candidate["box"] in report["boxes"][candidate["index"]] for candidate in report["candidates"])
    changed = (pixels_of(image) != pixels_of(tmp_path / "edited.png")).any(axis=-1)
    down, across = np.nonzero(changed)
    assert report["box"] == [across.min(), down.min(), across.max() + 1, down.max() + 1]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_report_with_a_number_that_json_lacks_is_refused_and_nothing_is_written(value, tmp_path):
    with pytest.raises(ValueError, match=r"report\.json: a figure is NaN or infinite"):
        write_json({"losses": [1.0, value]}, tmp_path / "report.json")
    assert list(tmp_path.iterdir()) == []
