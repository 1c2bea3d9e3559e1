"""The places of the embedded world: calm, slowly varying images that a small autoencoder can keep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_WAVES: Final[int] = 5  # cosines a side in the texture: no period is shorter than 2/4 of the image


@lru_cache(maxsize=8)
def _grid(size: int) -> tuple[Plane, Plane, Plane]:
    """Positions x (1, size) and y (size, 1) in [0, 1], and the cosine basis (waves, size) of the texture."""
    centre: Plane = ((np.arange(size, dtype=np.float32) + 0.5) / size).astype(np.float32)
    basis = np.cos(np.pi * np.arange(_WAVES, dtype=np.float32)[:, None] * centre[None])
    return centre[None, :], centre[:, None], basis.astype(np.float32)


@dataclass
class _Canvas:
    """An image being painted, back to front: ``pixels`` (3, size, size) in [0, 1]; colours are (3, 1, 1)."""

    rng: Generator
    size: int

    def __post_init__(self) -> None:
        self.x, self.y, self.basis = _grid(self.size)
        self.pixels: Plane = np.zeros((3, self.size, self.size), dtype=np.float32)

    def colour(self, red: int, green: int, blue: int, spread: float = 7.0) -> Plane:
        """A colour that differs a little from scene to scene."""
        rgb = np.asarray((red, green, blue), dtype=np.float32) + self.rng.normal(0, spread, 3).clip(-13, 13)
        return np.clip(rgb / 255, 0, 1).astype(np.float32)[:, None, None]

    def between(self, low: float, high: float) -> float:
        return float(self.rng.uniform(low, high))

    def texture(self) -> Plane:
        """Smooth noise of mean 0 and deviation of about 1, (size, size)."""
        weights = self.rng.normal(size=(_WAVES, _WAVES))
        weights[0, 0] = 0
        fall = 1 / (1 + np.hypot(*np.meshgrid(np.arange(_WAVES), np.arange(_WAVES))))
        noise = self.basis.T @ (weights * fall).astype(np.float32) @ self.basis
        return (noise / (noise.std() + 1e-6)).astype(np.float32)

    def edge(self, distance: Plane, softness: float = 0.012) -> Plane:
        """1 where ``distance`` is positive, 0 where negative, smooth between."""
        t = np.clip(distance / softness + 0.5, 0, 1)
        return (t * t * (3 - 2 * t)).astype(np.float32)

    def paint(self, colour: Plane, cover: Plane | float = 1.0) -> None:
        """Lay ``colour`` over the image, ``cover`` (size, size) of it."""
        share = np.asarray(cover, dtype=np.float32)
        if colour.shape[1:] == (1, 1) or share.ndim == 0:
            self.pixels = self.pixels * (1 - share) + colour * share
        else:
            self.pixels += (colour - self.pixels) * share

    def spot(
        self, colour: Plane, x: float, y: float, rx: float, ry: float, strength: float = 1.0, hard: float = 1.0
    ) -> None:
        """Lay a soft elliptic spot of ``colour`` over the image; ``hard`` above 1 gives it an edge."""
        rows, columns = self.window(x, y, 2 * rx, 2 * ry)
        d = ((self.x[:, columns] - x) / rx) ** 2 + ((self.y[rows] - y) / ry) ** 2
        cover = self.edge(1 - np.sqrt(d), 1 / hard) if hard > 1 else np.exp(-1.6 * d)
        patch = self.pixels[:, rows, columns]
        patch += (colour - patch) * (np.float32(strength) * cover).astype(np.float32)

    def window(self, x: float, y: float, rx: float, ry: float) -> tuple[slice, slice]:
        """The rows and columns within ``rx`` and ``ry`` of a point."""
        top, left, bottom, right = (int(edge * self.size) for edge in (y - ry, x - rx, y + ry, x + rx))
        return slice(max(0, top), max(0, bottom + 2)), slice(max(0, left), max(0, right + 2))

    def ramp(self, top: Plane, bottom: Plane, start: float, end: float) -> Plane:
        """A vertical gradient, (3, size, 1)."""
        t = np.clip((self.y - start) / (end - start), 0, 1)
        return (top + (bottom - top) * t).astype(np.float32)

    def glow(self, x: float, y: float, rx: float, ry: float) -> Plane:
        """A soft elliptic spot, 1 in the middle, (size, size)."""
        across, down = ((self.x - x) / rx) ** 2, ((self.y - y) / ry) ** 2
        return (np.exp(-1.6 * down) * np.exp(-1.6 * across)).astype(np.float32)

    def hills(self, level: float, height: float, waves: float) -> Plane:
        """A wavy skyline: y of its crest at each x, (1, size)."""
        a, b = self.rng.uniform(0, 2 * np.pi, 2)
        crest = level - height * (
            0.65 * np.sin(waves * np.pi * self.x + a) + 0.35 * np.sin(1.9 * waves * np.pi * self.x + b)
        )
        return crest.astype(np.float32)

    def clouds(self, count: int, low: float, high: float, colour: Plane, strength: float) -> None:
        """Clouds of three soft puffs on a flat foot."""
        for _ in range(count):
            x, y, w = self.between(0.05, 0.95), self.between(low, high), self.between(0.1, 0.17)
            cover = self.glow(x, y, w, w * 0.3)
            cover = np.maximum(cover, self.glow(x - w * 0.3, y - w * 0.16, w * 0.5, w * 0.32))
            cover = np.maximum(cover, self.glow(x + w * 0.25, y - w * 0.24, w * 0.55, w * 0.38))
            self.paint(colour, self.edge(cover - 0.45, 0.7) * strength)


def _beach(c: _Canvas) -> None:
    horizon = c.between(0.2, 0.28)
    shore = c.hills(horizon + c.between(0.13, 0.18), 0.014, 2.2)
    c.paint(c.ramp(c.colour(122, 196, 240), c.colour(216, 238, 246), 0.0, horizon))
    c.clouds(2, 0.05, horizon - 0.07, c.colour(255, 255, 255, 0), 0.85)
    sea = c.ramp(c.colour(40, 138, 190), c.colour(96, 204, 210), horizon, horizon + 0.18)
    c.paint(sea, c.edge(c.y - horizon + 0 * c.x))
    sand = c.ramp(c.colour(246, 222, 168), c.colour(230, 192, 128), horizon + 0.12, 1.0)
    c.paint(c.colour(252, 252, 248, 0), c.edge(c.y - shore + 0.022, 0.02))
    c.paint(c.colour(206, 172, 116), c.edge(c.y - shore, 0.02))
    c.paint(sand + 0.016 * c.texture(), c.edge(c.y - shore - 0.03, 0.035))
    for _ in range(5):
        x, y = c.between(0, 1), c.between(horizon + 0.3, 0.97)
        c.spot(c.colour(206, 164, 104), x, y, 0.13, 0.012, 0.35)
        c.spot(c.colour(255, 238, 198), x + 0.01, y + 0.018, 0.12, 0.01, 0.4)


def _sea(c: _Canvas) -> None:
    horizon = c.between(0.22, 0.32)
    c.paint(c.ramp(c.colour(150, 206, 240), c.colour(250, 236, 214), 0.0, horizon))
    c.clouds(2, 0.06, horizon - 0.07, c.colour(255, 255, 255, 0), 0.8)
    water = c.ramp(c.colour(92, 190, 204), c.colour(22, 104, 152), horizon, 1.0)
    c.paint(water + 0.014 * c.texture(), c.edge(c.y - horizon + 0 * c.x))
    light = c.colour(255, 248, 226)
    c.paint(light, 0.35 * c.glow(c.between(0.2, 0.8), horizon + 0.03, 0.3, 0.035) * (c.y > horizon))
    crest, trough = c.colour(196, 236, 238), c.colour(16, 88, 136)
    for row in range(7):
        depth = (row + c.between(0.2, 0.8)) / 7
        y = horizon + 0.05 + (0.95 - horizon) * depth
        for _ in range(2):
            x, w = c.between(0, 1), 0.05 + 0.07 * depth
            rows, columns = c.window(x, y, 2.2 * w, 0.07)
            across, down = c.x[:, columns] - x, c.y[rows] - y
            bend = down - 0.12 * w * np.sin(across * np.pi / w)
            fade = np.exp(-1.6 * (across / w) ** 2)
            patch = c.pixels[:, rows, columns]
            patch += (trough - patch) * (0.34 * fade * np.exp(-(((bend - 0.014) / 0.013) ** 2)))
            patch += (crest - patch) * (0.6 * fade * np.exp(-((bend / 0.0095) ** 2)))


def _meadow(c: _Canvas) -> None:
    horizon = c.between(0.26, 0.34)
    c.paint(c.ramp(c.colour(112, 186, 240), c.colour(222, 240, 248), 0.0, horizon))
    c.clouds(2, 0.06, horizon - 0.1, c.colour(255, 255, 255, 0), 0.9)
    c.paint(c.colour(142, 190, 140), c.edge(c.y - c.hills(horizon, 0.035, 1.6)))
    c.paint(c.colour(150, 204, 98), c.edge(c.y - c.hills(horizon + 0.07, 0.03, 1.3)))
    crest = c.hills(horizon + 0.17, 0.03, 1.0)
    grass = c.ramp(c.colour(166, 214, 98), c.colour(104, 168, 66), horizon + 0.12, 1.0)
    c.paint(grass + 0.016 * c.texture(), c.edge(c.y - crest))
    for _ in range(12):
        x, y = c.between(0.02, 0.98), c.between(horizon + 0.26, 0.98)
        rows, columns = c.window(x, y, 0.04, 0.04)
        up = y - c.y[rows]
        width = 0.0075 * (1 - np.clip(up / 0.034, 0, 1))
        patch = c.pixels[:, rows, columns]
        shade = c.colour(76, 142, 56, 2)
        for lean in (-0.5, 0.0, 0.5):
            blade = np.abs(c.x[:, columns] - x - lean * up)
            patch += (shade - patch) * (0.6 * c.edge(width - blade, 0.012) * (up > 0) * (up < 0.034))


def _night(c: _Canvas) -> None:
    horizon = c.between(0.34, 0.42)
    c.paint(c.ramp(c.colour(22, 26, 66), c.colour(74, 76, 134), 0.0, horizon))
    moon_x, moon_y, radius = c.between(0.12, 0.88), c.between(0.09, 0.16), c.between(0.05, 0.065)
    c.spot(c.colour(160, 166, 216), moon_x, moon_y, radius * 3, radius * 3, 0.4)
    c.spot(c.colour(250, 244, 214), moon_x, moon_y, radius, radius, hard=8)
    c.spot(c.colour(228, 220, 188), moon_x + 0.015, moon_y + 0.012, 0.014, 0.014, 0.7, hard=3)
    for _ in range(13):
        x, y = c.between(0.02, 0.98), c.between(0.02, horizon - 0.06)
        c.spot(c.colour(244, 240, 255, 0), x, y, 0.0105, 0.0105, c.between(0.5, 0.95))
    for step, (level, height) in enumerate(((0.0, 0.04), (0.09, 0.03), (0.19, 0.03))):
        crest = c.hills(horizon + level, height, 1.7 - 0.3 * step)
        top = c.colour(*((70, 78, 132), (54, 70, 112), (52, 82, 108))[step], 3)
        low = c.colour(*((56, 62, 112), (42, 56, 94), (28, 46, 72))[step], 3)
        hill = c.ramp(top, low, horizon + level, min(1.0, horizon + level + (0.2, 0.2, 0.5)[step]))
        c.paint(hill + (0.01 * c.texture() if step == 2 else 0), c.edge(c.y - crest))
        c.paint(c.colour(150, 164, 208), 0.45 * np.exp(-(((c.y - crest - 0.008) / 0.01) ** 2)))


def _snow(c: _Canvas) -> None:
    horizon = c.between(0.28, 0.36)
    c.paint(c.ramp(c.colour(146, 186, 222), c.colour(222, 230, 242), 0.0, horizon))
    c.paint(c.colour(188, 206, 230), c.edge(c.y - c.hills(horizon - 0.03, 0.05, 1.9)))
    c.paint(c.colour(212, 225, 242), c.edge(c.y - c.hills(horizon + 0.05, 0.035, 1.4)))
    for step in range(3):
        level = horizon + 0.13 + 0.2 * step
        crest = c.hills(level, 0.03, 1.2)
        snow = c.ramp(c.colour(244, 248, 254, 2), c.colour(206, 220, 240, 3), level, level + 0.42)
        c.paint(snow + 0.008 * c.texture(), c.edge(c.y - crest, 0.02))
    for _ in range(12):
        x, y = c.between(0.02, 0.98), c.between(0.02, horizon)
        c.spot(c.colour(255, 255, 255, 0), x, y, 0.014, 0.014, c.between(0.5, 0.9))


def _desert(c: _Canvas) -> None:
    horizon = c.between(0.28, 0.36)
    c.paint(c.ramp(c.colour(244, 172, 124), c.colour(255, 228, 178), 0.0, horizon))
    sun_x, sun_y = c.between(0.15, 0.85), c.between(0.1, 0.19)
    c.spot(c.colour(255, 240, 200), sun_x, sun_y, 0.17, 0.17, 0.5)
    c.spot(c.colour(255, 248, 222, 2), sun_x, sun_y, 0.06, 0.06, hard=8)
    c.paint(c.colour(206, 134, 100), c.edge(c.y - c.hills(horizon, 0.04, 1.8)))
    for step in range(3):
        level = horizon + 0.08 + 0.2 * step
        crest = c.hills(level, 0.045, 1.1)
        lit = c.ramp(c.colour(238, 176, 104), c.colour(216, 144, 78), level - 0.03, level + 0.4)
        c.paint(lit + 0.014 * c.texture(), c.edge(c.y - crest))
        x = c.between(0.1, 0.9)
        shade = c.edge(c.y - crest) * c.edge(c.x - x - 0.9 * (c.y - crest), 0.03)
        c.paint(c.colour(186, 112, 66), shade * np.exp(-np.clip(c.y - crest, 0, 1) / 0.09) * 0.55)
        c.paint(c.colour(255, 214, 150), 0.5 * np.exp(-(((c.y - crest - 0.008) / 0.009) ** 2)) * (1 - shade))


_PLACES: Final[dict[str, tuple[str, Callable[[_Canvas], None]]]] = {
    "beach": ("on the beach", _beach),
    "sea": ("on the sea", _sea),
    "meadow": ("in a meadow", _meadow),
    "night": ("at night", _night),
    "snow": ("in the snow", _snow),
    "desert": ("in the desert", _desert),
}

BACKGROUNDS: Final[tuple[str, ...]] = tuple(_PLACES)

GROUND: Final[float] = 0.5
"""Nothing stands higher than this, from the top, in parts of the image's height: below every horizon."""


def place_phrase(background: str) -> str:
    """How a caption names one of ``BACKGROUNDS``: "on the beach"."""
    return _PLACES[background][0]


def paint_background(background: str, rng: Generator, size: int) -> Plane:
    """One of ``BACKGROUNDS`` as float32 (size, size, 3) in [0, 1], varied by ``rng``; ValueError for another."""
    if background not in _PLACES:
        raise ValueError(f"background: {background!r} is none of {', '.join(BACKGROUNDS)}")
    canvas = _Canvas(rng, size)
    _PLACES[background][1](canvas)
    return np.ascontiguousarray(np.clip(canvas.pixels, 0, 1).transpose(1, 2, 0))
