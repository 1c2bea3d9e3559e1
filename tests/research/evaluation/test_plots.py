"""IoU curves and the plots that go into a page."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import pytest

from pinpoint.research.evaluation.report.plots import Curve, intervals_svg, iou_curves, iou_curves_svg
from pinpoint.research.evaluation.report.tables import summarise


def row(item: str, method: str, *curves: list[float], error: str | None = None) -> dict[str, Any]:
    words = {f"word{k}": {"iou_after": max(curve), "iou_curve": curve} for k, curve in enumerate(curves)}
    return {"item": item, "method": method, "words": words, "metrics": {"psnr": 20.0}, "error": error}


def test_a_curve_is_the_mean_over_an_images_words_and_then_over_images() -> None:
    rows = [row("0", "a", [0.2, 0.4], [0.4, 0.8]), row("1", "a", [0.9, 0.0]), row("2", "a", error="it broke")]
    found = iou_curves(rows)["a"]
    assert found.count == 2
    assert found.mean == pytest.approx((0.6, 0.3))
    # Of two images, a quarter of the draws is one of them twice: the interval's ends are the two images.
    assert found.low == pytest.approx((0.3, 0.0)) and found.high == pytest.approx((0.9, 0.6))


def test_rows_without_words_have_no_curve_and_lengths_must_agree() -> None:
    assert iou_curves([row("0", "a")]) == {}
    with pytest.raises(ValueError, match=r"IoU curves of \[1, 2\] thresholds"):
        iou_curves([row("0", "a", [0.1]), row("1", "a", [0.1, 0.2])])


def parsed(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)


def text_of(svg: str) -> str:
    return " ".join(
        "".join(element.itertext()).strip() for element in parsed(svg).iter() if element.tag.endswith("text")
    )


def test_a_plot_takes_the_pages_colour_and_fetches_nothing() -> None:
    curves = {
        "mine & yours": Curve((0.2, 0.6), (0.1, 0.5), (0.3, 0.7), 3),
        "b": Curve((0.1, 0.3), (0.1, 0.3), (0.1, 0.3), 1),
    }
    svg = iou_curves_svg(curves, (0.25, 0.75))
    assert "mine & yours (best 0.60)" in text_of(svg)
    assert "currentColor" in svg and "#010203" not in svg
    assert not re.search(r"(?:href|src)=\"(?!#)|url\((?!#)|<style|<script", svg)
    assert parsed(svg).attrib["role"] == "img"
    assert svg == iou_curves_svg(curves, (0.25, 0.75))


def test_intervals_name_what_they_show() -> None:
    rows = [row("0", "a"), row("1", "a"), row("0", "other"), row("1", "other")]
    assert {"a", "other", "PSNR", "(dB)"} <= set(text_of(intervals_svg(summarise(rows, ["psnr", "ssim"]))).split())


def test_nothing_to_plot_is_refused() -> None:
    with pytest.raises(ValueError, match="got none"):
        iou_curves_svg({}, (0.5,))
    with pytest.raises(ValueError, match="got 1 values, requires 2"):
        iou_curves_svg({"a": Curve((0.1,), (0.1,), (0.1,), 1)}, (0.2, 0.4))
