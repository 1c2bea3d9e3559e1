"""A contact sheet of a data set: of every task some items, with their true edit or the mask of the change."""

from __future__ import annotations

from PIL import Image

from ....locinv_core.imaging.io import to_pil
from ....locinv_core.imaging.visualize import contact_sheet, mask_outline
from .types import Dataset, Item


def task_sheet(dataset: Dataset, per_task: int = 4) -> Image.Image:
    """A row a task, in the order in which the tasks first appear; two cells an item.

    The first cell is the image, labelled with the source prompt; the second the true edited image,
    labelled with the target prompt, or else the image with the outline of where the edit may show.
    """
    tasks: dict[str, list[Item]] = {}
    for item in dataset.items:
        tasks.setdefault(item.task, []).append(item)
    blank = ("", Image.new("RGB", (64, 64), "white"))
    cells = []
    for items in tasks.values():
        row = [cell for item in items[:per_task] for cell in _cells(item)]
        cells += row + [blank] * (2 * per_task - len(row))
    return contact_sheet(cells, columns=2 * per_task)


def _cells(item: Item) -> list[tuple[str, Image.Image]]:
    opened = item.open()
    image, truth = to_pil(opened.image), opened.target_image
    second = mask_outline(image, opened.change) if truth is None else to_pil(truth)
    return [(f"{item.task}\n{item.source}", image), (item.target, second)]
