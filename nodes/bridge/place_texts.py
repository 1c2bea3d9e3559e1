"""What artists type to show where objects are: points, phrases that describe what words name, and both with
boxes and a prior."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from .parsing import boxes_from_text

if TYPE_CHECKING:
    from ...locinv_core.localization.prior_from_sam import SamPrompt
    from ...locinv_core.localization.priors import LocalizationPrior

Point = tuple[float, float]
T = TypeVar("T")


def points_from_text(text: str) -> tuple[dict[str, list[Point]], dict[str, list[Point]]]:
    """Points x, y in pixels by word, on the object and beside it.

    From lines `word=x,y` for a point on it and `word!=x,y` for one beside it. Raises ValueError, quoting the
    line.
    """
    on: dict[str, list[Point]] = {}
    off: dict[str, list[Point]] = {}
    for line in _lines(text):
        word, equals, numbers = line.partition("=")
        beside = word.endswith("!")
        word = word.removesuffix("!").strip()
        try:
            x, y = (float(number) for number in numbers.split(","))
        except ValueError:
            equals = ""
        if not equals or not word:
            raise ValueError(f"points: got the line {line!r}, requires word=x,y or word!=x,y in pixels")
        (off if beside else on).setdefault(word, []).append((x, y))
    return on, off


def phrases_from_text(text: str) -> dict[str, str]:
    """What describes each word, from lines `word` or `word=phrase`; a word alone describes itself.

    Raises ValueError, quoting the line, for an empty word or phrase and for a word given twice; and for none.
    """
    from ...locinv_core.localization.priors import prior_word

    phrases: dict[str, str] = {}
    for line in _lines(text):
        word, equals, phrase = (part.strip() for part in line.partition("="))
        # The second cat of a prompt is cat#2, but a model looks for a cat.
        phrase = phrase if equals else re.sub(r"#\d+$", "", word)
        if not word or not phrase:
            raise ValueError(f"words: got the line {line!r}, requires word or word=what to look for")
        if prior_word(word) in map(prior_word, phrases):
            raise ValueError(f"words: {word!r} is given twice, requires each word once")
        phrases[word] = phrase
    if not phrases:
        raise ValueError("words: got none, requires a line for each word of the prompt that has a place")
    return phrases


def places_of(boxes: str, points: str, prior: LocalizationPrior | None) -> dict[str, SamPrompt]:
    """What shows where each word's object is: what is typed, else the box around its place in the prior.

    Points beside a word's place in the prior go with the box around it. Words are the same whatever their
    capitals. Raises ValueError for nothing at all.
    """
    from ...locinv_core.localization.prior_from_sam import SamPrompt, boxes_of

    typed = _joined(boxes_from_text(boxes) if boxes.strip() else {})
    on, off = (_joined(found) for found in points_from_text(points))
    known = {} if prior is None else {word: places.boxes for word, places in boxes_of(prior).items()}
    words = list(dict.fromkeys([*typed, *on, *off, *known]))
    if not words:
        raise ValueError("boxes: got neither a box, a point nor a prior; requires a place for at least one word")
    return {
        word: SamPrompt(
            tuple(typed[word]) if word in typed else known.get(word, ()),
            tuple(on.get(word, ())),
            tuple(off.get(word, ())),
        )
        for word in words
    }


def _joined(found: Mapping[str, Sequence[T]]) -> dict[str, list[T]]:
    """The same by a prior's words: what stands at one word's several spellings comes together."""
    from ...locinv_core.localization.priors import prior_word

    joined: dict[str, list[T]] = {}
    for word, values in found.items():
        joined.setdefault(prior_word(word), []).extend(values)
    return joined


def _lines(text: str) -> Iterator[str]:
    return filter(None, (line.strip() for line in re.split(r"[\n;]", text)))
