"""A run: which rows are still to be made, who makes them, and where they are written.

It can be killed at any time and called again: what is done stays done.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....locinv_core.imaging.io import written_whole
from ..datasets.types import Item
from ..results import ResultsFile, check_same_metrics, check_same_work, row_key
from .cluster import on_cluster, require_ray
from .work_items import Outcome, Recipe, Task, Variant
from .workers import Done, in_process, in_processes

IMAGES = "pictures"

Note = Callable[[Mapping[str, Any], int, int], None]
"""Called with each new row, how many are done now, and how many there are to be."""


@dataclass(frozen=True)
class Workforce:
    """Who does the work: `jobs` processes on this machine (1 or None: this one), or actors of a Ray cluster, where
    None takes every GPU that it has, or every CPU where it has none. Raises ValueError for fewer than one."""

    jobs: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"jobs: got {self.jobs}, requires 1 or more")

    def check(self) -> None:
        """Raise ValueError where a cluster is asked for and Ray is not installed."""
        if self.cluster is not None:
            require_ray()


def run_work(
    recipe: Recipe,
    items: Sequence[Item],
    variants: Sequence[Variant],
    folder: Path,
    *,
    seed: int = 0,
    workforce: Workforce | None = None,
    metrics: Sequence[str] | None = None,
    retry_failed: bool = False,
    note: Note | None = None,
) -> list[dict[str, Any]]:
    """Run every variant on every item and append a row for each to results.jsonl in `folder`.

    Rows that are there already are not made again, failed ones only if `retry_failed`, then with any settings.
    Images go to `folder`/pictures/METHOD/ITEM.png. Returns the rows that were asked for, item by item, old and new.
    metrics: the names that rows have; None where every performer has its own.
    Raises ValueError, before any work, for a recipe that cannot be opened, for a folder whose rows were made
    with other settings, seed, model, input or metrics, and for variants of one name.
    """
    names = [variant.name for variant in variants]
    if not names or len({file_name(name) for name in names}) != len(names):
        raise ValueError(f"methods: got {', '.join(names) or 'none'}, requires at least one, each once")
    workforce = workforce or Workforce()
    workforce.check()
    performer = recipe.open()
    inputs = {item.id: item.digest() for item in items}
    fingerprints = {variant.name: performer.fingerprint(variant) for variant in variants}
    asked = {
        (item.id, variant.name): {
            "settings": dict(variant.settings),
            "model": fingerprints[variant.name],
            "seed": seed,
            "input": inputs[item.id],
        }
        for item in items
        for variant in variants
    }
    with ResultsFile(folder) as results:
        kept = [row for row in results.rows if not (retry_failed and row["error"])]
        check_same_work(kept, asked, folder)
        if metrics is not None:
            check_same_metrics(kept, asked, metrics, folder)
        finished = {row_key(row) for row in kept}
        work = [
            tasks
            for item in items
            if (tasks := [task for each in variants if (task := Task(item, each, seed)).key not in finished])
        ]
        done = len(asked.keys() & finished)
        outcomes: Iterator[Done]
        if workforce.cluster is not None and work:
            del performer
            outcomes = on_cluster(recipe, work, workforce.cluster, workforce.jobs)
        elif (workforce.jobs or 1) > 1 and len(work) > 1:
            del performer  # its memory is the workers'
            outcomes = in_processes(recipe, work, workforce.jobs or 1)
        else:
            outcomes = in_process(performer, work)
        with closing(outcomes):  # type: ignore[type-var]
            for task, outcome in outcomes:
                row = _row(task, outcome, asked[task.key], _keep_image(task, outcome, folder))
                results.append(row)
                done += 1
                if note is not None:
                    note(row, done, len(asked))
        by_key = {row_key(row): row for row in results.rows}
    return [by_key[key] for key in asked]


def file_name(name: str) -> str:
    """A variant's name as the name of a folder."""
    return re.sub(r"[^\w.+=-]+", "_", name).strip("_.") or "_"


def _keep_image(task: Task, outcome: Outcome, folder: Path) -> str | None:
    """Write the image atomically; its path relative to the folder."""
    if outcome.image is None:
        return None
    path = Path(IMAGES) / file_name(task.variant.name) / f"{task.item.id}.png"
    (folder / path).parent.mkdir(parents=True, exist_ok=True)
    with written_whole(folder / path) as unfinished:
        unfinished.write_bytes(outcome.image)
    return path.as_posix()


def _row(task: Task, outcome: Outcome, work: Mapping[str, Any], image: str | None) -> dict[str, Any]:
    return {
        "item": task.item.id,
        "method": task.variant.name,
        "task": task.item.task,
        **work,
        "metrics": dict(outcome.metrics),
        "words": {word: dict(figures) for word, figures in outcome.words.items()},
        **{name: round(getattr(outcome, name), 3) for name in ("fe", "fe_spent", "seconds", "seconds_spent")},
        "picture": image,
        "error": outcome.error,
    }
