"""Materials of the embedded world: the surface that covers the main colour of a drawing."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from .palette import main_colour, pattern_colour

MATERIALS: Final[tuple[str, ...]] = ("plain", "striped", "dotted", "wooden")

Plane = NDArray[np.float32]

_STRIPE_PERIOD, _STRIPE_WIDTH = 11.0, 4.6  # pixels of an image 128 wide
_DOT_PERIOD, _DOT_RADIUS = 10.5, 2.9
_PLANK = 9.0


def _ramp(distance: NDArray[np.floating], softness: float) -> Plane:
    """1 where ``distance`` (pixels inside an edge) is positive, 0 elsewhere, smooth over ``softness``."""
    ramp: Plane = np.clip(distance / softness + 0.5, 0.0, 1.0).astype(np.float32)
    return ramp


def surface(material: str, colour: str | None, x: Plane, y: Plane, softness: float = 1.0) -> Plane:
    """Unshaded RGB of a material, float32 (H, W, 3) in [0, 1].

    Args:
        material: one of ``MATERIALS``.
        colour: one of ``COLOURS``; ``None`` for wood.
        x, y: (H, W) positions relative to the object's centre, in pixels of an image 128 wide.
        softness: width of the pattern's edges, same unit.
    """
    name = "wooden" if colour is None else colour
    base = np.broadcast_to(main_colour(name), (*x.shape, 3))
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
    mixed: Plane = (base + (pattern_colour(name) - base) * share[..., None]).astype(np.float32)
    return mixed


def _wood(x: Plane, y: Plane, softness: float) -> Plane:
    """Planks lying across: each a little lighter or darker, a dark seam between, a slow wavy grain."""
    row = np.floor(y / _PLANK + 0.5)
    within = y - row * _PLANK
    tone = 1.0 + 0.07 * np.sin(2.4 * row + 0.6)
    grain = 0.075 * np.sin(1.55 * within + 0.9 * np.sin(x / 7.5 + 1.7 * row) + row)
    seam = _ramp(np.abs(within) - (_PLANK / 2 - 0.75), softness)
    light = (tone + grain) * (1.0 - 0.42 * seam)
    wood: Plane = np.clip(main_colour("wooden") * light[..., None], 0.0, 1.0).astype(np.float32)
    return wood
