"""Text fields of the nodes: boxes, points, phrases, words with numbers, and pairs of words or sentences.

Every function raises ValueError that names the field and quotes the line or item that it cannot read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from ...locinv_core.localization.prior_sources.from_sam import SamPrompt
    from ...locinv_core.localization.priors import LocalizationPrior

Box = tuple[float, float, float, float]
Point = tuple[float, float]
T = TypeVar("T")

NO_NOUN = "-"
"""The whole list of nouns of a prompt in which no word names an object."""


def boxes_from_text(text: str) -> dict[str, list[Box]]:
    """Boxes (x0, y0, x1, y1) in pixels by word, from lines `word=x0,y0,x1,y1`; a word may have several."""
    boxes: dict[str, list[Box]] = {}
    for line in _lines(text):
        word, _, numbers = line.partition("=")
        try:
            x0, y0, x1, y1 = (float(number) for number in numbers.split(","))
        except ValueError:
            raise ValueError(f"boxes: got the line {line!r}, requires word=x0,y0,x1,y1 in pixels") from None
        if not word.strip():
            raise ValueError(f"boxes: got the line {line!r}, which names no word; requires word=x0,y0,x1,y1")
        boxes.setdefault(word.strip(), []).append((x0, y0, x1, y1))
    if not boxes:
        raise ValueError("boxes: got none, requires a line word=x0,y0,x1,y1 for each box")
    return boxes


def points_from_text(text: str) -> tuple[dict[str, list[Point]], dict[str, list[Point]]]:
    """Points (x, y) in pixels by word, on the object and beside it, from lines `word=x,y` and `word!=x,y`."""
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
    """What describes each word, from lines `word` or `word=phrase`; a word alone describes itself."""
    from ...locinv_core.localization.priors import prior_word

    phrases: dict[str, str] = {}
    for line in _lines(text):
        word, equals, phrase = (part.strip() for part in line.partition("="))
        # The second cat of a prompt is cat#2, but a model searches for a cat.
        phrase = phrase if equals else re.sub(r"#\d+$", "", word)
        if not word or not phrase:
            raise ValueError(f"words: got the line {line!r}, requires word or word=what to look for")
        if prior_word(word) in map(prior_word, phrases):
            raise ValueError(f"words: {word!r} is given twice, requires each word once")
        phrases[word] = phrase
    if not phrases:
        raise ValueError("words: got none, requires a line for each word of the prompt to locate")
    return phrases


def sam_prompts(boxes: str, points: str, prior: LocalizationPrior | None) -> dict[str, SamPrompt]:
    """Boxes and points of each word for Segment Anything: typed boxes, else the boxes around its masks in the prior.

    Points beside the object go with the box of the prior. Words are the same whatever their capitals. Raises
    ValueError where nothing is given at all.
    """
    from ...locinv_core.localization.prior_sources.from_sam import SamPrompt, boxes_of

    typed = _joined(boxes_from_text(boxes) if boxes.strip() else {})
    on, off = (_joined(found) for found in points_from_text(points))
    known = {} if prior is None else {word: places.boxes for word, places in boxes_of(prior).items()}
    words = list(dict.fromkeys([*typed, *on, *off, *known]))
    if not words:
        raise ValueError("boxes: got neither a box, a point nor a prior; requires one for at least one word")
    return {
        word: SamPrompt(
            tuple(typed[word]) if word in typed else known.get(word, ()),
            tuple(on.get(word, ())),
            tuple(off.get(word, ())),
        )
        for word in words
    }


def factors_from_text(text: str, name: str = "equalizer") -> dict[str, float]:
    """Factors by word, from `word=factor`, separated by commas or lines."""
    factors = {}
    for item, word, value in _assignments(text):
        try:
            factors[word] = float(value)
        except ValueError:
            raise ValueError(f"{name}: got {item!r}, requires word=factor, for example fox=1.5") from None
    return factors


def ranges_from_text(text: str, name: str = "word_ranges") -> dict[str, tuple[float, float]]:
    """Shares (start, end) of the steps by word, from `word=start-end`, separated by commas or lines."""
    ranges = {}
    for item, word, value in _assignments(text):
        match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(?:-|–|to)\s*(\d*\.?\d+)\s*", value)
        if not match:
            raise ValueError(f"{name}: got {item!r}, requires word=start-end, for example fox=0-0.5")
        ranges[word] = (float(match[1]), float(match[2]))
    return ranges


def pairs_from_text(text: str, name: str = "bindings") -> list[tuple[str, str]]:
    """(adjective, noun) pairs, from `adjective:noun`, separated by commas or lines."""
    pairs = []
    for item in _items(text):
        adjective, _, noun = (part.strip() for part in item.partition(":"))
        if not (adjective and noun):
            raise ValueError(f"{name}: got {item!r}, requires adjective:noun, for example red:car")
        pairs.append((adjective, noun))
    return pairs


def sentence_pairs_from_text(text: str, name: str = "pairs") -> tuple[tuple[str, str], ...]:
    """(old, new) sentences, from lines `old -> new`."""
    pairs = []
    for line in sentences_from_text(text):
        old, _, new = (part.strip() for part in line.partition("->"))
        if not (old and new):
            raise ValueError(f"{name}: got the line {line!r}, requires old sentence -> new sentence")
        pairs.append((old, new))
    return tuple(pairs)


def sentences_from_text(text: str) -> tuple[str, ...]:
    """The lines that are not empty."""
    return tuple(_lines(text, ends="\n"))


def nouns_from_text(text: str) -> list[str] | None:
    """The words of a list that name objects: none of them for a dash alone; None, to be found, for no text."""
    words = words_from_text(text)
    return [] if words == [NO_NOUN] else words or None


def words_from_text(text: str) -> list[str]:
    """The words of a list separated by commas or lines."""
    return list(_items(text))


def _joined(found: Mapping[str, Sequence[T]]) -> dict[str, list[T]]:
    """The same by a prior's words: what stands at one word's several spellings comes together."""
    from ...locinv_core.localization.priors import prior_word

    joined: dict[str, list[T]] = {}
    for word, values in found.items():
        joined.setdefault(prior_word(word), []).extend(values)
    return joined


def _lines(text: str, ends: str = "\n;") -> Iterator[str]:
    return filter(None, (line.strip() for line in re.split(f"[{ends}]", text)))


def _items(text: str) -> Iterator[str]:
    return _lines(text, ends=",\n;")


def _assignments(text: str) -> Iterator[tuple[str, str, str]]:
    """(the item, its word, what follows the equals sign; empty without one)."""
    for item in _items(text):
        word, _, value = item.partition("=")
        yield item, word.strip(), value
