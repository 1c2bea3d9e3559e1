"""Plots as SVG for the inside of a page: they take its text colour, light or dark, and fetch nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ....locinv_core.imaging.visualize import COLOURS
from .tables import DRAWS, TAIL, latest_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from .tables import Summary

_INK: Final = "#010203"
"""Stands for the page's text colour while matplotlib draws."""

_DASHES: Final = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curve:
    """A method's IoU at each threshold: its mean over `count` images and the 95 % bootstrap interval."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int


def iou_curves(rows: Sequence[Mapping[str, Any]]) -> dict[str, Curve]:
    """Each method's IoU curve (LocInv Fig. 3): the mean over an image's words, then over images.

    Raises ValueError for curves of several lengths.
    """
    found: dict[str, list[list[float]]] = {}
    for (_, method), row in latest_rows(rows).items():
        if row.get("error"):
            continue
        curves = [word["iou_curve"] for word in (row.get("words") or {}).values() if word.get("iou_curve")]
        if curves:
            found.setdefault(method, []).append(np.mean(curves, axis=0).tolist())
    lengths = {len(curve) for curves in found.values() for curve in curves}
    if len(lengths) > 1:
        raise ValueError(f"results: got IoU curves of {sorted(lengths)} thresholds, requires one number of them")
    made = {}
    for method, curves in found.items():
        values = np.asarray(curves, dtype=np.float64)
        count = len(values)
        weights = np.random.default_rng(0).multinomial(count, [1 / count] * count, size=DRAWS) / count
        low, high = np.percentile(weights @ values, [TAIL, 100 - TAIL], axis=0)
        mean = values.mean(axis=0)
        made[method] = Curve(tuple(mean.tolist()), tuple(low.tolist()), tuple(high.tolist()), count)
    return made


def iou_curves_svg(curves: Mapping[str, Curve], thresholds: Sequence[float]) -> str:
    """The curves over the thresholds, each with its interval as a band and its best point marked.

    Raises ValueError where there is no curve, or one of another length than `thresholds`.
    """
    from matplotlib.figure import Figure

    if not curves:
        raise ValueError("IoU curves: got none, requires one at least")
    for method, curve in curves.items():
        if len(curve.mean) != len(thresholds):
            raise ValueError(f"IoU curve of {method!r}: got {len(curve.mean)} values, requires {len(thresholds)}")
    with _settings():
        figure = Figure(figsize=(7.6, 4.2), layout="constrained")
        axes = figure.subplots()
        draw_curves(axes, curves, thresholds)
        axes.set_xlim(0, 1)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, fontsize=9)
    return inline_svg(figure, "IoU of the words' attention maps with their masks over thresholds, by method")


def draw_curves(axes: Axes, curves: Mapping[str, Curve], thresholds: Sequence[float]) -> None:
    """Draw the curves, the best first; the legend is the caller's."""
    for k, (method, curve) in enumerate(sorted(curves.items(), key=lambda pair: -max(pair[1].mean))):
        # Okabe and Ito's colours first, then the same dashed.
        colour, dash = COLOURS[k % len(COLOURS)], _DASHES[k // len(COLOURS) % len(_DASHES)]
        best = int(np.argmax(curve.mean))
        label = f"{method} (best {curve.mean[best]:.2f})"
        axes.plot(thresholds, curve.mean, dash, color=colour, linewidth=1.8, label=label)
        axes.fill_between(thresholds, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)
        axes.plot([thresholds[best]], [curve.mean[best]], "o", color=colour, markersize=4)
    axes.set_xlabel("threshold, as a share of the map's maximum")
    axes.set_ylabel("IoU with the mask")


def intervals_svg(summary: Summary) -> str:
    """A panel for each metric, a line in it for each method: its mean and 95 % interval. Better is right."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    across = min(3, len(summary.metrics)) or 1
    down = -(-len(summary.metrics) // across)
    lines = len(summary.methods)
    with _settings():
        # Room between panels, so that a heading is not taken for the panel above.
        layout = ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.08)
        figure = Figure(figsize=(3.2 * across + 1.2, (0.24 * lines + 0.75) * down), layout=layout)
        panels = list(figure.subplots(down, across, squeeze=False, sharey=True).flat)
        for panel in panels[len(summary.columns) :]:
            panel.set_visible(False)
        for panel, column in zip(panels, summary.columns, strict=False):
            for number, line in enumerate(summary.methods):
                found = line.estimates[column.name]
                if found.mean is None:
                    continue
                colour = COLOURS[0] if found.rank == 1 else _INK
                if found.low is not None and found.high is not None:
                    ends = [found.low * column.scale, found.high * column.scale]
                    panel.plot(ends, [number, number], color=colour, linewidth=1.6, alpha=0.75)
                panel.plot([found.mean * column.scale], [number], "o", color=colour, markersize=4.5)
            panel.set_title(column.heading, fontsize=9, loc="left")
            panel.set_yticks(range(lines), [line.method for line in summary.methods])
            panel.set_ylim(lines - 0.5, -0.5)
            panel.grid(axis="y", visible=False)
            if not column.higher_is_better:
                panel.invert_xaxis()
    return inline_svg(figure, "Means and intervals of every metric by method; better is further right")


def inline_svg(figure: Figure, label: str) -> str:
    """The figure as an `<svg>` element, the same for the same figure, with `label` for screen readers."""
    out = io.StringIO()
    with _settings(salt=label):
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue()
    text = text[text.index("<svg") :].strip()
    # Its style would apply to the page around it, and its metadata holds addresses.
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor").replace("'DejaVu Sans'", "system-ui").replace("\n", " ")
    # The page gives the width; the viewBox keeps the proportions.
    opening = re.sub(r' (width|height)="[^"]*"', "", text[: text.index(">")])
    opening += f' role="img" aria-label="{escape(label)}" stroke-linejoin="round"'
    width = re.search(r'width="([\d.]+)pt"', text)
    if width:
        opening += f' style="max-width: {float(width[1]) * 4 / 3:.0f}px"'
    return opening + text[text.index(">") :]


def _settings(salt: str = "") -> Any:
    import matplotlib

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "grid.color")
    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": salt, "font.size": 9.5}
    settings |= {"axes.grid": True, "grid.alpha": 0.15} | dict.fromkeys(inked, _INK)
    bare = ("axes.spines.top", "axes.spines.right", "legend.frameon")
    return matplotlib.rc_context(settings | dict.fromkeys(bare, False))
