"""Tables of results, as Markdown and CSV: means with bootstrap intervals, best and second best marked.
Intervals and comparisons are paired: every method is resampled over the same items."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ....locinv_core.imaging.io import written_whole
from ..datasets.types import group_of_task
from ..metrics.registry import COLUMNS, Metric, columns_of, value_of

DRAWS: Final = 4000
"""Resamplings of a bootstrap interval."""

TAIL: Final = 2.5
"""Percent that a 95 % interval leaves out on each side."""


@dataclass(frozen=True)
class Estimate:
    """A mean over `count` items and how sure it is, in the metric's own units.

    mean: None where no item has the metric. low, high: the 95 % percentile bootstrap interval; None below two
    items. rank: 1 for the best as printed, 2 for the next, else None, as for a metric that compares no methods.
    behind_low, behind_high: the interval of the mean difference from the best method's, over the items that both
    have; None for the best itself and below two such items.
    """

    mean: float | None
    low: float | None
    high: float | None
    count: int
    rank: int | None = None
    behind_low: float | None = None
    behind_high: float | None = None

    @property
    def like_the_best(self) -> bool:
        """Whether it cannot be told from the best: the difference's interval holds 0."""
        return self.behind_low is not None and self.behind_high is not None and self.behind_low <= 0 <= self.behind_high


@dataclass(frozen=True)
class MethodSummary:
    """One line of the table. items: rows of the method; failures: those of them with an error."""

    method: str
    items: int
    failures: int
    estimates: Mapping[str, Estimate]


@dataclass(frozen=True)
class Summary:
    """A table: methods in the order of the rows, metrics in the order asked for, and the items it is over."""

    methods: tuple[MethodSummary, ...]
    metrics: tuple[str, ...]
    items: int

    @property
    def columns(self) -> tuple[Metric, ...]:
        return columns_of(self.metrics)


def summarise(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], *, seed: int = 0, draws: int = DRAWS
) -> Summary:
    """Each method's mean of each metric (names of COLUMNS) over the rows of results, with intervals.

    Of rows with the same item and method the last counts. Raises ValueError for no rows, a row without item or
    method, and an unknown metric.
    """
    columns = columns_of(metrics)
    latest = latest_rows(rows)
    methods = list(dict.fromkeys(method for _, method in latest))
    items = list(dict.fromkeys(item for item, _ in latest))
    values = np.full((len(methods), len(columns), len(items)), np.nan)
    for (item, method), row in latest.items():
        for k, column in enumerate(columns):
            value = value_of(row, column.name)
            if value is not None:
                values[methods.index(method), k, items.index(item)] = value
    # How often each item is drawn, the same draws for every method and metric: (draws, items).
    weights = np.random.default_rng(seed).multinomial(len(items), [1 / len(items)] * len(items), size=draws)
    estimates = [_estimates(column, values[:, k], weights.astype(np.float64)) for k, column in enumerate(columns)]
    lines = []
    for m, method in enumerate(methods):
        errors = [bool(row.get("error")) for (_, name), row in latest.items() if name == method]
        own = {column.name: found[m] for column, found in zip(columns, estimates, strict=True)}
        lines.append(MethodSummary(method, len(errors), sum(errors), own))
    return Summary(tuple(lines), tuple(metrics), len(items))


def latest_rows(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(item, method) → row, the last of those with the same two. Raises ValueError as `summarise` does."""
    if not rows:
        raise ValueError("results: got no rows, requires one for each item and method")
    for row in rows:
        if not isinstance(row.get("item"), str) or not isinstance(row.get("method"), str):
            raise ValueError(f"results: got a row without an item or a method: {str(dict(row))[:80]}")
    return {(row["item"], row["method"]): row for row in rows}


def metrics_in(rows: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The columns that at least one of the rows has a value for, in the order of COLUMNS."""
    return tuple(name for name in COLUMNS if any(value_of(row, name) is not None for row in rows))


def summarise_groups(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> dict[str, Summary]:
    """`summarise` of each group of tasks, by the group's name; empty where all rows are of one group."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(group_of_task(str(row.get("task") or "")) or "other", []).append(row)
    return {group: summarise(own, metrics) for group, own in groups.items()} if len(groups) > 1 else {}


def markdown_table(summary: Summary) -> str:
    """The table in Markdown: the best bold, the second underlined, intervals small beside the means."""
    head = ["Method", *(column.heading for column in summary.columns), "Images"]
    body = [
        [line.method, *(markdown_cell(column, line.estimates[column.name]) for column in summary.columns)]
        + [images_text(line)]
        for line in summary.methods
    ]
    return markdown_lines(head, body)


def csv_table(summaries: Mapping[str, Summary]) -> str:
    """The tables by their group's name as CSV, a line for each group, method and metric; means unscaled."""
    lines = [
        [group, line.method, column.name, "higher" if column.higher_is_better else "lower"]
        + [found.mean, found.low, found.high, found.count, found.rank, int(found.like_the_best)]
        + [found.behind_low, found.behind_high, line.items, line.failures]
        for group, summary in summaries.items()
        for line in summary.methods
        for column in summary.columns
        for found in [line.estimates[column.name]]
    ]
    head = ["group", "method", "metric", "direction", "mean", "low", "high", "count", "rank", "like_best"]
    return csv_text([[*head, "behind_low", "behind_high", "items", "failures"], *lines])


def csv_text(lines: Iterable[Sequence[Any]]) -> str:
    """Lines of values as CSV; nothing for None."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(lines)
    return out.getvalue()


def write_tables(summary: Summary, folder: Path, groups: Mapping[str, Summary] | None = None) -> None:
    """Write table.md and table.csv: all items, then each group. Raises ValueError for a folder that is not there."""
    tables = {"All images": summary, **(groups or {})}
    parts = [f"## {name} ({table.items})\n\n{markdown_table(table)}" for name, table in tables.items()]
    parts += [NOTE, "".join(f"- **{column.label}**: {column.what}\n" for column in summary.columns)]
    write_files(folder, {"table.md": "\n".join(parts), "table.csv": csv_table({"all": summary, **(groups or {})})})


def write_files(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write each text beside its place and rename it; the paths."""
    for name, text in texts.items():
        with written_whole(folder / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
    return [folder / name for name in texts]


NOTE: Final = (
    "Means over the images, with 95 % bootstrap intervals resampled over the same images for each method."
    " Best **bold**, second best <u>underlined</u>; ≈ marks a mean whose paired difference"
    " from the best cannot be told from 0. A method with failures is averaged over fewer images.\n"
)


def images_text(line: MethodSummary) -> str:
    """How many images a method was measured on: "40", or "38, 2 failed"."""
    done = line.items - line.failures
    return f"{done}, {line.failures} failed" if line.failures else str(done)


def interval_text(column: Metric, found: Estimate) -> str:
    """ "[26.90, 27.80]", or nothing where there is no interval."""
    if found.low is None or found.high is None:
        return ""
    return f"[{column.shown(found.low)}, {column.shown(found.high)}]"


def markdown_cell(column: Metric, found: Estimate) -> str:
    """A mean with its marks, and its interval small beside it."""
    mean = column.shown(found.mean)
    marked = {1: f"**{mean}**", 2: f"<u>{mean}</u>"}.get(found.rank or 0, mean)
    interval = interval_text(column, found)
    return marked + (" ≈" if found.like_the_best else "") + (f" <sub>{interval}</sub>" if interval else "")


def markdown_lines(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A table; a "|" in a cell stays in its cell."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *body]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


def _estimates(column: Metric, values: NDArray[np.float64], weights: NDArray[np.float64]) -> list[Estimate]:
    """One metric of every method, from values (methods, items) with NaN where there is none."""
    means = [float(v[~np.isnan(v)].mean()) if (~np.isnan(v)).any() else None for v in values]
    ranks = _ranks(column, means)
    best = ranks.index(1) if 1 in ranks else None
    found = []
    for m, own in enumerate(values):
        low, high = _interval(own, weights)
        behind = (None, None) if best is None or ranks[m] == 1 else _interval(own - values[best], weights)
        count = int((~np.isnan(own)).sum())
        found.append(Estimate(means[m], low, high, count, ranks[m], *behind))
    return found


def _interval(values: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float] | tuple[None, None]:
    """The percentile interval of the mean of values (items,), from how often each draw took each item.

    scipy.stats.bootstrap would draw anew for every metric and method, and knows no missing values.
    """
    there = ~np.isnan(values)
    if there.sum() < 2:
        return None, None
    drawn = weights[:, there].sum(axis=1)
    # A draw that took none of the items has no mean.
    means = (weights[:, there] @ values[there])[drawn > 0] / drawn[drawn > 0]
    low, high = np.percentile(means, [TAIL, 100 - TAIL])
    return float(low), float(high)


def _ranks(column: Metric, means: Sequence[float | None]) -> list[int | None]:
    """1 and 2 for the best and the second best value as printed: what a reader sees equal is marked alike."""
    if not column.compared:
        return [None] * len(means)
    printed = [None if mean is None else float(column.shown(mean)) for mean in means]
    order = sorted({p for p in printed if p is not None}, reverse=column.higher_is_better)
    return [None if p is None or (rank := order.index(p) + 1) > 2 else rank for p in printed]
