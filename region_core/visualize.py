"""Images of a region edit: the proposals, their scores, the ranked edits, the loss curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..locinv_core.imaging.io import to_pil
from ..locinv_core.imaging.visualize import COLOURS, Picture, contact_sheet, mask_outline
from .proposals import RegionProposals, box_masks, pixel_box
from .scorer import Candidate

_LEAST_SIDE = 768
_BOXES_SIDE = 500
"""Pixels of the longer side of the image beside the scores."""
_ROW = 28
_INK, _FAINT = "#1A1A1A", "#6B6B6B"


def proposals_image(image: Tensor, proposals: RegionProposals, chosen: Sequence[int] | None = None) -> Image.Image:
    """The boxes on the image (1, 3, H, W), enlarged to at least 768 pixels, an anchor in its own colour.

    chosen: for each anchor, which of its boxes is drawn strongly; None draws all alike. Anchors are numbered
    from 1. Raises ValueError for a choice that is not one box an anchor.
    """
    if chosen is not None and len(chosen) != proposals.k:
        raise ValueError(f"chosen: got {len(chosen)} boxes, requires one for each of {proposals.k} anchors")
    height, width = proposals.size
    scale = max(1, round(_LEAST_SIDE / max(height, width)))
    canvas = to_pil(image).resize((width * scale, height * scale), Image.Resampling.LANCZOS)
    boxes = proposals.pixel_boxes()
    strong = [(boxes[anchor][number], anchor, 3) for anchor, number in enumerate(chosen or ())]
    _draw_boxes(ImageDraw.Draw(canvas), proposals, boxes, strong, scale)
    return canvas


def boxes_image(
    image: Tensor, proposals: RegionProposals, candidates: Sequence[Candidate], losses: Tensor | None = None
) -> Image.Image:
    """All anchors and boxes on the image, an anchor in its own colour, and the scores in a table beside it.

    image: (1, 3, H, W). candidates: one an anchor, best first: its box is drawn strongly in the colour of its anchor,
    and the best one's filled. losses: (K, M), for the number of boxes judged. Raises ValueError for no candidates.
    """
    if not candidates:
        raise ValueError("boxes image: got no candidates, requires at least one")
    scale = _BOXES_SIDE / max(proposals.size)
    width, height = round(proposals.size[1] * scale), round(proposals.size[0] * scale)
    sheet = (width + 540, max(height, _ROW * (len(candidates) + 4)) + 70)
    canvas = Image.new("RGB", sheet, "white")
    corner = (20, sheet[1] - 25 - height)
    canvas.paste(_with_boxes(image, proposals, candidates, scale), corner)
    _write_scores(ImageDraw.Draw(canvas), width + 40, candidates, losses, proposals.size)
    return canvas


def candidates_image(source: Tensor, candidates: Sequence[Candidate], columns: int = 5) -> Image.Image:
    """The ranked contact sheet: the source (1, 3, H, W), then each candidate's edit with its box and scores.

    Raises ValueError for no candidates.
    """
    if not candidates:
        raise ValueError("candidates image: got no candidates, requires at least one")
    cells: list[tuple[str, Picture]] = [("source", source)]
    for place, candidate in enumerate(candidates, start=1):
        label = f"{place}. S {candidate.score:.3f}{'' if candidate.final else ' (preview)'}"
        label += f"\nt2i {candidate.s_t2i:.3f}, i2i {candidate.s_i2i:.3f}\nanchor {candidate.index + 1}"
        label += f": {elsewhere}" if (elsewhere := _elsewhere(candidate)) else ""
        size = (source.shape[-2], source.shape[-1])
        inside = box_masks([pixel_box(candidate.box, size)], size)[0, 0]
        cells.append((label, mask_outline(candidate.image, inside, _colour(candidate.edit.source_anchor), shade=0.0)))
    return contact_sheet(cells, columns)


def loss_image(curve: Sequence[float], *, epochs: int | None = None) -> Image.Image:
    """The learning curve: the loss at each step; with `epochs`, a line where each ends. An empty one says so."""
    canvas = Image.new("RGB", (640, 400), "white")
    draw = ImageDraw.Draw(canvas)
    left, top, right, bottom = 77, 40, 614, 344
    draw.line((left, top, left, bottom, right, bottom), fill=_INK)
    _text(draw, ((left + right) / 2, 384), "step", anchor="mm")
    upright = Image.new("L", (bottom - top, 20))
    _text(ImageDraw.Draw(upright), (upright.width / 2, 10), "loss, mean over anchors", fill=255, anchor="mm")
    canvas.paste(_INK, (4, top), upright.rotate(90, expand=True))
    if not curve:
        _text(draw, (left, 22), "one box an anchor: nothing to learn", anchor="lm")
        return canvas
    low, high = min(curve), max(curve)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5

    def point(step: float, loss: float) -> tuple[float, float]:
        across = 0.5 if len(curve) == 1 else (step - 1) / (len(curve) - 1)
        return left + 12 + across * (right - left - 24), bottom - 12 - (loss - low) / (high - low) * (bottom - top - 24)

    for loss in np.linspace(low, high, 5).tolist():
        y = point(1, loss)[1]
        draw.line((left - 4, y, left, y), fill=_INK)
        _text(draw, (left - 8, y), f"{loss:.4g}", anchor="rm")
    for step in sorted({round(step) for step in np.linspace(1, len(curve), 6)}):
        x = point(step, low)[0]
        draw.line((x, bottom, x, bottom + 4), fill=_INK)
        _text(draw, (x, bottom + 8), str(step), anchor="mt")
    for epoch in range(1, epochs or 1):
        x = point(epoch * len(curve) / (epochs or 1) + 0.5, low)[0]
        if left < x < right:
            draw.line((x, top, x, bottom - 1), fill="#D9D9D9")
    line = [point(step, loss) for step, loss in enumerate(curve, start=1)]
    draw.line(line, fill=COLOURS[0], width=3, joint="curve")
    if len(curve) < 3:
        for x, y in line:
            draw.ellipse((x - 5, y - 5, x + 5, y + 5), fill=COLOURS[0])
    _text(draw, (left, 22), f"loss {curve[0]:.4f} to {curve[-1]:.4f}", anchor="lm")
    return canvas


def _with_boxes(
    image: Tensor, proposals: RegionProposals, candidates: Sequence[Candidate], scale: float
) -> Image.Image:
    """All boxes thin, the candidates' thick, the best one's filled, and the anchors, numbered from 1."""
    height, width = proposals.size
    size = (round(width * scale), round(height * scale))
    canvas = to_pil(image).resize(size, Image.Resampling.LANCZOS)
    best = candidates[0]
    tint = Image.new("RGB", size, _colour(best.edit.source_anchor))
    inside = Image.new("L", size)
    ImageDraw.Draw(inside).rectangle([side * scale for side in best.box], fill=46)
    canvas.paste(tint, mask=inside)
    strong = [(one.box, one.edit.source_anchor, 5 if one is best else 2) for one in reversed(candidates)]
    _draw_boxes(ImageDraw.Draw(canvas), proposals, proposals.boxes.tolist(), strong, scale)
    return canvas


def _draw_boxes(
    draw: ImageDraw.ImageDraw,
    proposals: RegionProposals,
    rows: Sequence[Sequence[Sequence[float]]],
    strong: Sequence[tuple[Sequence[float], int | None, int]],
    scale: float,
) -> None:
    """Each anchor's row of boxes thin; strong: (box, anchor, width of its line); then the anchors."""
    outlines = [(box, _colour(anchor), 1) for anchor, row in enumerate(rows) for box in row]
    for box, whose, line in strong:
        outlines += [(box, "white", line + 2), (box, _colour(whose), line)]
    for box, colour, line in outlines:
        x0, y0, x1, y1 = (side * scale for side in box)
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=line)
    for anchor, (row, column) in enumerate(proposals.anchors.tolist()):
        # The last patch may reach beyond the image.
        x = min((column + 0.5) * proposals.patch, proposals.size[1] - 1) * scale
        y = min((row + 0.5) * proposals.patch, proposals.size[0] - 1) * scale
        draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=_colour(anchor), outline="white", width=2)
        _text(draw, (x, y), str(anchor + 1), fill="white", anchor="mm")


def _write_scores(
    draw: ImageDraw.ImageDraw,
    left: float,
    candidates: Sequence[Candidate],
    losses: Tensor | None,
    of_image: tuple[int, int],
) -> None:
    """The table from column `left` on, a row a candidate, best first; of_image: (H, W), in whose pixels boxes are."""
    columns = [left + step for step in (0, 45, 170, 230, 290, 350)]

    def line(row: int, cells: Sequence[str], fill: str) -> None:
        for x, cell in zip(columns, cells, strict=True):
            _text(draw, (x, 40 + _ROW * row), cell, fill=fill, anchor="lm")

    line(0, ["anchor", "", "S", "t2i", "i2i", "box"], _FAINT)
    for row, candidate in enumerate(candidates, start=1):
        y = 40 + _ROW * row
        draw.rectangle((left, y - 10, left + 24, y + 10), fill=_colour(candidate.edit.source_anchor))
        _text(draw, (left + 12, y), str(candidate.index + 1), fill="white", anchor="mm")
        numbers = [f"{number:.3f}" for number in (candidate.score, candidate.s_t2i, candidate.s_i2i)]
        where = ", ".join(f"{side}" for side in pixel_box(candidate.box, of_image))
        line(row, ["", _elsewhere(candidate), *numbers, where], _INK if row > 1 else "black")
    notes = ["filled: the box chosen; thick: those edited; thin: all proposals"]
    if losses is not None:
        notes.append(f"{int((~losses.isnan()).sum())} of {losses.numel()} boxes judged for learning")
    for row, note in enumerate(notes, start=len(candidates) + 1):
        _text(draw, (left, 50 + _ROW * row), note, fill=_FAINT, anchor="lm")


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, *, anchor: str, fill: Any = _INK) -> None:
    draw.text(at, text, fill=fill, font=ImageFont.load_default(13), anchor=anchor)


def _elsewhere(candidate: Candidate) -> str:
    """Whose box an anchor's edit is in and which variant it is, where the box is not its own."""
    if candidate.edit.source_anchor == candidate.index:
        return ""
    whose = "region" if candidate.edit.source_anchor is None else f"{candidate.edit.source_anchor + 1}'s box"
    return f"{whose}, variant {candidate.edit.variant + 1}" if candidate.edit.variant else whose


def _colour(anchor: int | None) -> str:
    """An anchor's colour; that of the box around the region, which is no anchor's, where None."""
    return _INK if anchor is None else COLOURS[anchor % len(COLOURS)]
