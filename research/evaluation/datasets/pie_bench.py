"""PIE-Bench (Ju et al., "Direct Inversion", 2023) from its mapping file and its folder of images."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from ...embedded_world.scenes.render import tight_box
from .dataset import Dataset, Item, Place, words_of
from .fields import file_inside, mapping_of, runs_of, text_of
from .mask_rle import decode_runs, encode_runs

IMAGES: Final = "annotation_images"
TASKS: Final = (
    "random",
    "change object",
    "add object",
    "delete object",
    "change content",
    "change pose",
    "change colour",
    "change material",
    "change background",
    "change style",
)
"""By editing_type_id, 0 to 9."""

_BRACKETED = re.compile(r"\[([^\[\]]*)\]")


def dataset_of_mapping(content: Mapping[str, Any], file: Path) -> Dataset:
    """The data set of a mapping_file.json that was read from `file`, its images in annotation_images.

    Each entry has image_path, original_prompt and editing_prompt with the words that differ in [brackets],
    editing_instruction, editing_type_id, blended_word ("cat dog": the source's word and the target's), and
    mask, the pixels to be edited as runs. As in the benchmark's own evaluation, the edit may show in the
    image's outermost pixels, too. The place of the edited word is the mask; where the blended word is not
    in the source prompt, the first bracketed words stand for it, and without them the item has no place.
    Raises ValueError for an entry that lacks something, and an image that is missing or cannot be read.
    """
    if not content:
        raise ValueError(f"dataset {str(file)!r} is empty, requires PIE-Bench's entries")
    images = file.parent / IMAGES
    if not images.is_dir():
        raise ValueError(f"dataset {str(file)!r}: the images' folder {str(images)!r} does not exist")
    items = [
        _item(key, mapping_of(entry, f"dataset {str(file)!r}: entry {key!r}"), file.parent)
        for key, entry in content.items()
    ]
    return Dataset("PIE-Bench", tuple(items), file.parent)


def _item(key: str, entry: Mapping[str, Any], folder: Path) -> Item:
    named = f"entry {key!r}"
    path = text_of(entry.get("image_path"), f"{named}: image_path")
    image = file_inside(folder, f"{IMAGES}/{path}", f"{named}: image_path")
    size = _size(image, named)
    runs = runs_of(entry.get("mask"), f"{named}: mask")
    try:
        inside = decode_runs(runs, size)
    except ValueError as error:
        raise ValueError(f"{named}: {error}") from error
    original = text_of(entry.get("original_prompt"), f"{named}: original_prompt")
    source = _plain(original)
    word = _edited_word(original, str(entry.get("blended_word", "")), source) if inside.any() else None
    places = () if word is None else (Place(word, None, _box(inside), encode_runs(inside)),)
    instruction = entry.get("editing_instruction")
    return Item(
        id=key,
        image=image,
        source=source,
        target=_plain(text_of(entry.get("editing_prompt"), f"{named}: editing_prompt")),
        task=_task(entry.get("editing_type_id"), named),
        places=places,
        edited=() if word is None else (word,),
        change=None,
        target_image=None,
        instruction=instruction if isinstance(instruction, str) and instruction.strip() else None,
        change_runs=encode_runs(inside),
        change_border=True,
    )


def _edited_word(original: str, blended: str, source: str) -> str | None:
    """The source's word that the edit changes: the first of blended_word, or what the first brackets hold."""
    words = words_of(source)
    for candidate in (*blended.split()[:1], *_BRACKETED.findall(original)):
        try:
            words.locate(candidate)
        except ValueError:
            continue
        return " ".join(candidate.split())
    return None


def _task(number: Any, named: str) -> str:
    text = str(number)
    if text not in map(str, range(len(TASKS))):
        raise ValueError(f"{named}: editing_type_id: got {number!r}, requires 0 to {len(TASKS) - 1}")
    return TASKS[int(text)]


def _plain(prompt: str) -> str:
    return " ".join(prompt.replace("[", "").replace("]", "").split())


def _size(image: Path, named: str) -> tuple[int, int]:
    """(H, W) from the file's head."""
    from PIL import Image

    try:
        with Image.open(image) as opened:
            return opened.height, opened.width
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{named}: {str(image)!r} cannot be read as an image: {error}") from error


def _box(inside: np.ndarray) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = tight_box(inside)
    return float(x0), float(y0), float(x1), float(y1)
