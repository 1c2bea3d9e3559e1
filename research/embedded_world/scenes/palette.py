"""The colours of the embedded world, and the shades that each drawing takes from its main colour."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Colour = NDArray[np.float32]

COLOURS: Final[tuple[str, ...]] = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")

# Roles of the parts of a drawing. MAIN carries the object's colour and material; DARK, LIGHT and SHINE are
# shades of it; the others are neutral.
MAIN, DARK, LIGHT, SHINE, INK, PAPER, BARK, LEAF, GLASS, METAL, HONEY = range(11)

_RGB: Final[dict[str, tuple[int, int, int]]] = {
    "red": (222, 44, 44),
    "orange": (246, 134, 22),
    "yellow": (250, 214, 44),
    "green": (58, 168, 72),
    "blue": (44, 108, 224),
    "purple": (136, 66, 190),
    "pink": (248, 132, 186),
    "white": (246, 246, 250),
    "wooden": (172, 116, 66),
}

_NEUTRAL: Final[dict[int, tuple[int, int, int]]] = {
    INK: (44, 38, 52),
    PAPER: (252, 248, 240),
    BARK: (118, 76, 48),
    LEAF: (70, 146, 62),
    GLASS: (196, 228, 244),
    METAL: (198, 202, 210),
    HONEY: (246, 190, 60),
}


def _colour(rgb: tuple[int, int, int]) -> Colour:
    return np.asarray(rgb, dtype=np.float32) / np.float32(255)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """Linear mixture of two colours, ``share`` of the second; both (3,), in [0, 1]."""
    mixed: Colour = (first + (second - first) * share).astype(np.float32)
    return mixed


WHITE: Final[Colour] = np.ones(3, dtype=np.float32)


def main_colour(name: str) -> Colour:
    """RGB in [0, 1], shape (3,), of one of ``COLOURS`` or of ``"wooden"``.

    Raises:
        ValueError: for a name that is neither.
    """
    if name not in _RGB:
        raise ValueError(f"colour: {name!r} is none of {', '.join(_RGB)}")
    return _colour(_RGB[name])


def outline_colour(name: str) -> Colour:
    """The thin outline of an object: its own colour, darkened; slate for white, to show on snow."""
    if name == "white":
        return _colour((108, 116, 142))
    colour = main_colour(name)
    colour = colour * np.float32(0.42 if name != "yellow" else 0.55)
    return mix(colour, _colour((40, 26, 48)), 0.15)


def pattern_colour(name: str) -> Colour:
    """The colour of stripes and dots on ``name``: nearly white on a colour, slate on white."""
    if name == "white":
        return _colour((128, 140, 172))
    return mix(main_colour(name), WHITE, 0.82)


def role_colour(role: int, name: str) -> Colour:
    """The flat colour of a part with ``role`` in a drawing whose main colour is ``name``; (3,), in [0, 1]."""
    colour = main_colour(name)
    if role == MAIN:
        return colour
    if role == DARK:
        return _colour((186, 194, 214)) if name == "white" else colour * np.float32(0.74)
    if role == LIGHT:
        return WHITE if name == "white" else mix(colour, WHITE, 0.36)
    if role == SHINE:
        return WHITE if name == "white" else mix(colour, WHITE, 0.62)
    if role == PAPER and name == "white":
        return _colour((214, 220, 234))
    return _colour(_NEUTRAL[role])
