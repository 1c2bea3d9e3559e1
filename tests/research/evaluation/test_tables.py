"""Tables of results, on rows made by hand whose means are known, and against a bootstrap of its own."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from pinpoint.research.evaluation.metrics.registry import METRICS, value_of
from pinpoint.research.evaluation.report.tables import (
    csv_table,
    markdown_table,
    metrics_in,
    summarise,
    summarise_groups,
    write_tables,
)


def row(item: str, method: str, **fields: Any) -> dict[str, Any]:
    metrics = {name: value for name, value in fields.items() if name in METRICS}
    rest = {name: value for name, value in fields.items() if name not in metrics}
    return {"item": item, "method": method, "metrics": metrics, "words": {}, "error": None, **rest}


def rows_of(**methods: Sequence[float | None]) -> list[dict[str, Any]]:
    """Rows with a PSNR for each method and item "0", "1" …; None is an image that failed."""
    return [
        row(str(k), method, psnr=value) if value is not None else row(str(k), method, error="it broke")
        for method, values in methods.items()
        for k, value in enumerate(values)
    ]


def bootstrap(values: list[float], draws: int, seed: int) -> tuple[float, float]:
    """The percentile interval of the mean, drawing items one by one with Python's own generator."""
    draw = random.Random(seed)
    means = sorted(sum(draw.choice(values) for _ in values) / len(values) for _ in range(draws))
    return means[round(0.025 * draws)], means[round(0.975 * draws)]


def test_means_counts_and_failures_are_those_of_the_rows() -> None:
    summary = summarise(rows_of(a=[20.0, 30.0, 40.0], b=[10.0, None, 12.0]), ["psnr", "ssim"])
    first, second = summary.methods
    assert summary.items == 3
    assert (first.method, first.items, first.failures) == ("a", 3, 0)
    assert (second.method, second.items, second.failures) == ("b", 3, 1)
    assert (first.estimates["psnr"].mean, first.estimates["psnr"].count) == (30.0, 3)
    assert (second.estimates["psnr"].mean, second.estimates["psnr"].count) == (11.0, 2)
    assert second.estimates["ssim"].mean is None and second.estimates["ssim"].count == 0


def test_the_interval_is_the_percentile_bootstrap_of_the_mean() -> None:
    normal = random.Random(4)
    values = [normal.gauss(25, 3) for _ in range(30)]
    low, high = bootstrap(values, 20_000, seed=1)
    found = summarise(rows_of(a=values), ["psnr"], draws=20_000).methods[0].estimates["psnr"]
    assert found.low == pytest.approx(low, abs=0.05)
    assert found.high == pytest.approx(high, abs=0.05)
    assert high - low > 1


def test_one_item_has_a_mean_but_no_interval() -> None:
    found = summarise(rows_of(a=[20.0]), ["psnr"]).methods[0].estimates["psnr"]
    assert (found.mean, found.low, found.high) == (20.0, None, None)


def test_the_same_seed_gives_the_same_table_and_another_seed_another() -> None:
    rows = rows_of(a=[1.03**k for k in range(40)], b=[20 - 0.9**k for k in range(40)])
    assert summarise(rows, ["psnr"], seed=3) == summarise(rows, ["psnr"], seed=3)
    assert summarise(rows, ["psnr"], seed=3) != summarise(rows, ["psnr"], seed=4)


def test_methods_are_compared_on_the_same_draws() -> None:
    """One dB behind on every image is one dB behind in every draw, however much images differ."""
    values = [10.0, 20.0, 30.0, 40.0, 50.0]
    best, behind = summarise(rows_of(a=values, b=[v - 1 for v in values]), ["psnr"]).methods
    found = behind.estimates["psnr"]
    assert (found.behind_low, found.behind_high) == pytest.approx((-1.0, -1.0))
    assert not found.like_the_best
    assert found.high is not None and best.estimates["psnr"].low is not None
    assert found.high > best.estimates["psnr"].low
    assert best.estimates["psnr"].behind_low is None and not best.estimates["psnr"].like_the_best


def test_what_cannot_be_told_from_the_best_is_marked() -> None:
    a, b = [20.0, 30.0, 25.0, 35.0], [30.0, 20.0, 34.0, 25.5]
    second = summarise(rows_of(a=a, b=b), ["psnr"]).methods[1].estimates["psnr"]
    assert second.rank == 2 and second.like_the_best


def test_best_and_second_follow_the_metrics_direction() -> None:
    rows = [row("0", name, psnr=v, mse=v / 1000) for name, v in (("a", 1.0), ("b", 3.0), ("c", 2.0))]
    lines = summarise(rows, ["psnr", "mse"]).methods
    assert [line.estimates["psnr"].rank for line in lines] == [None, 1, 2]
    assert [line.estimates["mse"].rank for line in lines] == [1, None, 2]


def test_values_that_print_alike_are_marked_alike() -> None:
    lines = summarise(rows_of(a=[20.001], b=[20.002], c=[19.0], d=[18.0]), ["psnr"]).methods
    assert [line.estimates["psnr"].rank for line in lines] == [1, 1, 2, None]


def test_what_is_the_same_for_every_method_is_marked_for_none() -> None:
    rows = [row(item, "a", clip_score_source=value) for item, value in (("0", 30.0), ("1", 20.0))]
    rows += [row("0", "b", clip_score_source=30.0), row("1", "b", error="it broke")]
    summary = summarise(rows, ["clip_score_source"])
    found = [line.estimates["clip_score_source"] for line in summary.methods]
    assert [(one.mean, one.rank, one.like_the_best) for one in found] == [
        (25.0, None, False),
        (30.0, None, False),
    ]
    assert "**" not in markdown_table(summary) and "<u>" not in markdown_table(summary)


def test_a_method_without_values_has_no_rank() -> None:
    lines = summarise(rows_of(a=[20.0], b=[None]), ["psnr"]).methods
    assert [line.estimates["psnr"].rank for line in lines] == [1, None]


def test_a_row_written_again_replaces_the_one_before() -> None:
    rows = [row("0", "a", error="it broke"), row("0", "a", psnr=21.0)]
    (line,) = summarise(rows, ["psnr"]).methods
    assert (line.items, line.failures, line.estimates["psnr"].mean) == (1, 0, 21.0)


def test_words_and_costs_are_columns_too() -> None:
    words = {
        "cat": {"iou_before": 0.1, "iou_after": 0.6, "iou_curve": [0.2] * 10 + [0.4] * 10},
        "hat": {"iou_before": 0.1, "iou_after": 0.8, "iou_curve": [0.5] * 20},
    }
    made = row("0", "a", words=words, fe=227.0, seconds=3.5)
    assert value_of(made, "iou_best") == pytest.approx(0.7)
    assert value_of(made, "iou_mean") == pytest.approx((0.3 + 0.5) / 2)
    assert (value_of(made, "fe"), value_of(made, "seconds")) == (227.0, 3.5)
    assert value_of(row("0", "a"), "iou_best") is None
    assert value_of({**made, "error": "it broke"}, "fe") is None
    assert metrics_in([made, row("1", "a", ssim=0.5)]) == ("ssim", "iou_best", "iou_mean", "fe", "seconds")


def test_markdown_marks_the_best_bold_and_the_second_underlined() -> None:
    text = markdown_table(summarise(rows_of(a=[20.0], b=[30.0], c=[10.0, None]), ["psnr"]))
    lines = text.splitlines()
    assert lines[0] == "| Method | PSNR (dB) ↑ | Images |"
    assert lines[2:] == [
        "| a | <u>20.00</u> | 1 |",
        "| b | **30.00** | 1 |",
        "| c | 10.00 | 1, 1 failed |",
    ]


def test_markdown_shows_intervals_in_the_units_of_the_heading() -> None:
    rows = [row(str(k), "a", mse=0.004) for k in range(3)]
    assert "| **4.00** <sub>[4.00, 4.00]</sub> |" in markdown_table(summarise(rows, ["mse"]))


def test_csv_has_unrounded_means_and_the_marks() -> None:
    rows = [row("0", "a", mse=0.0041237), row("0", "b", mse=0.1)]
    read = list(csv.DictReader(csv_table({"all": summarise(rows, ["mse"])}).splitlines()))
    assert [(r["method"], r["metric"], r["direction"], r["rank"]) for r in read] == [
        ("a", "mse", "lower", "1"),
        ("b", "mse", "lower", "2"),
    ]
    assert float(read[0]["mean"]) == 0.0041237
    assert read[0]["low"] == ""


def test_groups_of_tasks_have_tables_of_their_own() -> None:
    rows = [
        row("0", "a", psnr=10.0, task="single-object: cat → fox"),
        row("1", "a", psnr=20.0, task="single-object: dog → fox"),
        row("2", "a", psnr=60.0, task="multi-object: cat → fox"),
    ]
    groups = summarise_groups(rows, ["psnr"])
    means = {name: table.methods[0].estimates["psnr"].mean for name, table in groups.items()}
    assert means == {"single-object": 15.0, "multi-object": 60.0}
    assert summarise_groups(rows[:2], ["psnr"]) == {}


def test_tables_are_written_for_all_and_for_each_group(tmp_path: Path) -> None:
    rows = [row("0", "a", psnr=10.0, task="x: 1"), row("1", "a", psnr=30.0, task="y: 2")]
    write_tables(summarise(rows, ["psnr"]), tmp_path, summarise_groups(rows, ["psnr"]))
    text = (tmp_path / "table.md").read_text()
    assert "## All images (2)" in text and "## x (1)" in text and "## y (1)" in text
    assert "- **PSNR**: Peak signal-to-noise ratio" in text
    read = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert [(r["group"], r["mean"]) for r in read] == [("all", "20.0"), ("x", "10.0"), ("y", "30.0")]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table.csv", "table.md"]


@pytest.mark.parametrize(
    ("rows", "metrics", "said"),
    [
        ([], ["psnr"], "results: got no rows"),
        ([{"item": "0"}], ["psnr"], "without an item or a method"),
        (rows_of(a=[1.0]), ["beauty"], "metrics: got 'beauty'"),
    ],
)
def test_nothing_to_tabulate_is_refused(rows: list[Any], metrics: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        summarise(rows, metrics)
