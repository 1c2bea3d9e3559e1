"""The nouns of the embedded world: filled outlines in the unit square, read from ``drawings.json``.

There, a noun is a list of calls of ``Sketch``'s methods, back to front; it touches the square's lower side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .materials import Role

NOUNS: Final[tuple[str, ...]] = (
    "house", "tree", "boat", "balloon", "fish", "cat", "fox", "mushroom", "car", "cup", "star", "heart", "flower",
    "bird", "rabbit", "apple",
)  # fmt: skip

Outline = NDArray[np.float64]
Points = Sequence[tuple[float, float]] | Outline


@dataclass(frozen=True)
class Shape:
    """A filled outline: ``points`` (N, 2) in the unit square, the part it belongs to, its colour's role."""

    part: int
    role: Role
    points: Outline


@dataclass
class Sketch:
    """Collects the shapes of one noun, back to front; y grows downwards.

    Shapes of one ``part`` are shaded as one rounded body, and a faint line parts it from the others.
    """

    shapes: list[Shape] = field(default_factory=list)
    part: int = 0

    def next_part(self) -> None:
        """What is drawn from here on belongs to a new body."""
        self.part += 1

    def polygon(self, points: Points, role: Role = Role.MAIN) -> None:
        """A polygon with straight sides."""
        self.shapes.append(Shape(self.part, role, np.asarray(points, dtype=np.float64)))

    def ellipse(self, x: float, y: float, rx: float, ry: float, role: Role = Role.MAIN, turn: float = 0.0) -> None:
        """An ellipse with centre (x, y) and radii, turned clockwise by ``turn`` degrees."""
        angle = np.linspace(0.0, 2 * np.pi, 40, endpoint=False)
        dx, dy = rx * np.cos(angle), ry * np.sin(angle)
        cos, sin = np.cos(np.radians(turn)), np.sin(np.radians(turn))
        self.polygon(np.stack([x + dx * cos - dy * sin, y + dx * sin + dy * cos], axis=1), role)

    def blob(self, points: Points, role: Role = Role.MAIN) -> None:
        """A closed smooth curve through the points (Catmull-Rom)."""
        p = np.asarray(points, dtype=np.float64)
        before, after, beyond = np.roll(p, 1, 0), np.roll(p, -1, 0), np.roll(p, -2, 0)
        t = np.linspace(0.0, 1.0, 8, endpoint=False)[None, :, None]
        curve = 0.5 * (
            2 * p[:, None]
            + (after - before)[:, None] * t
            + (2 * before - 5 * p + 4 * after - beyond)[:, None] * t**2
            + (3 * p - before - 3 * after + beyond)[:, None] * t**3
        )
        self.polygon(curve.reshape(-1, 2), role)

    def rounded(self, points: Points, radius: float, role: Role = Role.MAIN) -> None:
        """A polygon whose corners are rounded by quadratic curves that start ``radius`` from each corner."""
        p = np.asarray(points, dtype=np.float64)
        outline = []
        t = np.linspace(0.0, 1.0, 7)[:, None]
        for index, corner in enumerate(p):
            ends = []
            for other in (p[index - 1], p[(index + 1) % len(p)]):
                side = other - corner
                length = float(np.hypot(*side))
                ends.append(corner + side / length * min(radius, length / 2))
            outline.append((1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * corner + t**2 * ends[1])
        self.polygon(np.concatenate(outline), role)

    def stroke(self, points: Points, width: float, role: Role = Role.MAIN, end: float | None = None) -> None:
        """A smooth line with round ends, ``width`` wide, tapering to ``end`` where that is given."""
        p = np.asarray(points, dtype=np.float64)
        steps = np.linspace(0.0, len(p) - 1, 6 * (len(p) - 1) + 1)
        order = np.arange(len(p))
        if len(p) > 2:
            curve = [np.polyval(np.polyfit(order, p[:, k], len(p) - 1), steps) for k in (0, 1)]
        else:
            curve = [np.interp(steps, order, p[:, k]) for k in (0, 1)]
        fit = np.stack(curve, axis=1)
        slope = np.gradient(fit, axis=0)
        normal = np.stack([-slope[:, 1], slope[:, 0]], axis=1) / np.hypot(slope[:, 0], slope[:, 1])[:, None]
        half = np.linspace(width, width if end is None else end, len(fit))[:, None] / 2
        self.polygon(np.concatenate([fit + normal * half, (fit - normal * half)[::-1]]), role)
        for centre, size in ((fit[0], half[0, 0]), (fit[-1], half[-1, 0])):
            self.ellipse(float(centre[0]), float(centre[1]), float(size), float(size), role)


def _curve(name: str) -> Outline:
    """The outlines that ``drawings.json`` gives by name, because a formula draws them."""
    if name == "handle":  # a cup's: a half ring
        angle = np.linspace(-1.9, 1.9, 30)
        outer = np.stack([0.74 + 0.25 * np.cos(angle), 0.5 + 0.25 * np.sin(angle)], axis=1)
        inner = np.stack([0.73 + 0.13 * np.cos(angle), 0.5 + 0.13 * np.sin(angle)], axis=1)
        return np.concatenate([outer, inner[::-1]])
    if name == "star":
        angle = np.radians(-90 + 36 * np.arange(10))
        radius = np.where(np.arange(10) % 2 == 0, 0.54, 0.275)
        return np.stack([0.5 + radius * np.cos(angle), 0.545 + radius * np.sin(angle)], axis=1)
    t = np.linspace(0, 2 * np.pi, 80, endpoint=False)  # a heart
    x = 16 * np.sin(t) ** 3
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([0.5 + x / 32.5, 0.435 - y / 31.0], axis=1)


@cache
def _drawings() -> dict[str, list[dict[str, Any]]]:
    drawings: dict[str, list[dict[str, Any]]] = json.loads((files(__package__) / "drawings.json").read_text())
    return drawings


@cache
def shapes(noun: str) -> tuple[Shape, ...]:
    """The shapes of one of ``NOUNS``, back to front, in the unit square; ValueError for another noun."""
    if noun not in NOUNS:
        raise ValueError(f"noun: {noun!r} is none of {', '.join(NOUNS)}")
    sketch = Sketch()
    for call in _drawings()[noun]:
        given = {name: value for name, value in call.items() if name != "draw"}
        if "role" in given:
            given["role"] = Role[given["role"].upper()]
        if isinstance(given.get("points"), str):
            given["points"] = _curve(given["points"])
        getattr(sketch, call["draw"])(**given)
    return tuple(sketch.shapes)
