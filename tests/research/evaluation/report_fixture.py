"""A small evaluation to report on: drawn images whose numbers and colours are known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pinpoint.research.evaluation.datasets.types import AnnotatedObject, Dataset, Item

SIDE = 64
METHODS = ("plain", "careful")
COLOURS = {"source": (200, 40, 40), "true": (40, 200, 40), "plain": (40, 40, 200), "careful": (200, 200, 40)}


def write_image(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (SIDE, SIDE), colour).save(path)
    return path


def small_dataset(folder: Path, count: int) -> Dataset:
    """Items p00, p01 …, the object in rows 8 to 24 and columns 16 to 48, of two groups in turn."""
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    mask[8:24, 16:48] = 255
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(folder / "mask.png")
    source = write_image(folder / "source.png", COLOURS["source"])
    true = write_image(folder / "true.png", COLOURS["true"])
    items = tuple(
        Item(
            id=f"p{k:02d}",
            image=source,
            source="a red cat on a mat",
            target="a red fox on a mat",
            task=f"{'single' if k % 2 == 0 else 'multi'}: cat → fox",
            objects=(AnnotatedObject("cat", folder / "mask.png", (16, 8, 48, 24)),),
            edited=("cat",),
            change=None,
            target_image=true if k % 2 == 0 else None,
        )
        for k in range(count)
    )
    return Dataset(name="drawn", items=items, folder=folder)


def small_rows(dataset: Dataset, folder: Path, psnr: dict[str, list[float | None]]) -> list[dict[str, Any]]:
    """A row and an image for each method and item; a PSNR of None is an edit that failed."""
    rows = []
    for method, values in psnr.items():
        picture = write_image(folder / "pictures" / f"{method}.png", COLOURS[method])
        for item, value in zip(dataset.items, values, strict=True):
            rows.append(
                {
                    "item": item.id,
                    "method": method,
                    "task": item.task,
                    "settings": {"steps": 5, "by": method},
                    "model": "f00d",
                    "seed": 0,
                    "metrics": {} if value is None else {"psnr": value, "mse": 1 / (1 + value)},
                    "words": {"cat": {"iou_after": 0.5, "iou_curve": [0.1 * (k % 5) for k in range(19)]}},
                    "fe": 100.0,
                    "seconds": 1.5,
                    "picture": None if value is None else str(picture.relative_to(folder)),
                    "error": "ValueError: it <broke>" if value is None else None,
                }
            )
    return rows
