"""Plots as SVG for the inside of a page: they take its text colour, light or dark, and fetch nothing."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from .tables import DRAWS, TAIL, latest_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .tables import Summary

_INK: Final = "#010203"
"""Stands for the page's text colour while matplotlib draws."""

_DASHES: Final = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class Curve:
    """A method's IoU at each threshold: its mean over images and the 95 % bootstrap interval, and how many
    images it is over. low and high are the mean itself for one image."""

    mean: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    count: int


def iou_curves(rows: Sequence[Mapping[str, Any]], *, seed: int = 0, draws: int = DRAWS) -> dict[str, Curve]:
    """Each method's IoU curve (LocInv Fig. 3): the mean over an image's words, then over images.

    rows: as in results.jsonl; those without words are left out. Raises ValueError for curves of several
    lengths.
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
        weights = np.random.default_rng(seed).multinomial(count, [1 / count] * count, size=draws) / count
        low, high = np.percentile(weights @ values, [TAIL, 100 - TAIL], axis=0)
        mean = values.mean(axis=0)
        made[method] = Curve(tuple(mean.tolist()), tuple(low.tolist()), tuple(high.tolist()), count)
    return made


def iou_curves_svg(curves: Mapping[str, Curve], thresholds: Sequence[float]) -> str:
    """The curves over the thresholds, each with its interval as a band and its best point marked.

    Raises ValueError where there is no curve, or one of another length than `thresholds`.
    """
    if not curves:
        raise ValueError("IoU curves: got none, requires one at least")
    for method, curve in curves.items():
        if len(curve.mean) != len(thresholds):
            raise ValueError(f"IoU curve of {method!r}: got {len(curve.mean)} values, requires {len(thresholds)}")
    figure, axes = _figure(7.6, 4.2)
    for k, (method, curve) in enumerate(sorted(curves.items(), key=lambda pair: -max(pair[1].mean))):
        colour, dash = _style(k)
        axes.plot(thresholds, curve.mean, dash, color=colour, linewidth=1.8, label=_curve_label(method, curve))
        axes.fill_between(thresholds, curve.low, curve.high, color=colour, alpha=0.12, linewidth=0)
        best = int(np.argmax(curve.mean))
        axes.plot([thresholds[best]], [curve.mean[best]], "o", color=colour, markersize=4)
    axes.set_xlabel("threshold, as a share of the map's maximum")
    axes.set_ylabel("IoU with the mask")
    axes.set_xlim(0, 1)
    axes.set_ylim(bottom=0)
    _legend(axes)
    return inline_svg(figure, "IoU of the words' attention maps with their masks over thresholds, by method")


def intervals_svg(summary: Summary) -> str:
    """A panel for each metric, a line in it for each method: its mean and 95 % interval. Better is right."""
    from matplotlib.figure import Figure

    across = min(3, len(summary.metrics)) or 1
    down = -(-len(summary.metrics) // across)
    lines = len(summary.methods)
    with _settings():
        figure = Figure(figsize=(3.2 * across + 1.2, (0.24 * lines + 0.75) * down), layout=_spaced())
        grid = figure.subplots(down, across, squeeze=False, sharey=True)
        for k, panel in enumerate(grid.flat):
            if k >= len(summary.metrics):
                panel.set_visible(False)
                continue
            column = summary.columns[k]
            for place, line in enumerate(summary.methods):
                found = line.estimates[column.name]
                if found.mean is None:
                    continue
                colour = _style(0)[0] if found.rank == 1 else _INK
                mean = found.mean * column.scale
                if found.low is not None and found.high is not None:
                    ends = [found.low * column.scale, found.high * column.scale]
                    panel.plot(ends, [place, place], color=colour, linewidth=1.6, alpha=0.75)
                panel.plot([mean], [place], "o", color=colour, markersize=4.5)
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
        figure.savefig(
            out, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    text = out.getvalue()
    text = text[text.index("<svg") :].strip()
    # Its style would apply to the page around it, and its metadata names places outside.
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", text, flags=re.DOTALL)
    text = text.replace(_INK, "currentColor").replace("'DejaVu Sans'", "system-ui").replace("\n", " ")
    # The page gives the width; the viewBox keeps the proportions.
    opening = re.sub(r' (width|height)="[^"]*"', "", text[: text.index(">")])
    opening += f' role="img" aria-label="{escape(label)}" stroke-linejoin="round"'
    width = re.search(r'width="([\d.]+)pt"', text)
    if width:
        opening += f' style="max-width: {float(width[1]) * 4 / 3:.0f}px"'
    return opening + text[text.index(">") :]


def _spaced() -> Any:
    """Room between panels, so that a heading is not taken for the panel above."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.08)


def _settings(salt: str = "") -> Any:
    import matplotlib

    return matplotlib.rc_context(
        {
            "svg.fonttype": "none",
            "svg.hashsalt": salt,
            "font.size": 9.5,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "grid.alpha": 0.15,
            "legend.frameon": False,
            **dict.fromkeys(
                (
                    "text.color",
                    "axes.labelcolor",
                    "axes.edgecolor",
                    "xtick.color",
                    "ytick.color",
                    "grid.color",
                ),
                _INK,
            ),
        }
    )


def _figure(width: float, height: float) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    with _settings():
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots()


def _legend(axes: Any) -> None:
    with _settings():
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, fontsize=9)


def _style(index: int) -> tuple[str, str]:
    """A colour and a dash: Okabe and Ito's colours first, then the same dashed."""
    from ....locinv_core.imaging.visualize import COLOURS

    return COLOURS[index % len(COLOURS)], _DASHES[index // len(COLOURS) % len(_DASHES)]


def _curve_label(method: str, curve: Curve) -> str:
    return f"{method} (best {max(curve.mean):.2f})"
