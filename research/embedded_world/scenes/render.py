"""Drawing a scene: places, soft shadows, and shaded objects with their exact masks."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .backgrounds import paint_background
from .materials import Role, outline_colour, role_colour, surface
from .shapes import shapes
from .spec import SIDE, Box, SceneObject, SceneSpec

Plane = NDArray[np.float32]

_FINE = 4  # samples a pixel, each way
_MARGIN = 6  # pixels around an object's box, so that blurs see its surroundings
_LEAST_COVER = 0.12  # a pixel with less of an object on it shows none
_BACKGROUND_STREAM = 1


@lru_cache(maxsize=256)
def _blur_matrix(length: int, sigma: float) -> Plane:
    """Gaussian weights (length, length): ``matrix @ signal`` blurs, with zeros beyond the ends."""
    offset = np.arange(length)[:, None] - np.arange(length)[None]
    kernel = np.exp(-0.5 * (offset / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return kernel.astype(np.float32)


def _blur(plane: Plane, sigma: float) -> Plane:
    rows, columns = _blur_matrix(plane.shape[0], sigma), _blur_matrix(plane.shape[1], sigma)
    return (rows @ plane @ columns).astype(np.float32, copy=False)


def _coverage(obj: SceneObject, width: int, height: int) -> dict[tuple[int, Role], Plane]:
    """How much of each pixel every (part, role) of the drawing covers, 0..1, hidden parts left out."""
    fine = Image.new("L", ((width + 2 * _MARGIN) * _FINE, (height + 2 * _MARGIN) * _FINE), 0)
    draw = ImageDraw.Draw(fine)
    for shape in shapes(obj.noun):
        points = 1 - shape.points if obj.mirrored else shape.points
        x = (points[:, 0] * width + _MARGIN) * _FINE
        y = (shape.points[:, 1] * height + _MARGIN) * _FINE
        draw.polygon(np.stack([x, y], axis=1).ravel().tolist(), fill=1 + shape.part * 16 + shape.role)
    labels = np.asarray(fine)
    cover = {}
    for part, role in sorted({(shape.part, shape.role) for shape in shapes(obj.noun)}):
        shown = (labels == 1 + part * 16 + role).view(np.uint8) * np.uint8(255)
        cover[part, role] = np.asarray(Image.fromarray(shown).reduce(_FINE), dtype=np.float32) / np.float32(255)
    return cover


def _shading(part: Plane, scale: float) -> tuple[Plane, Plane]:
    """Relief of a rounded body lit from the upper left, about -1..1, and its own soft edge, 0..1."""
    body = 0.77 * _blur(part, 2.2 * scale) + 3.25 * _blur(part, 5.0 * scale)
    body *= 2.5 * scale
    relief = np.zeros_like(part)
    relief[:, 1:-1] = 0.275 * (body[:, 2:] - body[:, :-2])
    relief[1:-1] += 0.415 * (body[2:] - body[:-2])
    edge = np.clip((0.80 - _blur(part, 0.9 * scale)) / 0.35, 0, 1).astype(np.float32)
    return relief, edge


def draw_object(obj: SceneObject, size: int) -> tuple[Box, Plane, Plane]:
    """One object: the window (x0, y0, x1, y1) that it is drawn in, which may reach beyond the image, its colours
    (h, w, 3) in [0, 1], and how much it covers of each pixel, (h, w) in [0, 1]."""
    scale = size / SIDE
    x0, y0, x1, y1 = (round(edge * scale) for edge in obj.box)
    cover = _coverage(obj, x1 - x0, y1 - y0)
    total: Plane = np.minimum(np.sum(list(cover.values()), axis=0), 1).astype(np.float32)
    height, width = total.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    across, down = (columns + 0.5 - width / 2) / scale, (rows + 0.5 - height / 2) / scale

    patterned = obj.material in ("striped", "dotted")  # a shine would break the pattern
    gradient = 1.06 - 0.22 * (0.35 * across / (width / scale) + 0.65 * down / (height / scale) + 0.5)
    colours = np.zeros((height, width, 3), dtype=np.float32)
    lines = np.zeros_like(total)
    for part in sorted({part for part, _ in cover}):
        body: Plane = np.sum([plane for (owner, _), plane in cover.items() if owner == part], axis=0)
        relief, edge = _shading(body, scale)
        lines += 0.45 * edge * body
        light = gradient + 0.34 * np.minimum(relief, 0) + 0.10 * np.maximum(relief, 0)
        gleam = np.clip(relief - 0.25, 0, 1) * 0.5
        for (owner, role), plane in cover.items():
            if owner != part:
                continue
            flat: Plane = role_colour(role, obj.adjective)
            if role == Role.MAIN or (role == Role.SHINE and patterned):
                flat = surface(obj.material, obj.colour, across, down, 1.0 / scale)
            lit = flat * (np.float32(1) if role == Role.SHINE and not patterned else light[..., None])
            lit = lit + (1 - lit) * gleam[..., None]
            colours += lit * plane[..., None]
    colours /= np.maximum(total, 1e-4)[..., None]
    rim = np.clip((0.90 - _blur(total, 0.95 * scale)) / 0.36, 0, 1)
    line = np.clip(np.maximum(lines, rim * 0.92), 0, 1)[..., None]
    colours += (outline_colour(obj.adjective) - colours) * line
    total = np.where(total < _LEAST_COVER, np.float32(0), total)
    window = (x0 - _MARGIN, y0 - _MARGIN, x1 + _MARGIN, y1 + _MARGIN)
    return window, np.clip(colours, 0, 1).astype(np.float32), total


def _shadow(image: Plane, box: Box) -> None:
    """Darken the ground under a box, softly; it depends on the box alone, so a swap leaves it as it is."""
    size = image.shape[0]
    x0, _, x1, y1 = (edge * size / SIDE for edge in box)
    centre = np.arange(size, dtype=np.float32) + 0.5
    dx = (centre - (0.54 * x1 + 0.46 * x0)) / (0.52 * (x1 - x0))
    dy = (centre - (y1 - 1.5 * size / SIDE)) / (0.10 * (x1 - x0))
    depth = np.exp(-1.3 * (dx[None] ** 2 + dy[:, None] ** 2) ** 1.3).astype(np.float32)
    shade = np.asarray((0.62, 0.56, 0.46), dtype=np.float32)
    image *= 1 - shade * depth[..., None] * 0.85


def render(spec: SceneSpec, size: int = SIDE) -> tuple[NDArray[np.uint8], list[NDArray[np.bool_]]]:
    """A scene's image, uint8 (size, size, 3), and for each object the pixels where it shows, bool (size, size).

    Raises ValueError for a size that is no multiple of 8 or under 32: the models cannot take it.
    """
    if size < 32 or size % 8:
        raise ValueError(f"size: got {size}, requires a multiple of 8, at least 32")
    image = paint_background(spec.background, np.random.default_rng((spec.seed, _BACKGROUND_STREAM)), size)
    for obj in spec.objects:
        _shadow(image, obj.box)
    masks = []
    for obj in spec.objects:
        window, colours, cover = draw_object(obj, size)
        x0, y0, x1, y1 = window
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, size), min(y1, size)
        inside = np.s_[top - y0 : bottom - y0, left - x0 : right - x0]
        patch = image[top:bottom, left:right]
        patch += (colours[inside] - patch) * cover[inside][..., None]
        mask = np.zeros((size, size), dtype=bool)
        mask[top:bottom, left:right] = cover[inside] > 0
        masks.append(mask)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8), masks


def tight_box(mask: NDArray[np.bool_]) -> Box:
    """The smallest box (x0, y0, x1, y1), x1 and y1 exclusive, around the true pixels of ``mask`` (H, W).

    Raises:
        ValueError: for a mask with no true pixel.
    """
    box = Image.fromarray(mask).getbbox()
    if box is None:
        raise ValueError("mask: is empty, requires at least one pixel")
    return box
