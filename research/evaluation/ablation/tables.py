"""An ablation's tables, beside the papers' own figures, and its plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ....locinv_core.imaging.io import written_whole
from ....locinv_core.imaging.metrics import IOU_THRESHOLDS
from ....locinv_core.imaging.visualize import COLOURS
from ..metrics.registry import Metric, columns_of
from ..report.plots import draw_curves, iou_curves
from ..report.tables import MethodSummary, csv_text, images_text, markdown_cell, markdown_lines, summarise, write_files
from .sweeps import Point, Sweep, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_Lines = Mapping[str, Sequence[tuple[Point, MethodSummary]]]
MAPS_METRICS: Final = ("iou_best", "iou_mean", "fe")
REGIONS_METRICS: Final = ("s_t2i", "s_i2i", "region_score", "box_iou", "psnr_target", "fe")
NOTE: Final = (
    "Means over the images with 95 % bootstrap intervals; best **bold**, second best <u>underlined</u>;"
    " ≈ marks a mean whose paired difference from the best cannot be told from 0, → what the paper chooses.\n"
)


def write_ablation(
    sweeps: Sequence[Sweep], rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], folder: Path
) -> list[Path]:
    """Write table.md, table.csv and one PNG for each group of sweeps into `folder`; returns the paths.

    metrics: names of COLUMNS; the first two are plotted. A sweep of which nothing was measured is left out.
    """
    found = {sweep.name: lines_of(sweep, rows, metrics) for sweep in sweeps}
    shown = [sweep for sweep in sweeps if found[sweep.name]]
    columns = columns_of(metrics)
    parts = [
        f"## {sweep.title}: {sweep.symbol} ({sweep.name})\n\n{_markdown(found[sweep.name], columns)}" for sweep in shown
    ]
    written = write_files(folder, {"table.md": "\n".join([*parts, NOTE]), "table.csv": _csv(shown, found, columns)})
    for group in dict.fromkeys(sweep.group for sweep in shown):
        own = [sweep for sweep in shown if sweep.group == group]
        written.append(_draw(own, found, rows, columns[:2], folder / f"{group}.png"))
    return written


def lines_of(
    sweep: Sweep, rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> list[tuple[Point, MethodSummary]]:
    """The sweep's points with their means, those of which there is a row."""
    own = rows_of(sweep, rows)
    by_label = {line.method: line for line in summarise(own, metrics).methods} if own else {}
    return [(point, by_label[point.label]) for point in sweep.points if point.label in by_label]


def _markdown(lines: Sequence[tuple[Point, MethodSummary]], columns: Sequence[Metric]) -> str:
    compared = [column for column in columns if any(column.name in point.published for point, _ in lines)]
    head = ["", *(column.heading for column in columns), *(f"{c.label} published" for c in compared), "Images"]
    body = []
    for point, line in lines:
        cells = [markdown_cell(column, line.estimates[column.name]) for column in columns]
        cells += [column.shown(point.published.get(column.name)) for column in compared]
        body.append([f"→ {point.label}" if point.chosen else point.label, *cells, images_text(line)])
    return markdown_lines(head, body)


def _csv(sweeps: Sequence[Sweep], found: _Lines, columns: Sequence[Metric]) -> str:
    lines = [
        [sweep.name, sweep.symbol, point.label, int(point.chosen), column.name, estimate.mean]
        + [estimate.low, estimate.high, estimate.count, point.published.get(column.name)]
        for sweep in sweeps
        for point, line in found[sweep.name]
        for column in columns
        for estimate in [line.estimates[column.name]]
    ]
    head = ["sweep", "symbol", "value", "chosen", "metric", "mean", "low", "high", "count", "published"]
    return csv_text([head, *lines])


def _draw(
    sweeps: Sequence[Sweep], found: _Lines, rows: Sequence[Mapping[str, Any]], columns: Sequence[Metric], path: Path
) -> Path:
    """One panel a sweep: IoU curves for methods, else the metrics over the value."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(3, len(sweeps))
    down = -(-len(sweeps) // across)
    figure = Figure(figsize=(4.2 * across, 3.4 * down), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in panels[len(sweeps) :]:
        axes.set_axis_off()
    for axes, sweep in zip(panels, sweeps, strict=False):
        if sweep.symbol == "method":
            draw_curves(axes, iou_curves(rows_of(sweep, rows)), IOU_THRESHOLDS)
            axes.legend(fontsize=8)
        else:
            _draw_values(axes, found[sweep.name], columns)
            axes.set_xlabel(sweep.symbol)
        axes.set_title(sweep.title, fontsize=10)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=130)
    return path


def _draw_values(axes: Axes, lines: Sequence[tuple[Point, MethodSummary]], columns: Sequence[Metric]) -> None:
    on_axis = all(point.x is not None for point, _ in lines)
    xs = [float(k if point.x is None or not on_axis else point.x) for k, (point, _) in enumerate(lines)]
    for k, column in enumerate(columns):
        own = axes if k == 0 else axes.twinx()  # scores of different size each have an axis of their own
        found = [line.estimates[column.name] for _, line in lines]
        mean, low, high = np.array([(one.mean, one.low, one.high) for one in found], dtype=float).T * column.scale
        error, there = np.nan_to_num([mean - low, high - mean]), ~np.isnan(mean)
        style: Any = {"color": COLOURS[k], "marker": "o", "linestyle": "-" if on_axis else "none"}
        own.errorbar(np.array(xs)[there], mean[there], error[:, there], markersize=4, capsize=2, **style)
        own.set_ylabel(column.heading, color=COLOURS[k])
    for x, (point, _) in zip(xs, lines, strict=True):
        if point.chosen:
            axes.axvline(x, color="0.8", zorder=0)
    axes.set_xticks(xs, [point.label for point, _ in lines], rotation=0 if on_axis else 20, fontsize=8)
