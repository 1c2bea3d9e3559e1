"""What artists type into text fields: boxes, words with numbers, pairs of words."""

from __future__ import annotations

import re
from collections.abc import Iterator

Box = tuple[float, float, float, float]

NO_NOUN = "-"
"""What stands where words that name objects are listed and no word does."""


def boxes_from_text(text: str) -> dict[str, list[Box]]:
    """Boxes (x0, y0, x1, y1) in pixels by word, from lines `word=x0,y0,x1,y1`; a word may have several.

    Raises ValueError, quoting the line, for one that reads otherwise, and for a text without any.
    """
    boxes: dict[str, list[Box]] = {}
    for line in filter(None, (line.strip() for line in re.split(r"[\n;]", text))):
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


def factors_from_text(text: str, name: str = "equalizer") -> dict[str, float]:
    """Factors by word, from `word=factor`, separated by commas or lines; ValueError quotes a bad item."""
    factors = {}
    for item, word, value in _assignments(text):
        try:
            factors[word] = float(value)
        except ValueError:
            raise ValueError(f"{name}: got {item!r}, requires word=factor, for example fox=1.5") from None
    return factors


def ranges_from_text(text: str, name: str = "word_ranges") -> dict[str, tuple[float, float]]:
    """Shares (start, end) of the steps by word, from `word=start-end`, separated by commas or lines.

    Raises ValueError, quoting the item.
    """
    ranges = {}
    for item, word, value in _assignments(text):
        match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(?:-|–|to)\s*(\d*\.?\d+)\s*", value)
        if not match:
            raise ValueError(f"{name}: got {item!r}, requires word=start-end, for example fox=0-0.5")
        ranges[word] = (float(match[1]), float(match[2]))
    return ranges


def pairs_from_text(text: str, name: str = "bindings") -> list[tuple[str, str]]:
    """(adjective, noun) pairs, from `adjective:noun`, separated by commas or lines. Raises ValueError."""
    pairs = []
    for item in _items(text):
        adjective, colon, noun = item.partition(":")
        if not (colon and adjective.strip() and noun.strip()):
            raise ValueError(f"{name}: got {item!r}, requires adjective:noun, for example red:car")
        pairs.append((adjective.strip(), noun.strip()))
    return pairs


def sentence_pairs_from_text(text: str, name: str = "pairs") -> tuple[tuple[str, str], ...]:
    """(old, new) sentences, from lines `old -> new`. Raises ValueError, quoting the line."""
    pairs = []
    for line in _lines(text):
        old, arrow, new = line.partition("->")
        if not (arrow and old.strip() and new.strip()):
            raise ValueError(f"{name}: got the line {line!r}, requires old sentence -> new sentence")
        pairs.append((old.strip(), new.strip()))
    return tuple(pairs)


def templates_from_text(text: str) -> tuple[str, ...]:
    """The lines that are not empty."""
    return tuple(_lines(text))


def nouns_from_text(text: str) -> list[str] | None:
    """The words of a list that name objects: none of them for a dash alone; None, to be found, for no text."""
    words = words_from_text(text)
    return [] if words == [NO_NOUN] else words or None


def words_from_text(text: str) -> list[str]:
    """The words of a list separated by commas or lines."""
    return list(_items(text))


def _lines(text: str) -> Iterator[str]:
    return filter(None, (line.strip() for line in text.splitlines()))


def _items(text: str) -> Iterator[str]:
    return filter(None, (item.strip() for item in re.split(r"[,\n;]", text)))


def _assignments(text: str) -> Iterator[tuple[str, str, str]]:
    """(the item, its word, what follows the equals sign; empty without one)."""
    for item in _items(text):
        word, _, value = item.partition("=")
        yield item, word.strip(), value
