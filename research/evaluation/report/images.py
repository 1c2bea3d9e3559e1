"""Images for a page that has to carry them: small, as text, and the outline of a mask as a path."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from ..datasets.masks import encode_runs

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
    """The edges between pixels of a mask (H, W) that exceed one half and those that do not, as the d of an SVG path
    in pixels of the image, to be stroked.

    Pixel (x, y) covers x to x + 1 and y to y + 1; what lies beyond the frame does not exceed one half.
    """
    inside = np.pad(mask.detach().cpu().numpy() > 0.5, 1)
    parts = []
    for lines, command in ((inside, "h"), (inside.T, "v")):
        edges = np.diff(lines, axis=0)
        runs = encode_runs(edges)
        for start, length in zip(runs[::2], runs[1::2], strict=True):
            line, along = divmod(start, edges.shape[1])
            x, y = (along - 1, line) if command == "h" else (line, along - 1)
            parts.append(f"M{x} {y}{command}{length}")
    return "".join(parts)
