"""Masks in image files: grey or coloured masks, label maps, transparency in either convention; no photographs."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from .mask_values import inside_by_id, inside_by_values

_GREY = frozenset({"L", "I", "I;16", "I;16B", "I;16L", "F"})
_VOID = 255
"""Pascal VOC's id of the border around objects, which belongs to none."""


@dataclass(frozen=True)
class MaskFile:
    """inside: (H, W) bool. remark: how the file was understood, where it could be read in two ways, else ""."""

    inside: np.ndarray
    remark: str = ""


def read_mask(path: str | Path) -> MaskFile:
    """The mask of an image file, or of one id of a label map, "FILE#ID".

    Two values or soft edges: the larger is inside, and a colour counts by its strongest channel. A palette of
    colours holds ids. Where alpha varies it is the mask: what is transparent is the object where the image goes on
    under it (ComfyUI's mask editor), else what is opaque is. Raises ValueError, naming the file, for what is no
    regular file or cannot be read, for a photograph, and for a label map without its id or with another.
    """
    file, wanted = _file_and_id(path)
    name = f"mask file {str(file)!r}"
    image = _opened(name, file)
    if image.mode == "P" and not (image.has_transparency_data and wanted is None) and not _grey_palette(image):
        return _of_ids(name, np.asarray(image), wanted)
    if image.mode == "1":
        return MaskFile(np.array(image))
    if image.mode in _GREY and not image.has_transparency_data:
        return MaskFile(_of_grey(name, np.asarray(image), wanted))
    layers = np.asarray(image.convert("RGBA"))
    colours, alpha = layers[..., :3], layers[..., 3]
    if wanted is None and alpha.min() < alpha.max():
        return _of_alpha(name, colours, alpha)
    if (colours == colours[..., :1]).all():
        return MaskFile(_of_grey(name, np.where(alpha > 0, colours[..., 0], 0), wanted))
    if wanted is not None:
        raise ValueError(f"{name} has colours, not ids: FILE#ID requires a grey image or a palette")
    return MaskFile(_of_colours(name, np.where(alpha[..., None] > 0, colours, 0)))


def _file_and_id(path: str | Path) -> tuple[Path, int | None]:
    file = Path(path)
    match = re.fullmatch(r"(.+)#(\d{1,9})", str(path))
    if match is None or file.exists():
        return file, None
    return Path(match[1]), int(match[2])


def _opened(name: str, file: Path) -> Image.Image:
    """The decoded image, turned as EXIF says."""
    if file.exists() and not file.is_file():
        raise ValueError(f"{name} cannot be read: it is no regular file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as opened:
                if opened.format in ("EPS", "WMF"):  # Pillow would hand these to an outside interpreter
                    raise ValueError(f"it is a {opened.format} drawing")
                image = ImageOps.exif_transpose(opened)
                image.load()
                return image
    except Exception as error:  # Pillow's decoders raise whatever a corrupt byte leads them to
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"{name} cannot be read: {reason}") from error


def _of_grey(name: str, values: np.ndarray, wanted: int | None) -> np.ndarray:
    values = values if values.dtype.kind == "f" else values.astype(np.int64)
    return inside_by_values(name, values, photograph=True) if wanted is None else inside_by_id(name, values, wanted)


def _grey_palette(image: Image.Image) -> bool:
    """Whether the palette's colours in use are all grey, so that it is a grey image."""
    colours = np.asarray(image.convert("RGB"))
    return bool((colours == colours[..., :1]).all())


def _of_ids(name: str, ids: np.ndarray, wanted: int | None) -> MaskFile:
    if wanted is not None:
        return MaskFile(inside_by_id(name, ids, wanted))
    objects = sorted(set(np.unique(ids).tolist()) - {0})
    if len(objects) == 2 and objects[1] == _VOID:
        remark = f"{name}: its palette has the ids {objects[0]} and {_VOID}; {_VOID} is taken for a border of no object"
        return MaskFile(ids == objects[0], remark)
    if len(objects) > 1:
        raise ValueError(
            f"{name} is a label map with the ids {', '.join(map(str, objects))}: require one of them, as FILE#ID"
        )
    return MaskFile(ids > 0)


def _of_alpha(name: str, colours: np.ndarray, alpha: np.ndarray) -> MaskFile:
    hidden = colours[alpha == alpha.min()].astype(int)
    shown = colours[alpha > alpha.min()]
    one_colour = bool((shown == shown[0]).all())
    goes_on = not one_colour and float((np.abs(hidden - np.median(hidden, axis=0)).max(axis=-1) > 8).mean()) > 0.02
    values = 255 - alpha if goes_on else alpha
    inside = inside_by_values(name, values.astype(np.int64))
    which = (
        "the image goes on under its transparent part, as ComfyUI's mask editor saves it; what is transparent"
        if goes_on
        else "what is opaque"
    )
    return MaskFile(inside, "" if one_colour else f"{name}: {which} is the object ({inside.mean():.1%} of the image)")


def _of_colours(name: str, colours: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    coarse = (colours // 32).astype(np.int64) @ np.array([64, 8, 1])
    if (np.bincount(coarse.ravel()) > 0.002 * coarse.size).sum() > 12:
        raise ValueError(
            f"{name} looks like a photograph, in many colours: requires a mask, white on the object and black"
            " elsewhere, or transparency around the object"
        )
    flat = ndimage.maximum_filter(colours, (3, 3, 1)) == ndimage.minimum_filter(colours, (3, 3, 1))
    regions = int((np.bincount(coarse[flat.all(axis=-1)]) > 0.005 * coarse.size).sum())
    if regions > 2:
        raise ValueError(f"{name} has regions of {regions} colours: requires a mask of one object, white on black")
    strongest = colours.max(axis=-1).astype(np.int64)
    if strongest.min() == strongest.max():
        raise ValueError(f"{name} has colours of the same brightness: requires a mask, brighter on the object")
    return inside_by_values(name, strongest, photograph=True)
