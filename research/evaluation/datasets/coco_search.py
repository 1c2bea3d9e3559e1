"""The search in MS-COCO by which COCO-Edit is made: captions that name a search prompt's things and no
others, over pictures in which these things are annotated."""

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
class CocoPicture:
    """A picture of COCO: its id, file name, (H, W) in pixels, its annotations by category name, and its
    captions in the order of their ids."""

    id: int
    file_name: str
    size: tuple[int, int]
    annotations: Mapping[str, Sequence[Mapping[str, Any]]]
    captions: Sequence[str]


@dataclass(frozen=True)
class Match:
    """A picture that fits a search prompt, and the caption by which it does."""

    picture: CocoPicture
    caption: str


def read_coco(instances: Path, captions: Path) -> tuple[list[CocoPicture], frozenset[str]]:
    """The pictures, in the order of their ids, and the names of all categories.

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
            raise ValueError(
                f"{named}: an annotation has the category {entry['category_id']!r}, which is none"
            )
        picture = annotations.setdefault(_whole(entry, "image_id", named), {})
        picture.setdefault(category, []).append(entry)
    texts: dict[int, list[tuple[int, str]]] = {}
    said = f"captions {str(captions)!r}"
    for entry in _entries(mapping_of(read_json(captions, "captions"), said), "annotations", said):
        caption = text_of(entry.get("caption"), f"{said}: caption")
        texts.setdefault(_whole(entry, "image_id", said), []).append((_whole(entry, "id", said), caption))
    pictures = [
        CocoPicture(
            id=number,
            file_name=text_of(entry.get("file_name"), f"{named}: file_name"),
            size=(_whole(entry, "height", named), _whole(entry, "width", named)),
            annotations=annotations.get(number, {}),
            captions=[" ".join(text.split()).removesuffix(".") for _, text in sorted(texts.get(number, []))],
        )
        for entry in _entries(content, "images", named)
        for number in [_whole(entry, "id", named)]
    ]
    return sorted(pictures, key=lambda picture: picture.id), frozenset(categories.values())


def search(
    pictures: Sequence[CocoPicture], prompts: Sequence[SearchPrompt], categories: frozenset[str]
) -> dict[SearchPrompt, list[Match]]:
    """The pictures of every prompt, in the order of their ids; a picture belongs to the first that it fits.

    A picture fits when one of its captions names each of the prompt's nouns once, in the singular, and no
    other category (for people, any of the usual words), and when each noun's category is annotated in it: the
    edited one by a single outline and no crowd, so that what changes is what the mask shows.
    """
    found: dict[SearchPrompt, list[Match]] = {prompt: [] for prompt in prompts}
    for picture in pictures:
        for prompt in prompts:
            caption = _fitting_caption(picture, prompt, categories)
            if caption is not None:
                found[prompt].append(Match(picture, caption))
                break
    return found


def category_of(noun: str) -> str:
    """The category by which COCO labels what a noun names."""
    return STANDS_FOR.get(noun, noun)


def _fitting_caption(picture: CocoPicture, prompt: SearchPrompt, categories: frozenset[str]) -> str | None:
    if not all(picture.annotations.get(category_of(noun)) for noun in prompt.nouns):
        return None
    edited = picture.annotations[category_of(prompt.edited)]
    if len(edited) != 1 or edited[0].get("iscrowd"):
        return None
    wanted = sorted(prompt.nouns)
    return next((text for text in picture.captions if _named(text, categories, wanted) == wanted), None)


def _named(caption: str, categories: frozenset[str], wanted: Sequence[str]) -> list[str]:
    """What a caption names, sorted, with repeats: wanted nouns as they are, other things with a mark."""
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
        raise ValueError(f"{named}: {key}: got {value!r}, wants a whole number")
    return value
