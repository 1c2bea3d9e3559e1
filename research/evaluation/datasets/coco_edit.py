"""COCO-Edit (LocInv, Table 3), made from a local MS-COCO download."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ....locinv_core.extras import require
from ....locinv_core.imaging.io import load_image, save_png
from ....locinv_core.localization.prior_sources.from_coco import coco_mask
from ....locinv_core.text.prompt import word_spans
from .coco_search import Match, category_of, read_coco, search
from .fields import file_inside
from .masks import box_of_mask
from .search_prompts import COCO_EDIT, SearchPrompt, in_rounds
from .types import AnnotatedObject, Dataset, Item

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
    outline cannot be read, or the edited object fills less than LEAST_SHARE.

    folder: exists, empty. instances, captions: COCO's annotation files. images: the folder of the images.
    Raises ValueError for a count below 1, foreign files, a missing image, one whose size is not the
    annotated one, and when nothing is found.
    """
    if count is not None and count < 1:
        raise ValueError(f"count: got {count}, requires 1 or more")
    require("pycocotools.mask", "evaluate")
    if not images.is_dir():
        raise ValueError(f"images: there is no folder {str(images)!r}")
    annotated, categories = read_coco(instances, captions)
    found = search(annotated, COCO_EDIT, categories)
    for name in ("images", "masks"):
        (folder / name).mkdir()
    kept: dict[SearchPrompt, list[Item]] = {prompt: [] for prompt in found}
    left_out: list[str] = []
    for prompt, matches in found.items():
        for match in matches:
            if len(kept[prompt]) == (count or prompt.paper_count):
                break
            try:
                masks = _masks(prompt, match)
            except ValueError as error:
                left_out.append(f"image {match.image.id} ({prompt.text}): {error}")
            else:
                kept[prompt].append(_item(folder, prompt, match, masks, images))
    if not any(kept.values()):
        raise ValueError("coco-edit: no image fits a search prompt: are these COCO's instances and captions?")
    dataset = Dataset("COCO-Edit", tuple(in_rounds(kept.values())), folder)
    found_counts, kept_counts = ({prompt: len(own) for prompt, own in group.items()} for group in (found, kept))
    return CocoEdit(dataset, found_counts, kept_counts, left_out)


def _masks(prompt: SearchPrompt, match: Match) -> dict[str, Mask]:
    """(H, W) uint8 0/1 for each noun. Raises ValueError, saying what is wrong with them, for an image to leave out."""
    masks = {}
    for noun in prompt.nouns:
        outlines = match.image.annotations[category_of(noun)]
        parts = [coco_mask(noun, outline.get("segmentation"), match.image.size) for outline in outlines]
        masks[noun] = np.maximum.reduce(parts)
        if not masks[noun].any():
            raise ValueError(f"the outline of {noun!r} is empty")
    share = float(masks[prompt.edited].mean())
    if share < LEAST_SHARE:
        raise ValueError(f"{prompt.edited!r} fills {share:.2%} of it, less than {LEAST_SHARE:.0%}")
    return masks


def _item(folder: Path, prompt: SearchPrompt, match: Match, masks: Mapping[str, Mask], images: Path) -> Item:
    found = match.image
    id = f"{prompt.slug}-{found.id:012d}"
    given = file_inside(images, found.file_name, f"image {found.id}: file_name")
    size = tuple(load_image(given).shape[-2:])
    if size != found.size:
        raise ValueError(f"image {found.id} is {size} and its annotation {found.size} (H, W)")
    image, masks_of = folder / "images" / f"{id}{given.suffix.lower()}", folder / "masks"
    shutil.copyfile(given, image)
    return Item(
        id=id,
        image=image,
        source=match.caption,
        target=swapped(match.caption, prompt.edited, prompt.becomes),
        task=prompt.task,
        objects=tuple(
            AnnotatedObject(noun, save_png(mask * np.uint8(255), masks_of / f"{id}_{noun}.png"), box_of_mask(mask > 0))
            for noun, mask in masks.items()
        ),
        edited=(prompt.edited,),
        instruction=prompt.instruction,
    )


def swapped(caption: str, noun: str, other: str) -> str:
    """The caption with a noun, which it has once, replaced; "a" or "an" before it follows, capitals stay."""
    spans = word_spans(caption)
    found = next(k for k, (start, end) in enumerate(spans) if caption[start:end].lower() == noun)
    start, end = spans[found]
    new = other.capitalize() if caption[start].isupper() else other
    text = caption[:start] + new + caption[end:]
    if found and caption[slice(*spans[found - 1])].lower() in ("a", "an"):
        first, last = spans[found - 1]
        article = "an" if other[0].lower() in _VOWELS else "a"
        text = text[:first] + (article.capitalize() if text[first].isupper() else article) + text[last:]
    return text
