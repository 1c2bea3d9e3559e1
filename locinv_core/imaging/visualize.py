"""Images that explain an edit: attention over the photo, contact sheets, boxes and masks drawn in.
Pure functions from tensors to Pillow images; the layout is here, the numbers are in `metrics`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from .io import to_pil
from .metrics import best_iou

Picture = Tensor | Image.Image
"""One image: a tensor (1, 3, H, W) or (3, H, W) in [0, 1], or a Pillow image."""

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the image, x1 and y1 exclusive."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart by colour-blind readers."""

_SMALLEST, _LARGEST = 256, 512  # pixels of a cell's longer side
_MARGIN, _GAP = 20, 14
_INK, _FAINT, _PAPER = "#1A1A1A", "#6B6B6B", "#FFFFFF"
_LABEL, _NOTE = 16, 14  # font sizes in pixels; labels grow with the cells


def contact_sheet(cells: Sequence[tuple[str, Picture]], columns: int | None = None) -> Image.Image:
    """The labelled images in a grid, row by row, on white, all brought to cells of one size.

    `columns`: 5 at most, the rows balanced, where None. Small images are enlarged to 256 pixels, large ones
    reduced to 512; labels break into lines rather than being cut. Raises ValueError where there is no cell.
    """
    if not cells:
        raise ValueError("contact sheet has no cells; give at least one (label, image)")
    if columns is not None and columns < 1:
        raise ValueError(f"contact sheet has {columns} columns; it must have at least 1")
    images = [_as_pil(picture) for _, picture in cells]
    cell = _cell_size(images)
    fitted = [_fitted(picture, cell) for picture in images]
    across = min(columns or _balanced(len(cells), 5), len(cells))
    rows = [list(range(start, min(start + across, len(cells)))) for start in range(0, len(cells), across)]
    font = _font(max(_LABEL, max(cell) // 22))
    lines = [_lines(label, font, cell[0]) for label, _ in cells]
    heights = [max(_text_height(lines[k], font) for k in row) + cell[1] for row in rows]
    width = 2 * _MARGIN + across * cell[0] + (across - 1) * _GAP
    sheet = Image.new("RGB", (width, 2 * _MARGIN + sum(heights) + (len(rows) - 1) * _GAP), _PAPER)
    draw = ImageDraw.Draw(sheet)
    y = _MARGIN
    for row, height in zip(rows, heights, strict=True):
        for place, k in enumerate(row):
            x = _MARGIN + place * (cell[0] + _GAP)
            text_top = y + height - cell[1] - _text_height(lines[k], font)
            _write(draw, (x, text_top), lines[k], font, _INK)
            sheet.paste(fitted[k], (x, y + height - cell[1]))
        y += height + _GAP
    return sheet


def attention_image(
    image: Picture,
    maps: Mapping[str, Tensor],
    *,
    before: Mapping[str, Tensor] | None = None,
    masks: Mapping[str, Tensor] | None = None,
    columns: int = 5,
) -> Image.Image:
    """The image, then a labelled heat map for each word over it, with a colour scale at the foot.

    maps: word → (h, w), not negative; each is drawn as a share of its own maximum, as `iou_curve` reads it.
    before: the same words' maps before tuning, drawn above those of `maps`; a gap for a word that it lacks.
    masks: word → (H, W) prior, outlined, with the best IoU written in the label.
    columns: cells in a row, at most; the rows are balanced.

    Raises ValueError where `maps` is empty or a map is not (h, w).
    """
    if not maps:
        raise ValueError("attention image has no maps; give at least one word")
    if columns < 1:
        raise ValueError(f"attention image has {columns} columns; it must have at least 1")
    masks = masks or {}
    base = _as_pil(image)
    size = _cell_size([base])
    overview: Picture = base
    if masks:
        overview = base.resize(size, Image.Resampling.LANCZOS)
        for k, mask in enumerate(masks.values()):
            overview = mask_outline(overview, _resized_mask(mask, size), COLOURS[k % len(COLOURS)], shade=0.0)

    def cell(word: str, values: Tensor, moment: str) -> tuple[str, Picture]:
        drawn = heat_map(base, values)
        label = f"{word}, {moment}" if moment else word
        if word in masks:
            label += f"\nbest IoU {best_iou(values, masks[word]):.2f}"
            drawn = mask_outline(drawn, _resized_mask(masks[word], drawn.size), "#FFFFFF", shade=0.0)
        return label, drawn

    blank: tuple[str, Picture] = ("", Image.new("RGB", size, _PAPER))
    plain: tuple[str, Picture] = ("picture", base)
    with_priors: tuple[str, Picture] = ("image and priors", overview) if masks else plain
    if before:
        above = [plain] + [cell(word, before[word], "before") if word in before else blank for word in maps]
        below = [with_priors if masks else blank]
        below += [cell(word, values, "after" if word in before else "") for word, values in maps.items()]
        bands = [above, below]
    else:
        bands = [[with_priors] + [cell(word, values, "") for word, values in maps.items()]]
    across = _balanced(len(maps) + 1, columns)
    cells: list[tuple[str, Picture]] = []
    for start in range(0, len(maps) + 1, across):
        for band in bands:
            row = band[start : start + across]
            if any(label for label, _ in row):
                cells += row + [blank] * (across - len(row))
    return _with_scale(contact_sheet(cells, across))


def heat_map(image: Picture, attention_map: Tensor) -> Image.Image:
    """One attention map (h, w) over the image in grey, dark to bright with its share of the map's
    maximum."""
    if attention_map.ndim != 2:
        raise ValueError(f"attention map has shape {tuple(attention_map.shape)}; it must be (h, w)")
    base = _as_pil(image)
    width, height = _cell_size([base])
    values = attention_map.detach().float().cpu()[None, None]
    full = F.interpolate(values, size=(height, width), mode="bilinear", align_corners=False)[0, 0]
    share = (full / full.max().clamp(min=1e-12)).clamp(0, 1).numpy()
    enlarged = base.resize((width, height), Image.Resampling.LANCZOS)
    grey = np.asarray(enlarged.convert("L"), dtype=np.float32) / 255
    colour = _inferno()[np.round(share * 255).astype(int)]
    opacity = (0.45 + 0.4 * share)[:, :, None]
    blended = (1 - opacity) * (0.9 * grey[:, :, None]) + opacity * colour
    return Image.fromarray(np.round(blended.clip(0, 1) * 255).astype(np.uint8))


def box_overlay(image: Picture, boxes: Sequence[Box], labels: Sequence[str]) -> Image.Image:
    """The image with each box drawn in its own colour and its label on a tag, kept inside the image.

    Raises ValueError where there are not as many labels as boxes, and for a box without area.
    """
    if len(boxes) != len(labels):
        raise ValueError(f"{len(boxes)} boxes and {len(labels)} labels given; each box needs one")
    for x0, y0, x1, y1 in boxes:
        if x1 <= x0 or y1 <= y0:
            raise ValueError(f"box {(x0, y0, x1, y1)} has no area; it needs x1 > x0 and y1 > y0")
    base = _as_pil(image)
    drawn = base.resize(_cell_size([base]), Image.Resampling.LANCZOS)
    scale_x, scale_y = drawn.width / base.width, drawn.height / base.height
    draw = ImageDraw.Draw(drawn)
    corners = []
    for k, (x0, y0, x1, y1) in enumerate(boxes):
        left, top = round(x0 * scale_x), round(y0 * scale_y)
        right, bottom = max(left, round(x1 * scale_x) - 1), max(top, round(y1 * scale_y) - 1)
        draw.rectangle((left, top, right, bottom), outline=_PAPER, width=5)
        if min(right - left, bottom - top) > 2:
            draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=_colour(k), width=3)
        corners.append((left, top))
    font = _font(_NOTE)
    for k, ((left, top), label) in enumerate(zip(corners, labels, strict=True)):
        lines = _lines(label, font, drawn.width - 12)
        width = round(max(font.getlength(line) for line in lines)) + 12
        height = _text_height(lines, font) + 2
        x = max(0, min(left, drawn.width - width))
        y = top - height if top >= height else max(0, min(top, drawn.height - height))
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_colour(k))
        _write(draw, (x + 6, y + 2), lines, font, _ink_on(_colour(k)))
    return drawn


def mask_outline(image: Picture, mask: Tensor, colour: str = COLOURS[1], shade: float = 0.45) -> Image.Image:
    """The image with the mask's edge drawn in `colour`, 2 pixels wide, and the outside darkened by `shade`.

    mask: (H, W) in [0, 1] at the image's size. Raises ValueError for a mask of another size.
    """
    base = _as_pil(image)
    if tuple(mask.shape) != (base.height, base.width):
        raise ValueError(f"mask has shape {tuple(mask.shape)}; the image needs {(base.height, base.width)}")
    size = _cell_size([base])
    pixels = np.asarray(base.resize(size, Image.Resampling.LANCZOS), dtype=np.float32) / 255
    inside = _resized_mask(mask, size)[None, None]
    # Eroded with the image's border counted as outside, so that a mask that covers all has an edge to see.
    eroded = 1 - F.max_pool2d(1 - F.pad(inside, (2, 2, 2, 2)), 5, stride=1)
    dilated = F.max_pool2d(inside, 3, stride=1, padding=1)
    line = (inside > eroded)[0, 0].numpy()
    halo = (dilated > inside)[0, 0].numpy()
    outside = (inside == 0)[0, 0].numpy()
    pixels[outside] *= 1 - shade
    pixels[halo] *= 0.25
    pixels[line] = np.asarray(Image.new("RGB", (1, 1), colour), dtype=np.float32)[0, 0] / 255
    return Image.fromarray(np.round(pixels * 255).astype(np.uint8))


def _with_scale(sheet: Image.Image) -> Image.Image:
    """The sheet with the colour scale of the heat maps under it."""
    font = _font(_NOTE)
    width = min(220, sheet.width // 3)
    scaled = Image.new("RGB", (sheet.width, sheet.height + 34), _PAPER)
    scaled.paste(sheet, (0, 0))
    draw = ImageDraw.Draw(scaled)
    strip = np.round(np.repeat(_inferno()[np.linspace(0, 255, width).astype(int)][None], 12, axis=0) * 255)
    y, x = sheet.height + 2, _MARGIN
    _write(draw, (x, y - 2), ["attention: 0"], font, _FAINT)
    x += round(font.getlength("attention: 0")) + 8
    scaled.paste(Image.fromarray(strip.astype(np.uint8)), (x, y + 2))
    _write(draw, (x + width + 8, y - 2), ["the word's maximum"], font, _FAINT)
    return scaled


def _as_pil(picture: Picture) -> Image.Image:
    return picture.convert("RGB") if isinstance(picture, Image.Image) else to_pil(picture).convert("RGB")


def _cell_size(images: Sequence[Image.Image]) -> tuple[int, int]:
    """(width, height) that holds every image once its longer side is brought to 256…512 pixels."""
    sizes = [_scaled(picture.size, min(max(max(picture.size), _SMALLEST), _LARGEST)) for picture in images]
    return max(width for width, _ in sizes), max(height for _, height in sizes)


def _balanced(count: int, most: int) -> int:
    """The columns that fill the fewest rows of at most `most` cells most evenly: 6 cells in 5 make 3 and
    3."""
    rows = -(-count // most)
    return -(-count // rows)


def _scaled(size: tuple[int, int], long_side: int) -> tuple[int, int]:
    return max(1, round(size[0] * long_side / max(size))), max(1, round(size[1] * long_side / max(size)))


def _fitted(picture: Image.Image, cell: tuple[int, int]) -> Image.Image:
    """The image as large as the cell allows, in the middle of it."""
    scale = min(cell[0] / picture.width, cell[1] / picture.height)
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    resized = picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)
    if size == cell:
        return resized
    framed = Image.new("RGB", cell, _PAPER)
    framed.paste(resized, ((cell[0] - size[0]) // 2, (cell[1] - size[1]) // 2))
    return framed


def _resized_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) to 0 or 1 at (width, height) `size`, smoothed at the edge rather than stepped."""
    values = mask.detach().float().cpu()[None, None]
    full = F.interpolate(values, size=(size[1], size[0]), mode="bilinear", align_corners=False)[0, 0]
    return (full >= 0.5).to(torch.float32)


@lru_cache(maxsize=1)
def _inferno() -> np.ndarray:
    """Matplotlib's perceptually uniform colour map as (256, 3) float32 in [0, 1]."""
    import matplotlib

    return matplotlib.colormaps["inferno"](np.arange(256))[:, :3].astype(np.float32)


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib carries: Pillow's own font stops at ASCII, and words don't."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return ImageFont.truetype(str(path), size)


def _lines(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Text broken to fit `width` pixels: between words, and inside a word that is wider than a line."""
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split():
            joined = f"{line} {word}".strip()
            if font.getlength(joined) <= width:
                line = joined
                continue
            if line:
                lines.append(line)
            while font.getlength(word) > width and len(word) > 1:
                fits = next((n for n in range(len(word) - 1, 0, -1) if font.getlength(word[:n]) <= width), 1)
                lines.append(word[:fits])
                word = word[fits:]
            line = word
        lines.append(line)
    return lines


def _text_height(lines: Sequence[str], font: ImageFont.FreeTypeFont) -> int:
    return 0 if not any(lines) else len(lines) * round(font.size * 1.35) + 4


def _write(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    lines: Sequence[str],
    font: ImageFont.FreeTypeFont,
    ink: str,
) -> None:
    for k, line in enumerate(lines):
        draw.text((at[0], at[1] + k * round(font.size * 1.35)), line, font=font, fill=ink)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _ink_on(colour: str) -> str:
    """Black or white, whichever reads better on `colour`, by its luma."""
    red, green, blue = (int(colour[k : k + 2], 16) for k in (1, 3, 5))
    return _PAPER if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else _INK
