"""Images that explain an edit: attention over the image, contact sheets, boxes and masks drawn in."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from textwrap import wrap

import numpy as np
import torch.nn.functional as F
from PIL import Image, ImageColor, ImageDraw, ImageFont, ImageOps
from scipy import ndimage
from torch import Tensor

from .io import to_pil
from .metrics import best_iou

Picture = Tensor | Image.Image
"""One image: a tensor (1, 3, H, W) or (3, H, W) in [0, 1], or a Pillow image."""

Cell = tuple[str, Picture]
"""A label and its image."""

Box = tuple[float, float, float, float]
"""(x0, y0, x1, y1) in pixels of the image, x1 and y1 exclusive."""

Font = ImageFont.FreeTypeFont

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours, told apart by colour-blind readers."""

_SMALLEST, _LARGEST = 256, 512  # pixels of a cell's longer side
_MARGIN, _GAP = 20, 14
_INK, _FAINT, _PAPER = "#1A1A1A", "#6B6B6B", "#FFFFFF"
_LABEL, _NOTE = 16, 14  # font sizes in pixels; labels grow with the cells
_FONTS = ("DejaVuSans.ttf", "Arial.ttf", "arial.ttf", "NotoSans-Regular.ttf", "LiberationSans-Regular.ttf")
# Matplotlib's perceptually uniform colour map: between these of its 256 colours it is straight within 1/255.
_INFERNO = (
    "0:000004 4:02010a 12:07051b 25:160b39 35:260c51 44:360961 56:4a0c6b 71:62146e 91:82206c "
    "114:a62d60 136:c73e4c 158:e25734 178:f3761b 194:fa9207 201:fc9f07 209:fcae12 223:f9c932 233:f4dd4f "
    "242:f1ed71 250:f5f992 255:fcffa4"
)


def contact_sheet(cells: Sequence[Cell], columns: int | None = None) -> Image.Image:
    """The labelled images in a grid, row by row, on white, all brought to cells of one size.

    `columns`: 5 at most, the rows balanced, where None. Small images are enlarged to 256 pixels, large ones
    reduced to 512; labels break into lines rather than being cut. Raises ValueError where there is no cell.
    """
    if not cells:
        raise ValueError("contact sheet has no cells; give at least one (label, image)")
    if columns is not None and columns < 1:
        raise ValueError(f"contact sheet has {columns} columns; it must have at least 1")
    images = [_as_pil(image) for _, image in cells]
    width, height = _cell_size(images)
    across = min(columns or _balanced(len(cells), 5), len(cells))
    font = _font(max(_LABEL, max(width, height) // 22))
    labels = [_wrapped(label, font, width) for label, _ in cells]
    tops = [_text_height(label, font) for label in labels]
    rows = [max(tops[start : start + across]) for start in range(0, len(cells), across)]
    sheet_width = 2 * _MARGIN + across * (width + _GAP) - _GAP
    sheet_height = 2 * _MARGIN + sum(rows) + len(rows) * (height + _GAP) - _GAP
    sheet = Image.new("RGB", (sheet_width, sheet_height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for k, image in enumerate(images):
        row, column = divmod(k, across)
        x = _MARGIN + column * (width + _GAP)
        y = _MARGIN + row * (height + _GAP) + sum(rows[: row + 1])
        _write(draw, (x, y - tops[k]), labels[k], font, _INK)
        sheet.paste(ImageOps.pad(image, (width, height), Image.Resampling.LANCZOS, _PAPER), (x, y))
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
    overview = base.resize(size, Image.Resampling.LANCZOS)
    for k, mask in enumerate(masks.values()):
        overview = mask_outline(overview, _resized_mask(mask, size), _colour(k), shade=0.0)

    def cell(word: str, values: Tensor, moment: str) -> Cell:
        drawn = heat_map(base, values)
        label = f"{word}, {moment}" if moment else word
        if word in masks:
            label += f"\nbest IoU {best_iou(values, masks[word]):.2f}"
            drawn = mask_outline(drawn, _resized_mask(masks[word], drawn.size), "#FFFFFF", shade=0.0)
        return label, drawn

    before = before or {}
    blank: Cell = ("", Image.new("RGB", size, _PAPER))
    plain: Cell = ("image", base)
    first = ("image and priors", overview) if masks else blank if before else plain
    bands = [[first, *(cell(word, values, "after" if word in before else "") for word, values in maps.items())]]
    if before:
        bands.insert(0, [plain, *(cell(word, before[word], "before") if word in before else blank for word in maps)])
    across = _balanced(len(maps) + 1, columns)
    cells: list[Cell] = []
    for start in range(0, len(maps) + 1, across):
        for band in bands:
            row = band[start : start + across]
            if any(label for label, _ in row):
                cells += row + [blank] * (across - len(row))
    return _with_scale(contact_sheet(cells, across))


def heat_map(image: Picture, attention_map: Tensor) -> Image.Image:
    """One attention map (h, w) over the image in grey, dark to bright by its share of the map's maximum."""
    if attention_map.ndim != 2:
        raise ValueError(f"attention map has shape {tuple(attention_map.shape)}; it must be (h, w)")
    base = _as_pil(image)
    width, height = _cell_size([base])
    full = _resized(attention_map, (width, height))
    share = (full / full.max().clamp(min=1e-12)).clamp(0, 1).numpy()
    enlarged = base.resize((width, height), Image.Resampling.LANCZOS)
    grey = np.asarray(enlarged.convert("L"), dtype=np.float32) / 255
    colour = inferno()[np.round(share * 255).astype(int)] / 255
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
    font = _font(_NOTE)
    tags = []
    for k, ((x0, y0, x1, y1), label) in enumerate(zip(boxes, labels, strict=True)):
        left, top = round(x0 * scale_x), round(y0 * scale_y)
        right, bottom = max(left, round(x1 * scale_x) - 1), max(top, round(y1 * scale_y) - 1)
        draw.rectangle((left, top, right, bottom), outline=_PAPER, width=5)
        if min(right - left, bottom - top) > 2:
            draw.rectangle((left + 1, top + 1, right - 1, bottom - 1), outline=_colour(k), width=3)
        text = _wrapped(label, font, drawn.width - 12)
        width = round(max(font.getlength(line) for line in text.split("\n"))) + 12
        height = _text_height(text, font) + 2
        y = top - height if top >= height else max(0, min(top, drawn.height - height))
        tags.append((text, max(0, min(left, drawn.width - width)), y, width, height))
    for k, (text, x, y, width, height) in enumerate(tags):
        draw.rectangle((x, y, x + width - 1, y + height - 1), fill=_colour(k))
        _write(draw, (x + 6, y + 2), text, font, _ink_on(_colour(k)))
    return drawn


def mask_outline(image: Picture, mask: Tensor, colour: str = COLOURS[1], shade: float = 0.45) -> Image.Image:
    """The image with the mask's edge drawn in `colour`, 2 pixels wide, and the outside darkened by `shade`.

    mask: (H, W) in [0, 1] at the image's size. Raises ValueError for a mask of another size.
    """
    base = _as_pil(image)
    if tuple(mask.shape) != (base.height, base.width):
        raise ValueError(f"mask has shape {tuple(mask.shape)}; the image needs {(base.height, base.width)}")
    size = _cell_size([base])
    pixels = np.array(base.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    inside = _resized_mask(mask, size).numpy() > 0
    # The image's border counts as outside, so that a mask that covers all has an edge to see.
    line = inside & ~ndimage.binary_erosion(inside, np.ones((5, 5)))
    pixels[~inside] *= 1 - shade
    pixels[ndimage.binary_dilation(inside, np.ones((3, 3))) & ~inside] *= 0.25
    pixels[line] = ImageColor.getrgb(colour)
    return Image.fromarray(np.round(pixels).astype(np.uint8))


def inferno() -> np.ndarray:
    """The colour map of attention as (256, 3) float32 from 0 to 255, dark to bright."""
    stops = [stop.split(":") for stop in _INFERNO.split()]
    colours = np.array([ImageColor.getrgb(f"#{colour}") for _, colour in stops])
    at = [int(level) for level, _ in stops]
    return np.stack([np.interp(range(256), at, channel) for channel in colours.T], axis=1).astype(np.float32)


def _with_scale(sheet: Image.Image) -> Image.Image:
    """The sheet with the colour scale of the heat maps under it."""
    font = _font(_NOTE)
    width = min(220, sheet.width // 3)
    scaled = ImageOps.pad(sheet, (sheet.width, sheet.height + 34), color=_PAPER, centering=(0, 0))
    draw = ImageDraw.Draw(scaled)
    y, x = sheet.height + 2, _MARGIN
    _write(draw, (x, y - 2), "attention: 0", font, _FAINT)
    x += round(font.getlength("attention: 0")) + 8
    strip = inferno()[np.linspace(0, 255, width).astype(int)]
    scaled.paste(Image.fromarray(np.tile(np.round(strip).astype(np.uint8), (12, 1, 1))), (x, y + 2))
    _write(draw, (x + width + 8, y - 2), "the word's maximum", font, _FAINT)
    return scaled


def _as_pil(image: Picture) -> Image.Image:
    return (image if isinstance(image, Image.Image) else to_pil(image)).convert("RGB")


def _cell_size(images: Sequence[Image.Image]) -> tuple[int, int]:
    """(width, height) that holds every image once its longer side is brought to 256…512 pixels."""
    scales = [min(max(max(image.size), _SMALLEST), _LARGEST) / max(image.size) for image in images]
    sizes = [(image.width * scale, image.height * scale) for image, scale in zip(images, scales, strict=True)]
    return max(1, *(round(width) for width, _ in sizes)), max(1, *(round(height) for _, height in sizes))


def _balanced(count: int, most: int) -> int:
    """The columns that fill the fewest rows of at most `most` cells most evenly: 6 cells in 5 make 3 and 3."""
    return math.ceil(count / math.ceil(count / most))


def _resized_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """(H, W) to 0 or 1 at (width, height) `size`, smoothed at the edge rather than stepped."""
    return (_resized(mask, size) >= 0.5).float()


def _resized(values: Tensor, size: tuple[int, int]) -> Tensor:
    """(h, w) to (H, W) float32 at (width, height) `size`, bilinear."""
    single = values.detach().float().cpu()[None, None]
    return F.interpolate(single, size=size[::-1], mode="bilinear", align_corners=False)[0, 0]


@cache
def _font(size: int) -> Font:
    """A font of this machine with accents and Greek, which Pillow's own lacks; Pillow's where there is none."""
    matplotlib = find_spec("matplotlib")
    carried = [] if matplotlib is None else [Path(str(matplotlib.origin)).parent / "mpl-data/fonts/ttf" / _FONTS[0]]
    for name in (*carried, *_FONTS):
        try:
            return ImageFont.truetype(str(name), size)
        except OSError:
            continue
    default: Font = ImageFont.load_default(size)  # type: ignore[assignment]
    return default


def _wrapped(text: str, font: Font, width: int) -> str:
    """Text in lines of at most `width` pixels, broken between words, or inside a word that is wider."""

    def lines(characters: int) -> list[str]:
        return [line for paragraph in text.split("\n") for line in wrap(paragraph, characters) or [""]]

    fits = (n for n in range(max(1, len(text)), 1, -1) if all(font.getlength(line) <= width for line in lines(n)))
    return "\n".join(lines(next(fits, 1)))


def _text_height(text: str, font: Font) -> int:
    return (text.count("\n") + 1) * round(font.size * 1.35) + 4 if text.strip() else 0


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], text: str, font: Font, ink: str) -> None:
    for k, line in enumerate(text.split("\n")):
        draw.text((at[0], at[1] + k * round(font.size * 1.35)), line, font=font, fill=ink)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _ink_on(colour: str) -> str:
    """Black or white, whichever reads better on `colour`, by its luma."""
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return _PAPER if 0.299 * red + 0.587 * green + 0.114 * blue < 140 else _INK
