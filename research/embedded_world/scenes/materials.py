"""Colours and materials of the embedded world: the shades of a drawing, and the surface of its main colour."""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float32]
Plane = NDArray[np.float32]

COLOURS: Final[tuple[str, ...]] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
MATERIALS: Final[tuple[str, ...]] = ("plain", "striped", "dotted", "wooden")


Role = IntEnum("Role", "MAIN DARK LIGHT SHINE INK PAPER BARK LEAF GLASS METAL HONEY", start=0)
"""Of a part of a drawing. MAIN carries the object's colour and material; DARK, LIGHT and SHINE are shades of it; the
others are neutral."""

_RGB: Final[dict[str | Role, tuple[int, int, int]]] = {
    "red": (222, 44, 44),
    "orange": (246, 134, 22),
    "yellow": (250, 214, 44),
    "green": (58, 168, 72),
    "blue": (44, 108, 224),
    "purple": (136, 66, 190),
    "pink": (248, 132, 186),
    "white": (246, 246, 250),
    "wooden": (172, 116, 66),
    Role.INK: (44, 38, 52),
    Role.PAPER: (252, 248, 240),
    Role.BARK: (118, 76, 48),
    Role.LEAF: (70, 146, 62),
    Role.GLASS: (196, 228, 244),
    Role.METAL: (198, 202, 210),
    Role.HONEY: (246, 190, 60),
}
_STRIPE_PERIOD, _STRIPE_WIDTH = 11.0, 4.6  # pixels of an image 128 wide
_DOT_PERIOD, _DOT_RADIUS = 10.5, 2.9
_PLANK = 9.0


def _colour(red: int, green: int, blue: int) -> Colour:
    return np.asarray((red, green, blue), dtype=np.float32) / np.float32(255)


def _mix(first: Colour, second: Colour, share: float) -> Colour:
    """``share`` of the second colour, the rest of the first."""
    return (first + (second - first) * share).astype(np.float32)


def outline_colour(name: str) -> Colour:
    """The thin outline of an object: its own colour, darkened; slate for white, to show on snow."""
    if name == "white":
        return _colour(108, 116, 142)
    colour = _colour(*_RGB[name]) * np.float32(0.42 if name != "yellow" else 0.55)
    return _mix(colour, _colour(40, 26, 48), 0.15)


def role_colour(role: Role, name: str) -> Colour:
    """The flat colour (3,) in [0, 1] of a part in a drawing whose main colour is ``name``.

    Raises ValueError for a name that is none of ``COLOURS`` and not "wooden".
    """
    if name not in _RGB:
        raise ValueError(f"colour: {name!r} is none of {', '.join((*COLOURS, 'wooden'))}")
    colour, white, pale = _colour(*_RGB[name]), np.ones(3, dtype=np.float32), name == "white"
    if role == Role.MAIN:
        return colour
    if role == Role.DARK:
        return _colour(186, 194, 214) if pale else colour * np.float32(0.74)
    if role in (Role.LIGHT, Role.SHINE):
        return white if pale else _mix(colour, white, 0.36 if role == Role.LIGHT else 0.62)
    if role == Role.PAPER and pale:
        return _colour(214, 220, 234)
    return _colour(*_RGB[role])


def _pattern_colour(name: str) -> Colour:
    """The colour of stripes and dots on ``name``: nearly white on a colour, slate on white."""
    if name == "white":
        return _colour(128, 140, 172)
    return _mix(_colour(*_RGB[name]), np.ones(3, dtype=np.float32), 0.82)


def _ramp(distance: NDArray[np.floating], softness: float) -> Plane:
    """1 where ``distance`` (pixels inside an edge) is positive, 0 elsewhere, smooth over ``softness``."""
    return np.clip(distance / softness + 0.5, 0.0, 1.0).astype(np.float32)


def surface(material: str, colour: str | None, x: Plane, y: Plane, softness: float = 1.0) -> Plane:
    """Unshaded RGB of a material, float32 (H, W, 3) in [0, 1]; ``colour`` is ``None`` for wood.

    ``x``, ``y``: (H, W) positions relative to the object's centre, in pixels of an image 128 wide; ``softness``: width
    of the pattern's edges, same unit.
    """
    name = "wooden" if colour is None else colour
    base = np.broadcast_to(role_colour(Role.MAIN, name), (*x.shape, 3))
    if material == "plain":
        return np.array(base)
    if material == "wooden":
        return _wood(x, y, softness)
    if material == "striped":
        across = (0.82 * x + 0.57 * y) % _STRIPE_PERIOD
        share = _ramp(_STRIPE_WIDTH / 2 - np.abs(across - _STRIPE_PERIOD / 2), softness)
    elif material == "dotted":
        row = np.floor(y / (_DOT_PERIOD * 0.87) + 0.5)
        dx = (x + 0.5 * _DOT_PERIOD * (row % 2) + 0.5 * _DOT_PERIOD) % _DOT_PERIOD - 0.5 * _DOT_PERIOD
        dy = y - row * _DOT_PERIOD * 0.87
        share = _ramp(_DOT_RADIUS - np.hypot(dx, dy), softness)
    else:
        raise ValueError(f"material: {material!r} is none of {', '.join(MATERIALS)}")
    return (base + (_pattern_colour(name) - base) * share[..., None]).astype(np.float32)


def _wood(x: Plane, y: Plane, softness: float) -> Plane:
    """Planks lying across: each a little lighter or darker, a dark seam between, a slow wavy grain."""
    row = np.floor(y / _PLANK + 0.5)
    within = y - row * _PLANK
    tone = 1.0 + 0.07 * np.sin(2.4 * row + 0.6)
    grain = 0.075 * np.sin(1.55 * within + 0.9 * np.sin(x / 7.5 + 1.7 * row) + row)
    seam = _ramp(np.abs(within) - (_PLANK / 2 - 0.75), softness)
    light = (tone + grain) * (1.0 - 0.42 * seam)
    return np.clip(role_colour(Role.MAIN, "wooden") * light[..., None], 0.0, 1.0).astype(np.float32)
