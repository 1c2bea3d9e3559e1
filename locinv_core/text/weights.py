"""Weights in a prompt, as ComfyUI reads them.

`(cat:1.2)` counts 1.2 times, `(cat)` 1.1 times and `((cat))` 1.21 times; a parenthesis that is meant is written `\\(`.
"""

from __future__ import annotations

import math

_EMPHASIS = 1.1


def read_weights(text: str) -> tuple[str, list[float]]:
    """The text without the marks of its weights, and the weight of each of its characters.

    A number replaces the weight around it, as in ComfyUI. A parenthesis without its other half is text.
    """
    read = _read(text, 1.0)
    return "".join(character for character, _ in read), [weight for _, weight in read]


def _read(text: str, weight: float) -> list[tuple[str, float]]:
    read: list[tuple[str, float]] = []
    position = 0
    while position < len(text):
        character = text[position]
        if character == "\\" and text[position + 1 : position + 2] in ("(", ")"):
            read.append((text[position + 1], weight))
            position += 2
        elif character == "(" and (end := _closing(text, position)) is not None:
            inner, own = text[position + 1 : end], weight * _EMPHASIS
            before, _, number = inner.rpartition(":")
            if before and (told := _number(number)) is not None:
                inner, own = before, told
            read += _read(inner, own)
            position = end + 1
        else:
            read.append((character, weight))
            position += 1
    return read


def _closing(text: str, start: int) -> int | None:
    """Where the parenthesis at `start` closes; None if it never does."""
    depth, position = 0, start
    while position < len(text):
        if text[position] == "\\" and text[position + 1 : position + 2] in ("(", ")"):
            position += 1
        elif text[position] == "(":
            depth += 1
        elif text[position] == ")":
            depth -= 1
            if depth == 0:
                return position
        position += 1
    return None


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
