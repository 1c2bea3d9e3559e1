"""report.html: one file with the tables, the curves and every image of an evaluation, for a person to read.
Nothing in it is fetched: images, styles and scripts are inside, and its content security policy forbids more."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ..datasets.fields import file_inside
from ..metrics.registry import value_of
from ..text_change import text_change
from .report_tables import failures_section, settings_details, table_section
from .tables import Summary, latest_rows, metrics_in, summarise, summarise_groups

if TYPE_CHECKING:
    from ..datasets.types import Dataset, Item

PAGE: Final = Path(__file__).parent / "page"

KEY_METRICS: Final = ("psnr_background", "clip_score", "psnr_target_change", "psnr_target", "iou_best", "psnr")
"""What an image's card shows first, of those that were measured."""

FIRST: Final = ("psnr_target", "psnr_background", "psnr")
"""What the gallery is sorted by when the page opens: the first of these that was measured."""

Row = Mapping[str, Any]


def write_report(rows: Sequence[Row], dataset: Dataset, folder: Path) -> Path:
    """Write `folder`/report.html from rows of results, whose images are relative to `folder`, and return its path.

    The card of an item whose files cannot be read says so in the place of its images. Raises ValueError for no
    rows, a row whose item is not in the data set, and a folder that does not exist.
    """
    from ....locinv_core.imaging.io import written_whole

    latest = latest_rows(rows)
    known = {item.id: item for item in dataset.items}
    for item_id, _ in latest:
        if item_id not in known:
            raise ValueError(f"results: item {item_id!r} is not in the data set {dataset.name!r}")
    summary = summarise(rows, metrics_in(rows))
    methods = [line.method for line in summary.methods]
    items = [item for item in dataset.items if any((item.id, method) in latest for method in methods)]
    path = folder / "report.html"
    with written_whole(path) as unfinished, unfinished.open("w", encoding="utf-8") as out:
        before, after = _page(latest, dataset.name, items, summary)
        out.write(before)
        # One script an image: it is read by the page when its card is near, and is never all in memory here.
        for k, item in enumerate(items):
            images = _images(item, {method: latest.get((item.id, method)) for method in methods}, folder)
            out.write(f'<script type="application/json" id="item-{k}">{_json(images)}</script>\n')
        out.write(after)
    return path


def _page(
    latest: Mapping[tuple[str, str], Row], dataset: str, items: Sequence[Item], summary: Summary
) -> tuple[str, str]:
    """The page before and after its images."""
    rows = list(latest.values())
    failed = sum(line.failures for line in summary.methods)
    facts = [
        f"{len(items)} images",
        f"{len(summary.methods)} {'methods' if len(summary.methods) > 1 else 'method'}",
        f"{len(latest)} edits",
        f"{failed} failed" if failed else "none failed",
    ]
    parts = {
        "title": escape(f"Evaluation on {dataset}"),
        "facts": escape(" · ".join(facts)),
        "tables": table_section(summary, summarise_groups(rows, summary.metrics)),
        "intervals": _intervals(summary),
        "curves": _curves(rows),
        "failures": failures_section(rows),
        "definitions": "".join(
            f"<dt>{escape(column.heading)}</dt><dd>{escape(column.what)}</dd>" for column in summary.columns
        ),
        "settings": settings_details(rows),
        "index": _json(_index(latest, items, summary)),
        "css": _file("report.css"),
        "js": _file("report.js"),
    }
    # Which parts there are shows in the parts.
    sections = {"table": "Methods", "curves": "IoU curves", "gallery": "Images"}
    sections |= {"failures": "Failures", "about": "What was measured"}
    written = _file("report.html") + parts["curves"] + parts["failures"]
    parts["nav"] = "".join(
        f'<a href="#{anchor}">{title}</a>' for anchor, title in sections.items() if f'id="{anchor}"' in written
    )
    # In one pass, so that nothing in a part is taken for a place.
    before, after = (
        re.sub(r"\{\{(\w+)\}\}", lambda place: parts[place[1]], half)
        for half in _file("report.html").split("{{items}}")
    )
    return before, after


def _index(latest: Mapping[tuple[str, str], Row], items: Sequence[Item], summary: Summary) -> dict[str, Any]:
    """What sorting and searching need: every number and text, no image."""
    methods = [line.method for line in summary.methods]
    entries = []
    for k, item in enumerate(items):
        own = {method: latest[item.id, method] for method in methods if (item.id, method) in latest}
        source, target = text_change(item.source, item.target)
        entries.append(
            {
                "k": k,
                **{name: getattr(item, name) for name in ("id", "task", "group")},
                "source": source,
                "target": target,
                "words": f"{item.id} {item.task} {item.source} {item.target}".lower(),
                "values": {
                    method: [_rounded(value_of(row, name)) for name in summary.metrics] for method, row in own.items()
                },
                "errors": {method: str(row["error"])[:300] for method, row in own.items() if row.get("error")},
            }
        )
    return {
        "metrics": [
            {name: getattr(column, name) for name in ("name", "heading", "what", "digits", "scale")}
            | {"higher": column.higher_is_better}
            for column in summary.columns
        ],
        "methods": methods,
        "groups": [group for group in dict.fromkeys(entry["group"] for entry in entries) if group],
        "key": [name for name in KEY_METRICS if name in summary.metrics],
        "first": next((name for name in FIRST if name in summary.metrics), (*summary.metrics, "")[0]),
        "items": entries,
    }


def _images(item: Item, rows: Mapping[str, Row | None], folder: Path) -> dict[str, Any]:
    """One card's images as data URIs; for an item whose files cannot be read, what is wrong with them."""
    from ....locinv_core.imaging.io import to_pil
    from .images import data_uri, outline_path

    try:
        opened = item.open()
    except ValueError as error:
        return {"unreadable": str(error)[:300], "source": None, "target": None, "images": {}}
    return {
        "width": opened.image.shape[-1],
        "height": opened.image.shape[-2],
        "outline": outline_path(opened.change),
        "source": data_uri(to_pil(opened.image)),
        "target": None if opened.target_image is None else data_uri(to_pil(opened.target_image)),
        "images": {method: _edit_uri(row, folder) for method, row in rows.items()},
    }


def _edit_uri(row: Row | None, folder: Path) -> str | None:
    """A row's image as a data URI; None where none can be read, or it lies outside `folder`."""
    from PIL import Image

    from .images import data_uri

    with suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        if row is not None and row.get("picture"):
            with Image.open(file_inside(folder, row["picture"], "picture")) as picture:
                return data_uri(picture)
    return None


def _intervals(summary: Summary) -> str:
    from .plots import intervals_svg

    if not summary.metrics:
        return ""
    return (
        "<details><summary>Means and intervals as a plot</summary>"
        f"{_plot('Means and intervals', intervals_svg(summary))}"
        '<p class="note">Blue is the best. Better is further right.</p></details>'
    )


def _curves(rows: Sequence[Row]) -> str:
    from ....locinv_core.imaging.metrics import IOU_THRESHOLDS
    from .plots import iou_curves, iou_curves_svg

    curves = iou_curves(rows)
    if not curves:
        return ""
    return (
        '<section id="curves" aria-labelledby="curves-title"><h2 id="curves-title">IoU curves</h2>'
        f"{_plot('IoU curves', iou_curves_svg(curves, IOU_THRESHOLDS))}"
        '<p class="note">How well the words’ attention maps find their objects (LocInv, Fig. 3): a map’s'
        " pixels above the threshold against the mask, mean over words and images, with 95 % bands; the dot"
        " is the best.</p></section>"
    )


def _plot(label: str, svg: str) -> str:
    return f'<div class="plot" tabindex="0" role="group" aria-label="{escape(label)}">{svg}</div>'


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def _json(content: object) -> str:
    """JSON that cannot end the script element that it stands in."""
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _file(name: str) -> str:
    return (PAGE / name).read_text(encoding="utf-8")
