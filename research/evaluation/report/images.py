"""Images for a page that has to carry them: small, as text, and the outline of a mask as a path."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from torch import Tensor

LONG_SIDE: Final = 384
"""Pixels of the longer side of an image in a report; larger ones are reduced."""

_QUALITY: Final = 82


def data_uri(image: Image.Image, long_side: int = LONG_SIDE) -> str:
    """The image as a WebP data URI, its longer side `long_side` pixels at most."""
    small = image.convert("RGB")
    small.thumbnail((long_side, long_side), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, format="WEBP", quality=_QUALITY, method=4)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode("ascii")


def outline_path(mask: Tensor) -> str:
    """The edge of a mask (H, W), where it exceeds one half, as the d of an SVG path in pixels of the image.

    Pixel (x, y) covers x to x + 1 and y to y + 1. A mask that reaches the frame is closed along it; an empty
    one gives "".
    """
    inside = mask.detach().cpu().numpy() > 0.5
    framed = np.pad(inside, 1)
    # Edges of pixels, walked with the inside on the right: from corner to corner, then joined to loops.
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    rows, columns = inside.shape
    for dy, dx, starts, ends in (
        (-1, 0, (0, 0), (0, 1)),
        (0, 1, (0, 1), (1, 1)),
        (1, 0, (1, 1), (1, 0)),
        (0, -1, (1, 0), (0, 0)),
    ):
        neighbour = framed[1 + dy : 1 + dy + rows, 1 + dx : 1 + dx + columns]
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            steps.setdefault((y + starts[0], x + starts[1]), []).append((y + ends[0], x + ends[1]))
    return "".join(_loop(steps) for _ in iter(lambda: bool(steps), False))


def _loop(steps: dict[tuple[int, int], list[tuple[int, int]]]) -> str:
    """Take one closed walk out of the steps; corners only."""
    start = at = next(iter(steps))
    corners = [start]
    came = (0, 0)
    while True:
        ways = steps[at]
        # Where two loops touch, turn right, which keeps to the pixel that the walk goes round.
        right = (at[0] + came[1], at[1] - came[0])
        on = right if right in ways else ways[0]
        ways.remove(on)
        if not ways:
            del steps[at]
        went = (on[0] - at[0], on[1] - at[1])
        if went == came:
            corners[-1] = on
        else:
            corners.append(on)
        at, came = on, went
        if at == start:
            break
    return "M" + "L".join(f"{x} {y}" for y, x in corners[:-1]) + "Z"
