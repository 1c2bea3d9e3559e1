"""The search in MS-COCO by which COCO-Edit is made: captions that name a search prompt's objects and no
others, over images in which these objects are annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ....locinv_core.text.prompt import word_spans
from .fields import list_of, mapping_of, read_json, text_of
from .search_prompts import SearchPrompt

STANDS_FOR: Final[Mapping[str, str]] = {"donkey": "horse"}
"""Nouns that are no category of COCO, and the category by which its annotators label them."""
PERSON_WORDS: Final = frozenset(
    "person persons people man men woman women boy boys girl girls child children kid kids lady ladies guy"
    " guys baby babies player players rider riders surfer skier".split()
)
"""What captions call a person."""


@dataclass(frozen=True)
class CocoImage:
    """An image of COCO: its id, file name, (H, W) in pixels, its annotations by category name, and its
    captions in the order of their ids."""

    id: int
    file_name: str
    size: tuple[int, int]
    annotations: Mapping[str, Sequence[Mapping[str, Any]]]
    captions: Sequence[str]


@dataclass(frozen=True)
class Match:
    """An image that fits a search prompt, and the caption by which it does."""

    image: CocoImage
    caption: str


def read_coco(instances: Path, captions: Path) -> tuple[list[CocoImage], frozenset[str]]:
    """The images, in the order of their ids, and the names of all categories.

    Raises ValueError for files that are not COCO's instances and captions.
    """
    content = mapping_of(read_json(instances, "instances"), f"instances {str(instances)!r}")
    named = f"instances {str(instances)!r}"
    categories = {
        _whole(entry, "id", named): text_of(entry.get("name"), f"{named}: category")
        for entry in _entries(content, "categories", named)
    }
    annotations: dict[int, dict[str, list[Mapping[str, Any]]]] = {}
    for entry in _entries(content, "annotations", named):
        category = categories.get(_whole(entry, "category_id", named))
        if category is None:
            raise ValueError(f"{named}: an annotation has the category {entry['category_id']!r}, which is none")
        image = annotations.setdefault(_whole(entry, "image_id", named), {})
        image.setdefault(category, []).append(entry)
    texts: dict[int, list[tuple[int, str]]] = {}
    said = f"captions {str(captions)!r}"
    for entry in _entries(mapping_of(read_json(captions, "captions"), said), "annotations", said):
        caption = text_of(entry.get("caption"), f"{said}: caption")
        texts.setdefault(_whole(entry, "image_id", said), []).append((_whole(entry, "id", said), caption))
    images = [
        CocoImage(
            id=number,
            file_name=text_of(entry.get("file_name"), f"{named}: file_name"),
            size=(_whole(entry, "height", named), _whole(entry, "width", named)),
            annotations=annotations.get(number, {}),
            captions=[" ".join(text.split()).removesuffix(".") for _, text in sorted(texts.get(number, []))],
        )
        for entry in _entries(content, "images", named)
        for number in [_whole(entry, "id", named)]
    ]
    return sorted(images, key=lambda image: image.id), frozenset(categories.values())


def search(
    images: Sequence[CocoImage], prompts: Sequence[SearchPrompt], categories: frozenset[str]
) -> dict[SearchPrompt, list[Match]]:
    """The images of every prompt, in the order of their ids; an image belongs to the first that it fits.

    An image fits when one of its captions names each of the prompt's nouns once, in the singular, and no
    other category (for people, any of the usual words), and when each noun's category is annotated in it: the
    edited one by a single outline and no crowd, so that what changes is what the mask shows.
    """
    found: dict[SearchPrompt, list[Match]] = {prompt: [] for prompt in prompts}
    for image in images:
        for prompt in prompts:
            caption = _fitting_caption(image, prompt, categories)
            if caption is not None:
                found[prompt].append(Match(image, caption))
                break
    return found


def category_of(noun: str) -> str:
    """The category by which COCO labels what a noun names."""
    return STANDS_FOR.get(noun, noun)


def _fitting_caption(image: CocoImage, prompt: SearchPrompt, categories: frozenset[str]) -> str | None:
    if not all(image.annotations.get(category_of(noun)) for noun in prompt.nouns):
        return None
    edited = image.annotations[category_of(prompt.edited)]
    if len(edited) != 1 or edited[0].get("iscrowd"):
        return None
    wanted = sorted(prompt.nouns)
    return next((text for text in image.captions if _named(text, categories, wanted) == wanted), None)


def _named(caption: str, categories: frozenset[str], wanted: Sequence[str]) -> list[str]:
    """What a caption names, sorted, with repeats: wanted nouns as they are, other objects with a mark."""
    words = [caption[start:end].lower() for start, end in word_spans(caption)]
    unasked = sorted((categories | set(STANDS_FOR)) - set(wanted))
    named: list[str] = []
    for start, word in enumerate(words):
        if word in wanted:
            named.append(word)
        elif word in PERSON_WORDS:
            named.append("person, by another word")
        else:
            others = (name for name in unasked if _stands_at(words, start, name))
            named += [f"{name}, unasked" for name in others]
            named += [f"{noun}, several" for noun in wanted if word in (f"{noun}s", f"{noun}es")]
    return sorted(named)


def _stands_at(words: Sequence[str], start: int, name: str) -> bool:
    """Whether a category's name, or its plural, stands at a word."""
    parts = name.lower().split()
    there = list(words[start : start + len(parts)])
    return there in (parts, [*parts[:-1], f"{parts[-1]}s"], [*parts[:-1], f"{parts[-1]}es"])


def _entries(content: Mapping[str, Any], key: str, named: str) -> list[Mapping[str, Any]]:
    return [mapping_of(entry, f"{named}: {key}") for entry in list_of(content.get(key), f"{named}: {key}")]


def _whole(entry: Mapping[str, Any], key: str, named: str) -> int:
    value = entry.get(key)
    if type(value) is not int:
        raise ValueError(f"{named}: {key}: got {value!r}, requires a whole number")
    return value
