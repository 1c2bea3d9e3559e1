"""The search in MS-COCO by which COCO-Edit is made: captions that name a search prompt's objects and no
others, over images in which these objects are annotated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ....locinv_core.text.prompt import word_spans
from .fields import Fields, mapping_of, read_json, text_of, whole_number_of
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
    """An image of COCO; size: (H, W) in pixels; annotations: by category name; captions: in the order of their ids."""

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
    content, said = (_fields(path, kind) for path, kind in ((instances, "instances"), (captions, "captions")))
    categories = {
        entry.read("id", whole_number_of): entry.read("name", text_of) for entry in content.each("categories")
    }
    annotations: dict[int, dict[str, list[Mapping[str, Any]]]] = {}
    for entry in content.each("annotations"):
        number = entry.read("category_id", whole_number_of)
        if number not in categories:
            raise ValueError(f"{content.named}: an annotation has the category {number!r}, which is none")
        image = annotations.setdefault(entry.read("image_id", whole_number_of), {})
        image.setdefault(categories[number], []).append(entry.content)
    texts: dict[int, list[tuple[int, str]]] = {}
    for entry in said.each("annotations"):
        image_id, id = (entry.read(key, whole_number_of) for key in ("image_id", "id"))
        texts.setdefault(image_id, []).append((id, entry.read("caption", text_of)))
    images = []
    for entry in content.each("images"):
        number, height, width = (entry.read(key, whole_number_of) for key in ("id", "height", "width"))
        own = [" ".join(text.split()).removesuffix(".") for _, text in sorted(texts.get(number, []))]
        name = entry.read("file_name", text_of)
        images.append(CocoImage(number, name, (height, width), annotations.get(number, {}), own))
    return sorted(images, key=lambda image: image.id), frozenset(categories.values())


def _fields(path: Path, kind: str) -> Fields:
    named = f"{kind} {str(path)!r}"
    return Fields(mapping_of(read_json(path, kind), named), named, path.parent)


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
