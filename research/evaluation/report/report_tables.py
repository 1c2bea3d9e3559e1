"""The report's tables as HTML: results by method, what failed, and the settings that it was made with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..metrics.registry import Metric
from .tables import Estimate, Summary, interval_text

Row = Mapping[str, Any]


def table_section(summary: Summary, groups: Mapping[str, Summary]) -> str:
    """The table of all images, then each group's behind a summary that opens it."""
    parts = [html_table(summary, "All images")]
    for name, table in groups.items():
        title = f"{escape(name)}, {table.items} images"
        parts.append(f"<details><summary>{title}</summary>{html_table(table, name)}</details>")
    return "".join(parts)


def html_table(summary: Summary, title: str) -> str:
    """A table that its headings sort: the best in <strong>, the second underlined, intervals beneath."""
    head = ['<th scope="col">Method</th>']
    for column in summary.columns:
        better = "descending" if column.higher_is_better else "ascending"
        unit = f'<span class="unit">{escape(column.unit)} {column.arrow}</span>'
        head.append(
            f'<th scope="col" data-better="{better}" title="{escape(column.what)}">'
            f'<button type="button">{escape(column.label)}{unit}</button></th>'
        )
    head.append('<th scope="col">Images</th>')
    body = []
    for line in summary.methods:
        cells = [_cell(column, line.estimates[column.name]) for column in summary.columns]
        failed = f'<small class="failed">{line.failures} failed</small>' if line.failures else ""
        done = f"<td>{line.items - line.failures}{failed}</td>"
        body.append(f'<tr><th scope="row">{escape(line.method)}</th>{"".join(cells)}{done}</tr>')
    return _scrolled(title, f"<thead><tr>{''.join(head)}</tr></thead><tbody>{''.join(body)}</tbody>")


def _scrolled(title: str, content: str) -> str:
    region = f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title)}">'
    return f'{region}<table class="results">{content}</table></div>'


def failures_section(rows: Sequence[Row]) -> str:
    """What went wrong, image by image; nothing where nothing did."""
    failed = [row for row in rows if row.get("error")]
    if not failed:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{escape(row["item"])}</th><td class="words">{escape(row["method"])}</td>'
        f'<td class="words">{escape(str(row["error"]))}</td></tr>'
        for row in failed
    )
    return (
        '<section id="failures" aria-labelledby="failures-title"><h2 id="failures-title">Failures</h2>'
        f"{_scrolled('Failures', f'<tbody>{lines}</tbody>')}</section>"
    )


def settings_details(rows: Sequence[Row]) -> str:
    """The model, the seed and each method's settings: the first image's, and how many others differ."""
    models = sorted({str(row["model"]) for row in rows if row.get("model")})
    seeds = sorted({str(row["seed"]) for row in rows if row.get("seed") is not None})
    facts = [f"{label} {', '.join(found)}" for label, found in (("Model", models), ("seed", seeds)) if found]
    made = f'<p class="facts">{escape("; ".join(facts))}</p>' if facts else ""
    by_method: dict[str, list[str]] = {}
    for row in rows:
        if row.get("settings"):
            text = json.dumps(row["settings"], indent=2, ensure_ascii=False, sort_keys=True)
            texts = by_method.setdefault(str(row["method"]), [])
            if text not in texts:
                texts.append(text)
    if by_method:
        blocks = "".join(
            f"<h3>{escape(method)}</h3><pre>{escape(texts[0])}</pre>"
            + (f'<p class="note">{len(texts) - 1} other settings among the images.</p>' * (len(texts) > 1))
            for method, texts in by_method.items()
        )
        made += f"<details><summary>Settings of each method</summary>{blocks}</details>"
    return made


def _cell(column: Metric, found: Estimate) -> str:
    mean = escape(column.shown(found.mean))
    if found.rank == 1:
        mean = f'<strong class="best">{mean}</strong>'
    elif found.rank == 2:
        mean = f'<span class="second">{mean}</span>'
    like = ' <span class="like">≈</span>' if found.like_the_best else ""
    interval = interval_text(column, found)
    value = "" if found.mean is None else f' data-value="{found.mean!r}"'
    beneath = f"<small>{escape(interval)}</small>" if interval else ""
    return f"<td{value}>{mean}{like}{beneath}</td>"
