"""A small study for tests: plain images, a colour a method, so that a test can tell them apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from pinpoint.research.evaluation.datasets.reader import write_dataset
from pinpoint.research.evaluation.datasets.types import AnnotatedObject, Dataset, Item
from pinpoint.research.evaluation.user_study.site import Study, build_site

SIDE = 64
COLOURS = {"locinv": (220, 30, 30), "nti": (30, 160, 30), "pnp": (30, 30, 220)}
METHODS = tuple(COLOURS)


def row(item: str, method: str, **changes: Any) -> dict[str, Any]:
    """A row of results.jsonl, as `pinpoint evaluate` writes it."""
    fields: dict[str, Any] = {"item": item, "method": method, "task": "t", "settings": {}, "model": "m"}
    fields |= {"seed": 0, "input": "i", "metrics": {}, "words": {}, "fe": 1.0, "fe_spent": 1.0}
    fields |= {
        "seconds": 1.0,
        "seconds_spent": 1.0,
        "picture": f"pictures/{method}/{item}.png",
        "error": None,
    }
    return fields | changes


def make_results(folder: Path, single: int = 3, multi: int = 3) -> Dataset:
    """A data set in `folder`, and the images and results of three methods on it."""
    items = []
    for number in range(single + multi):
        group = "single-object" if number < single else "multi-object"
        path = folder / "images" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), (10 * number, 90, 90)).save(path)
        obj = AnnotatedObject("cat", None, (1.0, 1.0, 9.0, 9.0))
        texts = ("a cat and a dog", "a fox and a dog", f"{group}: cat → fox")
        items.append(Item(f"item-{number}", path, *texts, (obj,), ("cat",), None, None))
        for method, colour in COLOURS.items():
            edit = folder / "pictures" / method / f"item-{number}.png"
            edit.parent.mkdir(parents=True, exist_ok=True)
            about = PngInfo()
            about.add_text("method", method)
            Image.new("RGB", (SIDE, SIDE), colour).save(edit, pnginfo=about)
    dataset = Dataset("cats", tuple(items), folder)
    write_dataset(dataset, folder)
    write_rows(folder, [row(item.id, method) for item in items for method in METHODS])
    return dataset


def write_rows(folder: Path, rows: list[dict[str, Any]]) -> None:
    """Make these rows the folder's results."""
    lines = "".join(json.dumps(one) + "\n" for one in rows)
    (folder / "results.jsonl").write_text(lines, encoding="utf-8")


def make_site(folder: Path, *, tasks: int = 4, single: int = 3, multi: int = 3) -> Study:
    """A study in `folder`/site of results in `folder`/run."""
    dataset = make_results(folder / "run", single, multi)
    return build_site(folder / "run", dataset, folder / "site", tasks=tasks)
