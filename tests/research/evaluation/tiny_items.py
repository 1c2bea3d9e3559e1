"""A small drawn item for tiny models: two squares, their masks, and the true edited image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pinpoint.research.evaluation.datasets.reader import write_dataset
from pinpoint.research.evaluation.datasets.types import AnnotatedObject, Dataset, Item

SIZE = (66, 70)
"""(H, W): no multiple of anything, so that frames are padded."""
BOXES = {"cat": (6, 8, 30, 34), "dog": (40, 20, 66, 60)}


def drawn_item(folder: Path, name: str = "pets-0", task: str = "pets: cat → fox") -> Item:
    """A cat and a dog, squares both, of which the cat is to become a fox. Its files go to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    pixels = np.stack([rows * 3, columns * 3, 200 - rows - columns], axis=-1).astype(np.uint8)
    objects = []
    for word, (x0, y0, x1, y1) in BOXES.items():
        mask = np.zeros(SIZE, np.uint8)
        mask[y0:y1, x0:x1] = 255
        mask[y0 : y0 + 4, x0 : x0 + 4] = 0  # a box is not the mask
        Image.fromarray(mask).save(folder / f"{name}-{word}.png")
        pixels[mask > 0] = 40 if word == "cat" else 230
        objects.append(
            AnnotatedObject(word, folder / f"{name}-{word}.png", (float(x0), float(y0), float(x1), float(y1)))
        )
    Image.fromarray(pixels).save(folder / f"{name}.png")
    pixels[BOXES["cat"][1] : BOXES["cat"][3], BOXES["cat"][0] : BOXES["cat"][2]] = (250, 120, 10)
    Image.fromarray(pixels).save(folder / f"{name}-true.png")
    return Item(
        id=name,
        image=folder / f"{name}.png",
        source="a cat and a dog",
        target="a fox and a dog",
        task=task,
        objects=tuple(objects),
        edited=("cat",),
        change=None,
        target_image=folder / f"{name}-true.png",
    )


def drawn_dataset(folder: Path, count: int) -> Path:
    """`count` such items as a data set in `folder`, of two tasks in turn."""
    items = [drawn_item(folder, f"pets-{n}", ("pets: cat → fox", "others: cat → fox")[n % 2]) for n in range(count)]
    write_dataset(Dataset("pets", tuple(items), folder), folder)
    return folder
