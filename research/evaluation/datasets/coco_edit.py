"""COCO-Edit (LocInv, Table 3), made from a local MS-COCO download."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ....locinv_core.imaging.io import load_image, save_png
from ....locinv_core.localization.prior_from_coco import coco_mask
from ....locinv_core.text.prompt import word_spans
from ...embedded_world.scenes.render import tight_box
from .coco_search import Match, category_of, read_coco, search
from .dataset import Dataset, Item, Place
from .fields import file_inside
from .search_prompts import COCO_EDIT, SearchPrompt

Mask = NDArray[np.uint8]

LEAST_SHARE: Final = 0.01
"""Of the image's area: an object that is smaller than this shows no edit."""
_VOWELS = "aeiou"


@dataclass(frozen=True)
class CocoEdit:
    """The data set; how many images were found and kept for each prompt; and why some were left out."""

    dataset: Dataset
    found: Mapping[SearchPrompt, int]
    kept: Mapping[SearchPrompt, int]
    left_out: Sequence[str]


def build_coco_edit(
    folder: Path, *, instances: Path, captions: Path, images: Path, count: int | None = None
) -> CocoEdit:
    """Copy the images that fit the paper's search prompts into `folder`, with the masks of their objects.

    Of every prompt the images with the lowest ids are kept: `count` of them, or as many as the paper has.
    An item's source is the caption by which the image was found, its target that caption with the edited
    noun replaced; an object's mask is the union of its category's outlines. An image is left out when an
    outline cannot be read, or the edited object fills less than LEAST_SHARE. True edited images don't exist.

    folder: exists, empty. instances, captions: COCO's annotation files. images: the folder of the images.
    Raises ValueError for a count below 1, foreign files, a missing image, one whose size is not the
    annotated one, and when nothing is found.
    """
    if count is not None and count < 1:
        raise ValueError(f"count: got {count}, needs 1 or more")
    if not images.is_dir():
        raise ValueError(f"images: there is no folder {str(images)!r}")
    pictures, categories = read_coco(instances, captions)
    found = search(pictures, COCO_EDIT, categories)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    items: list[Item] = []
    kept: dict[SearchPrompt, int] = {}
    left_out: list[str] = []
    for prompt, matches in found.items():
        wanted = count or prompt.paper_count or len(matches)
        good: list[Item] = []
        for match in matches:
            if len(good) == wanted:
                break
            masks, problem = _masks(prompt, match)
            if problem:
                left_out.append(f"image {match.image.id} ({prompt.text}): {problem}")
            else:
                good.append(_item(folder, prompt, match, masks, images))
        kept[prompt] = len(good)
        items += good
    if not items:
        raise ValueError("coco-edit: no image fits a search prompt: are these COCO's instances and captions?")
    dataset = Dataset("COCO-Edit", _in_rounds(items), folder)
    return CocoEdit(dataset, {prompt: len(several) for prompt, several in found.items()}, kept, left_out)


def _masks(prompt: SearchPrompt, match: Match) -> tuple[dict[str, Mask], str]:
    """(H, W) uint8 0/1 for each noun, and what is wrong with them, or ""."""
    masks = {}
    for noun in prompt.nouns:
        outlines = match.image.annotations[category_of(noun)]
        try:
            parts = [coco_mask(noun, outline.get("segmentation"), match.image.size) for outline in outlines]
        except ValueError as error:
            return {}, str(error)
        masks[noun] = np.maximum.reduce(parts)
        if not masks[noun].any():
            return {}, f"the outline of {noun!r} is empty"
    share = float(masks[prompt.edited].mean())
    if share < LEAST_SHARE:
        return {}, f"{prompt.edited!r} fills {share:.2%} of it, less than {LEAST_SHARE:.0%}"
    return masks, ""


def _in_rounds(items: Sequence[Item]) -> tuple[Item, ...]:
    """The first item of every task, then the second …, so that the first N items are of every kind."""
    seen: dict[str, int] = {}
    rounds = []
    for item in items:
        seen[item.task] = seen.get(item.task, 0) + 1
        rounds.append(seen[item.task])
    return tuple(items[k] for k in sorted(range(len(items)), key=lambda k: rounds[k]))


def _item(folder: Path, prompt: SearchPrompt, match: Match, masks: Mapping[str, Mask], images: Path) -> Item:
    picture = match.image
    id = f"{prompt.slug}-{picture.id:012d}"
    given = file_inside(images, picture.file_name, f"image {picture.id}: file_name")
    size = tuple(load_image(given).shape[-2:])
    if size != picture.size:
        raise ValueError(f"image {picture.id} is {size} and its annotation {picture.size} (H, W)")
    image = folder / "images" / f"{id}{given.suffix.lower()}"
    shutil.copyfile(given, image)
    return Item(
        id=id,
        image=image,
        source=match.caption,
        target=swapped(match.caption, prompt.edited, prompt.becomes),
        task=prompt.task,
        places=tuple(_place(folder, id, noun, mask) for noun, mask in masks.items()),
        edited=(prompt.edited,),
        change=None,
        target_image=None,
        instruction=prompt.instruction,
    )


def _place(folder: Path, id: str, noun: str, mask: Mask) -> Place:
    x0, y0, x1, y1 = tight_box(mask.astype(bool))
    path = save_png(mask * np.uint8(255), folder / "masks" / f"{id}_{noun}.png")
    return Place(noun, path, (float(x0), float(y0), float(x1), float(y1)))


def swapped(caption: str, noun: str, other: str) -> str:
    """The caption with a noun, which it has once, replaced; "a" or "an" before it follows, capitals stay."""
    spans = word_spans(caption)
    place = next(k for k, (start, end) in enumerate(spans) if caption[start:end].lower() == noun)
    start, end = spans[place]
    new = other.capitalize() if caption[start].isupper() else other
    text = caption[:start] + new + caption[end:]
    if place and caption[slice(*spans[place - 1])].lower() in ("a", "an"):
        first, last = spans[place - 1]
        article = "an" if other[0].lower() in _VOWELS else "a"
        text = text[:first] + (article.capitalize() if text[first].isupper() else article) + text[last:]
    return text
