"""The objects of the embedded world: each is a sketch in the unit square that touches its lower side.

The sketches are data: `drawings.json` has the calls of `Sketch` for each noun, back to front, as
[method, role, arguments …].
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from . import palette
from .shape import Shape, Sketch

NOUNS: Final[tuple[str, ...]] = (
    *("house", "tree", "boat", "balloon", "fish", "cat", "fox", "mushroom"),
    *("car", "cup", "star", "heart", "flower", "bird", "rabbit", "apple"),
)


@cache
def shapes(noun: str) -> tuple[Shape, ...]:
    """The shapes of one of ``NOUNS``, back to front, in the unit square.

    Raises:
        ValueError: for a noun that nobody has drawn.
    """
    if noun not in NOUNS:
        raise ValueError(f"noun: {noun!r} is none of {', '.join(NOUNS)}")
    sketch = Sketch()
    for method, *arguments in _drawings()[noun]:
        if method == "next_part":
            sketch.next_part()
            continue
        role, *numbers = arguments
        if method == "ellipse":
            x, y, rx, ry, *turn = numbers
            sketch.ellipse(x, y, rx, ry, getattr(palette, role.upper()), *turn)
        elif method == "stroke":
            points, width, *end = numbers
            sketch.stroke(points, width, getattr(palette, role.upper()), *end)
        else:  # polygon, blob, rounded: points, and for the last a radius
            getattr(sketch, method)(*numbers, getattr(palette, role.upper()))
    return tuple(sketch.shapes)


@cache
def _drawings() -> dict[str, list[list[Any]]]:
    drawings: dict[str, list[list[Any]]] = json.loads(Path(__file__).with_name("drawings.json").read_text("utf-8"))
    return drawings
