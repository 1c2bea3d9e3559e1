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

_DPI = 100
_LEAST_SIDE = 768
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
    draw = ImageDraw.Draw(canvas)
    for anchor, boxes in enumerate(proposals.pixel_boxes()):
        for box in dict.fromkeys(boxes):
            _outline(draw, box, scale, _colour(anchor), 1)
    for anchor, number in enumerate(chosen or ()):
        box = proposals.pixel_boxes()[anchor][number]
        _outline(draw, box, scale, "white", 5)
        _outline(draw, box, scale, _colour(anchor), 3)
    for anchor, (row, column) in enumerate(proposals.anchors.tolist()):
        # The last patch may reach beyond the image.
        x = min((column + 0.5) * proposals.patch, width - 1) * scale
        y = min((row + 0.5) * proposals.patch, height - 1) * scale
        draw.ellipse((x - 10, y - 10, x + 10, y + 10), fill=_colour(anchor), outline="white", width=2)
        draw.text((x, y), str(anchor + 1), fill="white", font=ImageFont.load_default(12), anchor="mm")
    return canvas


def boxes_image(
    image: Tensor, proposals: RegionProposals, candidates: Sequence[Candidate], losses: Tensor | None = None
) -> Image.Image:
    """All anchors and boxes on the image, an anchor in its own colour, and the scores in a table beside it.

    image: (1, 3, H, W). candidates: one an anchor, best first: its box is drawn strongly in the colour of the
    anchor that it belongs to, and the best one's filled. losses: (K, M); the number of boxes judged is
    written where it is known.
    Raises ValueError for no candidates.
    """
    if not candidates:
        raise ValueError("boxes image: got no candidates, requires at least one")
    height, width = image.shape[-2:]
    # The image takes 5 inches on its longer side, the table what its rows need.
    scale = 5.0 / max(width, height)
    table = 0.28 * (len(candidates) + 4)
    size = (width * scale + 6.1, max(height * scale, table) + 0.7)
    figure, canvas = _figure(size)
    panel = figure.add_axes((0.2 / size[0], 0.25 / size[1], width * scale / size[0], height * scale / size[1]))
    panel.imshow(np.asarray(to_pil(image)), extent=(0, width, height, 0), interpolation="lanczos")
    panel.set_axis_off()
    _draw_boxes(panel, proposals, candidates)
    _write_scores(figure, size, (width * scale + 0.4) / size[0], candidates, losses, (height, width))
    return _drawn(canvas)


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
    """The learning curve: the loss at each step; with `epochs`, a line where each ends.

    An empty curve, where there was nothing to learn, says so.
    """
    figure, canvas = _figure((6.4, 4.0))
    axes = figure.add_axes((0.12, 0.14, 0.84, 0.76))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.set_xlabel("step")
    axes.set_ylabel("loss, mean over anchors")
    if not curve:
        axes.set_title("one box an anchor: nothing to learn", loc="left", fontsize=11)
        axes.set_xticks([])
        axes.set_yticks([])
        return _drawn(canvas)
    steps = range(1, len(curve) + 1)
    axes.plot(steps, curve, color=COLOURS[0], linewidth=1.8, marker="o" if len(curve) < 3 else "")
    if epochs and epochs > 1:
        for epoch in range(1, epochs):
            axes.axvline(epoch * len(curve) / epochs + 0.5, color="#D9D9D9", linewidth=0.8, zorder=0)
    axes.set_title(f"loss {curve[0]:.4f} to {curve[-1]:.4f}", loc="left", fontsize=11)
    return _drawn(canvas)


def _draw_boxes(panel: Any, proposals: RegionProposals, candidates: Sequence[Candidate]) -> None:
    from matplotlib.patches import Rectangle

    for anchor, boxes in enumerate(proposals.boxes.tolist()):
        for x0, y0, x1, y1 in boxes:
            panel.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=_colour(anchor), linewidth=0.5))
    for candidate in reversed(candidates):
        x0, y0, x1, y1 = candidate.box
        best, colour = candidate is candidates[0], _colour(candidate.edit.source_anchor)
        for edge, line in (("white", 5.0 if best else 3.2), (colour, 3.0 if best else 1.6)):
            panel.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=edge, linewidth=line))
        if best:
            panel.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, facecolor=colour, alpha=0.18))
    for anchor, (row, column) in enumerate(proposals.anchors.tolist()):
        x, y = ((cell + 0.5) * proposals.patch for cell in (column, row))
        # The last patch may reach beyond the image.
        x, y = min(x, proposals.size[1] - 0.5), min(y, proposals.size[0] - 0.5)
        panel.plot(x, y, marker="o", markersize=11, color=_colour(anchor), markeredgecolor="white")
        panel.text(x, y, str(anchor + 1), color="white", fontsize=7, ha="center", va="center_baseline")


def _write_scores(
    figure: Any,
    size: tuple[float, float],
    left: float,
    candidates: Sequence[Candidate],
    losses: Tensor | None,
    of_image: tuple[int, int],
) -> None:
    """The table right of `left` (a share of the figure's width), a row a candidate, best first.

    of_image: (H, W) of the image, in whose pixels boxes are.
    """
    steps = [0.0, 0.45, 1.7, 2.3, 2.9]
    columns = [left + step / size[0] for step in steps]

    def line(number: int, cells: Sequence[str], **style: Any) -> None:
        y = 1 - (0.4 + 0.28 * number) / size[1]
        for x, cell in zip(columns, cells, strict=True):
            figure.text(x, y, cell, fontsize=9, va="center", **style)

    line(0, ["anchor", "", "S", "t2i", "i2i"], color=_FAINT)
    figure.text(columns[4] + 0.6 / size[0], 1 - 0.4 / size[1], "box", fontsize=9, va="center", color=_FAINT)
    for row, candidate in enumerate(candidates, start=1):
        weight = "bold" if row == 1 else "normal"
        y = 1 - (0.4 + 0.28 * row) / size[1]
        tag = {"color": "white", "backgroundcolor": _colour(candidate.edit.source_anchor)}
        figure.text(columns[0], y, f" {candidate.index + 1} ", fontsize=9, va="center", **tag)
        numbers = [candidate.score, candidate.s_t2i, candidate.s_i2i]
        line(row, ["", _elsewhere(candidate), *(f"{n:.3f}" for n in numbers)], color=_INK, weight=weight)
        where = ", ".join(f"{side}" for side in pixel_box(candidate.box, of_image))
        figure.text(columns[4] + 0.6 / size[0], y, where, fontsize=9, va="center", weight=weight)
    notes = ["filled: the box chosen; thick: those edited; thin: all proposals"]
    if losses is not None:
        notes.append(f"{int((~losses.isnan()).sum())} of {losses.numel()} boxes judged for learning")
    for number, note in enumerate(notes, start=len(candidates) + 1):
        y = 1 - (0.5 + 0.28 * number) / size[1]
        figure.text(columns[0], y, note, fontsize=8, va="center", color=_FAINT)


def _figure(size: tuple[float, float]) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, dpi=_DPI, facecolor="white")
    return figure, FigureCanvasAgg(figure)


def _drawn(canvas: Any) -> Image.Image:
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _elsewhere(candidate: Candidate) -> str:
    """Whose box an anchor's edit is in and which variant it is, where the box is not its own."""
    if candidate.edit.source_anchor == candidate.index:
        return ""
    whose = "region" if candidate.edit.source_anchor is None else f"{candidate.edit.source_anchor + 1}'s box"
    return f"{whose}, variant {candidate.edit.variant + 1}" if candidate.edit.variant else whose


def _colour(anchor: int | None) -> str:
    """An anchor's colour; that of the box around the region, which is no anchor's, where None."""
    return _INK if anchor is None else COLOURS[anchor % len(COLOURS)]


def _outline(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], scale: int, colour: str, width: int) -> None:
    x0, y0, x1, y1 = (side * scale for side in box)
    draw.rectangle((x0, y0, x1 - 1, y1 - 1), outline=colour, width=width)
