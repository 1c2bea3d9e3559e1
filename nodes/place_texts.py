"""What artists type to show where things are: points, and phrases that describe what words name."""

from __future__ import annotations

import re
from collections.abc import Iterator

Point = tuple[float, float]


def points_from_text(text: str) -> tuple[dict[str, list[Point]], dict[str, list[Point]]]:
    """Points x, y in pixels by word, on the thing and beside it.

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
            raise ValueError(f"points: got the line {line!r}, wants word=x,y or word!=x,y in pixels")
        (off if beside else on).setdefault(word, []).append((x, y))
    return on, off


def phrases_from_text(text: str) -> dict[str, str]:
    """What describes each word, from lines `word` or `word=phrase`; a word alone describes itself.

    Raises ValueError, quoting the line, for an empty word or phrase and for a word given twice; and for none.
    """
    phrases: dict[str, str] = {}
    for line in _lines(text):
        word, equals, phrase = (part.strip() for part in line.partition("="))
        # The second cat of a prompt is cat#2, but a model looks for a cat.
        phrase = phrase if equals else re.sub(r"#\d+$", "", word)
        if not word or not phrase:
            raise ValueError(f"words: got the line {line!r}, wants word or word=what to look for")
        if word in phrases:
            raise ValueError(f"words: {word!r} is given twice, wants each word once")
        phrases[word] = phrase
    if not phrases:
        raise ValueError("words: got none, wants a line for each word of the prompt that has a place")
    return phrases


def _lines(text: str) -> Iterator[str]:
    return filter(None, (line.strip() for line in re.split(r"[\n;]", text)))
