"""The objects of the embedded world, each a sketch in the unit square that touches its lower side."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final

import numpy as np

from .animal_shapes import bird, cat, fish, fox, rabbit
from .palette import BARK, DARK, GLASS, HONEY, INK, LEAF, LIGHT, MAIN, METAL, PAPER, SHINE
from .shape import Shape, Sketch


def _house(s: Sketch) -> None:
    s.polygon([(0.68, 0.1), (0.82, 0.1), (0.82, 0.4), (0.68, 0.4)], DARK)
    s.next_part()
    s.rounded([(0.1, 0.42), (0.9, 0.42), (0.9, 0.99), (0.1, 0.99)], 0.02)
    s.rounded([(0.42, 0.99), (0.42, 0.66), (0.6, 0.66), (0.6, 0.99)], 0.05, BARK)
    for x in (0.17, 0.67):
        s.rounded([(x, 0.58), (x + 0.16, 0.58), (x + 0.16, 0.75), (x, 0.75)], 0.02, GLASS)
        s.stroke([(x + 0.08, 0.58), (x + 0.08, 0.75)], 0.025, INK)
        s.stroke([(x, 0.665), (x + 0.16, 0.665)], 0.025, INK)
    s.ellipse(0.565, 0.84, 0.018, 0.018, HONEY)
    s.next_part()
    s.rounded([(0.5, 0.02), (1.0, 0.48), (0.96, 0.53), (0.04, 0.53), (0.0, 0.48)], 0.05, DARK)


def _tree(s: Sketch) -> None:
    s.blob([(0.42, 0.55), (0.44, 0.8), (0.34, 0.985), (0.66, 0.985), (0.57, 0.8), (0.59, 0.55)], BARK)
    s.next_part()
    s.blob(
        [
            (0.5, 0.01),
            (0.69, 0.07),
            (0.79, 0.19),
            (0.93, 0.27),
            (0.985, 0.45),
            (0.91, 0.62),
            (0.74, 0.69),
            (0.6, 0.67),
            (0.5, 0.75),
            (0.39, 0.67),
            (0.25, 0.7),
            (0.08, 0.62),
            (0.015, 0.46),
            (0.08, 0.28),
            (0.21, 0.19),
            (0.31, 0.07),
        ]
    )
    s.stroke([(0.24, 0.5), (0.33, 0.56), (0.42, 0.51)], 0.035, DARK)
    s.stroke([(0.54, 0.36), (0.65, 0.42), (0.76, 0.35)], 0.035, DARK)
    s.stroke([(0.6, 0.58), (0.69, 0.61), (0.77, 0.56)], 0.035, DARK)
    s.ellipse(0.34, 0.25, 0.1, 0.065, SHINE, -30)


def _boat(s: Sketch) -> None:
    s.polygon([(0.44, 0.01), (0.5, 0.01), (0.5, 0.76), (0.44, 0.76)], BARK)
    s.next_part()
    s.rounded([(0.53, 0.05), (0.98, 0.66), (0.53, 0.66)], 0.04)
    s.next_part()
    s.rounded([(0.41, 0.16), (0.41, 0.66), (0.06, 0.66)], 0.04, LIGHT)
    s.next_part()
    s.rounded([(0.0, 0.72), (1.0, 0.72), (0.8, 0.985), (0.18, 0.985)], 0.06)
    s.polygon([(0.03, 0.755), (0.97, 0.755), (0.945, 0.8), (0.06, 0.8)], DARK)
    for x in (0.32, 0.5, 0.68):
        s.ellipse(x, 0.885, 0.035, 0.035, GLASS)


def _balloon(s: Sketch) -> None:
    s.stroke([(0.36, 0.66), (0.43, 0.86)], 0.022, INK)
    s.stroke([(0.64, 0.66), (0.57, 0.86)], 0.022, INK)
    s.rounded([(0.39, 0.83), (0.61, 0.83), (0.585, 0.985), (0.415, 0.985)], 0.03, BARK)
    s.next_part()
    s.blob(
        [
            (0.5, 0.01),
            (0.75, 0.07),
            (0.91, 0.25),
            (0.9, 0.45),
            (0.74, 0.64),
            (0.61, 0.75),
            (0.39, 0.75),
            (0.26, 0.64),
            (0.1, 0.45),
            (0.09, 0.25),
            (0.25, 0.07),
        ]
    )
    s.blob(
        [
            (0.5, 0.015),
            (0.8, 0.12),
            (0.91, 0.32),
            (0.83, 0.54),
            (0.61, 0.75),
            (0.78, 0.55),
            (0.84, 0.33),
            (0.75, 0.12),
        ],
        DARK,
    )
    s.stroke([(0.465, 0.03), (0.32, 0.3), (0.45, 0.73)], 0.03, DARK)
    s.stroke([(0.535, 0.03), (0.66, 0.3), (0.55, 0.73)], 0.03, DARK)
    s.rounded([(0.38, 0.725), (0.62, 0.725), (0.61, 0.775), (0.39, 0.775)], 0.02, DARK)
    s.ellipse(0.25, 0.25, 0.05, 0.1, SHINE, 25)


def _mushroom(s: Sketch) -> None:
    s.blob(
        [
            (0.37, 0.5),
            (0.38, 0.72),
            (0.31, 0.93),
            (0.42, 0.985),
            (0.58, 0.985),
            (0.69, 0.93),
            (0.62, 0.72),
            (0.63, 0.5),
        ],
        PAPER,
    )
    s.blob([(0.37, 0.56), (0.5, 0.6), (0.63, 0.56), (0.62, 0.67), (0.5, 0.71), (0.38, 0.67)], METAL)
    s.next_part()
    s.blob(
        [
            (0.5, 0.03),
            (0.77, 0.11),
            (0.95, 0.32),
            (0.985, 0.52),
            (0.9, 0.61),
            (0.5, 0.66),
            (0.1, 0.61),
            (0.015, 0.52),
            (0.05, 0.32),
            (0.23, 0.11),
        ]
    )
    s.blob([(0.04, 0.57), (0.5, 0.56), (0.96, 0.57), (0.88, 0.62), (0.5, 0.66), (0.12, 0.62)], DARK)
    s.ellipse(0.3, 0.27, 0.1, 0.075, SHINE, -25)
    s.ellipse(0.63, 0.2, 0.075, 0.06, SHINE, 20)
    s.ellipse(0.77, 0.43, 0.08, 0.07, SHINE, 30)
    s.ellipse(0.49, 0.44, 0.065, 0.055, SHINE)


def _car(s: Sketch) -> None:
    s.blob(
        [
            (0.015, 0.58),
            (0.1, 0.47),
            (0.22, 0.41),
            (0.31, 0.17),
            (0.48, 0.07),
            (0.65, 0.13),
            (0.77, 0.38),
            (0.92, 0.46),
            (0.99, 0.6),
            (0.985, 0.8),
            (0.9, 0.88),
            (0.5, 0.89),
            (0.08, 0.88),
            (0.01, 0.78),
        ]
    )
    s.blob([(0.31, 0.41), (0.37, 0.24), (0.45, 0.185), (0.472, 0.24), (0.472, 0.41), (0.39, 0.425)], GLASS)
    s.blob([(0.53, 0.41), (0.53, 0.24), (0.555, 0.185), (0.615, 0.24), (0.675, 0.4), (0.6, 0.425)], GLASS)
    s.stroke([(0.5, 0.46), (0.5, 0.76)], 0.02, DARK)
    s.stroke([(0.55, 0.53), (0.62, 0.53)], 0.03, INK)
    s.stroke([(0.06, 0.77), (0.94, 0.77)], 0.035, DARK)
    s.ellipse(0.945, 0.61, 0.036, 0.052, HONEY)
    s.ellipse(0.045, 0.64, 0.026, 0.045, INK)
    for x in (0.25, 0.76):
        s.next_part()
        s.ellipse(x, 0.86, 0.125, 0.125, INK)
        s.ellipse(x, 0.86, 0.062, 0.062, METAL)


def _cup(s: Sketch) -> None:
    angle = np.linspace(-1.9, 1.9, 30)
    outer = np.stack([0.74 + 0.25 * np.cos(angle), 0.5 + 0.25 * np.sin(angle)], axis=1)
    inner = np.stack([0.73 + 0.13 * np.cos(angle), 0.5 + 0.13 * np.sin(angle)], axis=1)
    s.polygon(np.concatenate([outer, inner[::-1]]))
    s.next_part()
    s.blob(
        [
            (0.02, 0.17),
            (0.4, 0.2),
            (0.78, 0.17),
            (0.78, 0.55),
            (0.74, 0.82),
            (0.64, 0.95),
            (0.4, 0.985),
            (0.16, 0.95),
            (0.06, 0.82),
            (0.02, 0.55),
        ]
    )
    s.next_part()
    s.ellipse(0.4, 0.17, 0.395, 0.12, LIGHT)
    s.ellipse(0.4, 0.18, 0.33, 0.085, BARK)


def _star(s: Sketch) -> None:
    angle = np.radians(-90 + 36 * np.arange(10))
    radius = np.where(np.arange(10) % 2 == 0, 0.54, 0.275)
    points = np.stack([0.5 + radius * np.cos(angle), 0.545 + radius * np.sin(angle)], axis=1)
    s.rounded([(float(x), float(y)) for x, y in points], 0.09)
    s.ellipse(0.42, 0.52, 0.03, 0.05, INK)
    s.ellipse(0.58, 0.52, 0.03, 0.05, INK)
    s.stroke([(0.44, 0.63), (0.5, 0.665), (0.56, 0.63)], 0.028, INK)


def _heart(s: Sketch) -> None:
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    s.polygon(np.stack([0.5 + x / 32.5, 0.435 - y / 31.0], axis=1))
    s.ellipse(0.25, 0.24, 0.06, 0.11, SHINE, 40)


def _flower(s: Sketch) -> None:
    s.stroke([(0.5, 0.5), (0.52, 0.75), (0.5, 0.97)], 0.06, LEAF)
    s.blob([(0.5, 0.93), (0.58, 0.8), (0.76, 0.77), (0.7, 0.9)], LEAF)
    s.blob([(0.5, 0.97), (0.42, 0.84), (0.25, 0.82), (0.31, 0.94)], LEAF)
    for turn in (-90, -18, 54, 126, 198):
        s.next_part()
        angle = np.radians(turn)
        s.ellipse(0.5 + 0.24 * float(np.cos(angle)), 0.4 + 0.23 * float(np.sin(angle)), 0.185, 0.165, MAIN, turn)
    s.next_part()
    s.ellipse(0.5, 0.4, 0.115, 0.115, HONEY)


def _apple(s: Sketch) -> None:
    s.stroke([(0.5, 0.3), (0.51, 0.15), (0.57, 0.04)], 0.05, BARK)
    s.blob([(0.53, 0.2), (0.6, 0.07), (0.78, 0.03), (0.86, 0.06), (0.78, 0.18), (0.64, 0.23)], LEAF)
    s.next_part()
    s.blob(
        [
            (0.5, 0.27),
            (0.62, 0.215),
            (0.8, 0.22),
            (0.95, 0.35),
            (0.97, 0.55),
            (0.88, 0.79),
            (0.72, 0.95),
            (0.6, 0.985),
            (0.5, 0.96),
            (0.4, 0.985),
            (0.28, 0.95),
            (0.12, 0.79),
            (0.03, 0.55),
            (0.05, 0.35),
            (0.2, 0.22),
            (0.38, 0.215),
        ]
    )
    s.stroke([(0.41, 0.275), (0.5, 0.32), (0.59, 0.275)], 0.035, DARK)
    s.ellipse(0.22, 0.43, 0.05, 0.11, SHINE, 22)


_DRAWINGS: Final[dict[str, Callable[[Sketch], None]]] = {
    "house": _house, "tree": _tree, "boat": _boat, "balloon": _balloon, "fish": fish, "cat": cat, "fox": fox,
    "mushroom": _mushroom, "car": _car, "cup": _cup, "star": _star, "heart": _heart, "flower": _flower,
    "bird": bird, "rabbit": rabbit, "apple": _apple,
}  # fmt: skip

NOUNS: Final[tuple[str, ...]] = tuple(_DRAWINGS)


@cache
def shapes(noun: str) -> tuple[Shape, ...]:
    """The shapes of one of ``NOUNS``, back to front, in the unit square.

    Raises:
        ValueError: for a noun that nobody has drawn.
    """
    if noun not in _DRAWINGS:
        raise ValueError(f"noun: {noun!r} is none of {', '.join(NOUNS)}")
    sketch = Sketch()
    _DRAWINGS[noun](sketch)
    return tuple(sketch.shapes)
