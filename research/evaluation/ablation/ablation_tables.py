"""An ablation's tables, beside the papers' own figures, and its plots."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..metrics.registry import COLUMNS, Metric
from ..report.plots import iou_curves
from ..report.tables import MethodSummary, images_text, markdown_cell, markdown_line, summarise
from .ablations import Point, Sweep, rows_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAPS_METRICS: Final = ("iou_best", "iou_mean", "fe")
REGIONS_METRICS: Final = ("s_t2i", "s_i2i", "region_score", "box_iou", "psnr_target", "fe")
COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
NOTE: Final = (
    "Means over the images with 95 % bootstrap intervals; best **bold**, second best <u>underlined</u>;"
    " ≈ marks a mean whose paired difference from the best cannot be told from 0, → what the paper chooses.\n"
)


def write_ablation(
    sweeps: Sequence[Sweep], rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], folder: Path
) -> list[Path]:
    """Write table.md, table.csv and one PNG for each group of sweeps into `folder`; returns the paths.

    rows: a run's results. metrics: names of COLUMNS; the first two are plotted. A sweep of which nothing was
    measured is left out.
    """
    from ....locinv_core.imaging.io import written_whole

    found = {sweep.name: lines_of(sweep, rows, metrics) for sweep in sweeps}
    shown = [sweep for sweep in sweeps if found[sweep.name]]
    columns = [COLUMNS[name] for name in metrics]
    parts = [
        f"## {sweep.title}: {sweep.symbol} ({sweep.name})\n\n{_markdown(found[sweep.name], columns)}" for sweep in shown
    ]
    written = []
    for name, text in (
        ("table.md", "\n".join([*parts, NOTE])),
        ("table.csv", _csv(shown, found, columns)),
    ):
        with written_whole(folder / name) as unfinished:
            unfinished.write_text(text, encoding="utf-8")
        written.append(folder / name)
    for group in dict.fromkeys(sweep.group for sweep in shown):
        own = [sweep for sweep in shown if sweep.group == group]
        written.append(_draw(own, found, rows, columns[:2], folder / f"{group}.png"))
    return written


def lines_of(
    sweep: Sweep, rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]
) -> list[tuple[Point, MethodSummary]]:
    """The sweep's points with their means, those of which there is a row."""
    own = rows_of(sweep, rows)
    if not own:
        return []
    by_label = {line.method: line for line in summarise(own, metrics).methods}
    return [(point, by_label[point.label]) for point in sweep.points if point.label in by_label]


def _markdown(lines: Sequence[tuple[Point, MethodSummary]], columns: Sequence[Metric]) -> str:
    compared = [column for column in columns if any(column.name in (p.published or {}) for p, _ in lines)]
    head = ["", *(column.heading for column in columns), *(f"{c.label} published" for c in compared)]
    text = [markdown_line([*head, "Images"]), markdown_line(["---", *["---:"] * len(head)])]
    for point, line in lines:
        cells = [markdown_cell(column, line.estimates[column.name]) for column in columns]
        cells += [column.shown((point.published or {}).get(column.name)) for column in compared]
        name = f"→ {point.label}" if point.chosen else point.label
        text.append(markdown_line([name, *cells, images_text(line)]))
    return "\n".join(text) + "\n"


def _csv(
    sweeps: Sequence[Sweep],
    found: Mapping[str, Sequence[tuple[Point, MethodSummary]]],
    columns: Sequence[Metric],
) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["sweep", "symbol", "value", "chosen", "metric", "mean", "low", "high", "count", "published"])
    for sweep in sweeps:
        for point, line in found[sweep.name]:
            for column in columns:
                estimate = line.estimates[column.name]
                published = (point.published or {}).get(column.name)
                writer.writerow(
                    [sweep.name, sweep.symbol, point.label, int(point.chosen), column.name, estimate.mean]
                    + [estimate.low, estimate.high, estimate.count, published]
                )
    return out.getvalue()


def _draw(
    sweeps: Sequence[Sweep],
    found: Mapping[str, Sequence[tuple[Point, MethodSummary]]],
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[Metric],
    path: Path,
) -> Path:
    """One panel a sweep: IoU curves for methods, else the metrics over the value."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from ....locinv_core.imaging.io import written_whole

    across = min(3, len(sweeps))
    down = -(-len(sweeps) // across)
    figure = Figure(figsize=(4.2 * across, 3.4 * down), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(down, across, squeeze=False)
    for k, axes in enumerate(grid.flat):
        if k >= len(sweeps):
            axes.set_axis_off()
            continue
        sweep = sweeps[k]
        if sweep.symbol == "method":
            _draw_curves(axes, rows_of(sweep, rows))
        else:
            _draw_values(axes, found[sweep.name], columns)
            axes.set_xlabel(sweep.symbol)
        axes.set_title(sweep.title, fontsize=10)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, format="png", dpi=130)
    return path


def _draw_values(axes: Axes, lines: Sequence[tuple[Point, MethodSummary]], columns: Sequence[Metric]) -> None:
    numbers = [point.x for point, _ in lines]
    on_axis = all(x is not None for x in numbers)
    places = [float(x) for x in numbers if x is not None] if on_axis else [float(k) for k in range(len(lines))]
    for k, column in enumerate(columns):
        # Scores of different size each have an axis of their own.
        own = axes if k == 0 else axes.twinx()
        estimates = [line.estimates[column.name] for _, line in lines]
        kept = [(x, e) for x, e in zip(places, estimates, strict=True) if e.mean is not None]
        means = [(e.mean or 0.0) * column.scale for _, e in kept]
        errors = [
            [m - (m if e.low is None else e.low * column.scale) for m, (_, e) in zip(means, kept, strict=True)],
            [(m if e.high is None else e.high * column.scale) - m for m, (_, e) in zip(means, kept, strict=True)],
        ]
        own.errorbar(
            [x for x, _ in kept],
            means,
            yerr=errors,
            color=COLOURS[k],
            marker="o",
            markersize=4,
            linestyle="-" if on_axis else "none",
            capsize=2,
        )
        own.set_ylabel(column.heading, color=COLOURS[k])
    for x, (point, _) in zip(places, lines, strict=True):
        if point.chosen:
            axes.axvline(x, color="0.8", zorder=0)
    axes.set_xticks(places, [point.label for point, _ in lines], rotation=0 if on_axis else 20, fontsize=8)


def _draw_curves(axes: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for k, (name, curve) in enumerate(iou_curves(rows).items()):
        thresholds = [(step + 1) / (len(curve.mean) + 1) for step in range(len(curve.mean))]
        axes.plot(thresholds, curve.mean, color=COLOURS[k % len(COLOURS)], label=name)
        axes.fill_between(thresholds, curve.low, curve.high, color=COLOURS[k % len(COLOURS)], alpha=0.15)
    axes.set_xlabel("threshold")
    axes.set_ylabel("IoU")
    axes.legend(fontsize=8)
