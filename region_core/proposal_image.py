"""An image of proposals: every anchor with its number, its boxes, and the chosen one where one is chosen."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..locinv_core.imaging.io import to_pil
from ..locinv_core.imaging.visualize import COLOURS
from .proposals import RegionProposals

_SIDE = 768


def proposal_picture(image: Tensor, proposals: RegionProposals, chosen: Sequence[int] | None = None) -> Image.Image:
    """The boxes on the image (1, 3, H, W), enlarged to at least 768 pixels, an anchor in its own colour.

    chosen: for each anchor, which of its boxes is drawn strongly; None draws all alike. Anchors are numbered
    from 1. Raises ValueError for a choice that is not one box an anchor.
    """
    if chosen is not None and len(chosen) != proposals.k:
        raise ValueError(f"chosen: got {len(chosen)} boxes, requires one for each of {proposals.k} anchors")
    height, width = proposals.size
    scale = max(1, round(_SIDE / max(height, width)))
    picture = to_pil(image).resize((width * scale, height * scale), Image.Resampling.LANCZOS)
    draw = ImageDraw.Draw(picture)
    for anchor, boxes in enumerate(proposals.pixel_boxes()):
        for box in dict.fromkeys(boxes):
            _outline(draw, box, scale, COLOURS[anchor % len(COLOURS)], 1)
    for anchor, number in enumerate(chosen or ()):
        box = proposals.pixel_boxes()[anchor][number]
        _outline(draw, box, scale, "white", 5)
        _outline(draw, box, scale, COLOURS[anchor % len(COLOURS)], 3)
    for anchor, (row, column) in enumerate(proposals.anchors.tolist()):
        # The last patch may reach beyond the image.
        x = min((column + 0.5) * proposals.patch, width - 1) * scale
        y = min((row + 0.5) * proposals.patch, height - 1) * scale
        colour = COLOURS[anchor % len(COLOURS)]
        draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=colour, outline="white", width=2)
        draw.text((x, y), str(anchor + 1), fill="white", font=ImageFont.load_default(12), anchor="mm")
    return picture


def _outline(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], scale: int, colour: str, width: int) -> None:
    x0, y0, x1, y1 = (side * scale for side in box)
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=width)
