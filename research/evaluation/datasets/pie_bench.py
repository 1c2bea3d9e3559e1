"""PIE-Bench (Ju et al., "Direct Inversion", 2023) from its mapping file and its folder of images."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from .fields import Fields, file_inside, mapping_of, runs_of, text_of
from .masks import box_of_mask, decode_runs, encode_runs
from .types import AnnotatedObject, Dataset, Item, words_of

IMAGES: Final = "annotation_images"
TASKS: Final = (
    *("random", "change object", "add object", "delete object", "change content"),
    *("change pose", "change colour", "change material", "change background", "change style"),
)
"""By editing_type_id, 0 to 9."""

_BRACKETED = re.compile(r"\[([^\[\]]*)\]")


def dataset_of_mapping(content: Fields) -> Dataset:
    """The data set of a mapping_file.json, its images in annotation_images beside it.

    Of an entry, the prompts have the words that differ in [brackets], blended_word is "cat dog" (the source's word
    and the target's), and mask the pixels to be edited as runs. As in the benchmark's own evaluation, the edit may
    show in the image's outermost pixels, too. The mask is that of the edited word; where the blended word is not
    in the source prompt, the first bracketed words stand for it, and without them the item has no object.
    Raises ValueError for an entry that lacks something, and an image that is missing or cannot be read.
    """
    if not content.content:
        raise ValueError(f"{content.named} is empty, requires PIE-Bench's entries")
    images = content.folder / IMAGES
    if not images.is_dir():
        raise ValueError(f"{content.named}: the images' folder {str(images)!r} does not exist")
    items = [
        _item(key, Fields(mapping_of(entry, f"{content.named}: entry {key!r}"), f"entry {key!r}", content.folder))
        for key, entry in content.content.items()
    ]
    return Dataset("PIE-Bench", tuple(items), content.folder)


def _item(key: str, entry: Fields) -> Item:
    path = entry.read("image_path", text_of)
    image = file_inside(entry.folder, f"{IMAGES}/{path}", f"{entry.named}: image_path")
    size = _size(image, entry.named)
    runs = entry.read("mask", runs_of)
    try:
        inside = decode_runs(runs, size)
    except ValueError as error:
        raise ValueError(f"{entry.named}: {error}") from error
    original = entry.read("original_prompt", text_of)
    source = _plain(original)
    blended = str(entry.content.get("blended_word", ""))
    word = _edited_word(original, blended, source) if inside.any() else None
    instruction = entry.content.get("editing_instruction")
    return Item(
        id=key,
        image=image,
        source=source,
        target=_plain(entry.read("editing_prompt", text_of)),
        task=_task(entry.content.get("editing_type_id"), entry.named),
        objects=() if word is None else (AnnotatedObject(word, None, box_of_mask(inside), encode_runs(inside)),),
        edited=() if word is None else (word,),
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
