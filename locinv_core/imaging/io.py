"""Images in and out: files of any kind become tensors in [0, 1] and come back as PNG, bit for bit where they
were 8-bit RGB."""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange, repeat
from PIL import Image, ImageOps
from torch import Tensor

from .colour_profile import to_srgb
from .transparency import Transparency

MINIMUM_SIDE = 64
"""Shortest side accepted, in pixels: below it, Stable Diffusion's UNet has no grid left at its lowest level."""

ImageSource = str | os.PathLike[str] | Image.Image | np.ndarray

_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})


def load_image(source: ImageSource, *, minimum: int = MINIMUM_SIDE) -> Tensor:
    """Read an image as a float32 tensor (1, 3, H, W) in [0, 1].

    `source` is a file, a Pillow image, or an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4): uint8, uint16,
    bool, or float in [0, 1]. The orientation that EXIF states is applied, a colour profile other than sRGB is
    converted to sRGB, transparency is laid over white, 16 bits are divided by 65535, one channel is repeated,
    palette and CMYK images are converted. Of an animation the first frame is taken. An 8-bit value v becomes
    exactly the float32 v/255.

    Raises ValueError, naming the file, for one that is missing, unreadable, corrupt, cut short or too large
    to be decoded safely; for values out of range; and for an image with a side shorter than `minimum`
    pixels.
    """
    return load_with_transparency(source, minimum=minimum)[0]


def load_with_transparency(source: ImageSource, *, minimum: int = MINIMUM_SIDE) -> tuple[Tensor, Transparency | None]:
    """The image as `load_image` reads it, and its transparency; None where every pixel is opaque."""
    if isinstance(source, np.ndarray):
        name, pixels = "image array", _from_array(source)
    elif isinstance(source, Image.Image):
        name, pixels = "image", _decode("image", source)
    else:
        name, pixels = f"image {os.fspath(source)!r}", _read_file(Path(source))
    height, width = pixels.shape[:2]
    if min(height, width) < minimum:
        raise ValueError(f"{name} is {width}x{height} pixels; each side must be at least {minimum}")
    if pixels.shape[2] == 4 and pixels[:, :, 3].min() < 1:
        transparency = Transparency(pixels[:, :, :3], pixels[:, :, 3:])
        return transparency.over_white(), transparency
    if pixels.shape[2] == 1:
        pixels = repeat(pixels, "h w 1 -> h w 3")
    return rearrange(torch.from_numpy(pixels[:, :, :3]), "h w c -> 1 c h w").contiguous(), None


def _read_file(path: Path) -> np.ndarray:
    """(H, W, 1, 3 or 4) float32 in [0, 1] from a file."""
    name = f"image {str(path)!r}"
    if not path.exists():
        raise ValueError(f"{name} does not exist")
    if not path.is_file():
        raise ValueError(f"{name} is not a file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # on damage that did not matter
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as opened:
                # Pillow would hand these to an outside interpreter.
                if opened.format in ("EPS", "WMF"):
                    raise ValueError(f"{name} is a {opened.format} drawing; give a PNG, JPEG or other pixel format")
                return _decode(name, opened)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        limit = Image.MAX_IMAGE_PIXELS or 0
        raise ValueError(f"{name} has too many pixels to be decoded safely; the limit is {limit:,}") from error
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{name} is not in an image format that can be read") from error
    except OSError as error:
        raise ValueError(f"{name} cannot be read: {error.strerror or error}") from error
    except Exception as error:  # Pillow's decoders raise whatever a corrupt byte leads them to
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name} is corrupt or cut short: {error}") from error


def _decode(name: str, image: Image.Image) -> np.ndarray:
    """(H, W, 1, 3 or 4) float32 in [0, 1] from a Pillow image of any mode."""
    try:
        image.load()
        upright = ImageOps.exif_transpose(image)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise
    except Exception as error:  # as above
        raise ValueError(f"{name} is corrupt or cut short: {error}") from error
    mode = upright.mode
    if mode.startswith("I") or mode == "F":  # 16 bits, in 16 or as Pillow reads some files in 32; floats
        values = np.asarray(upright)
        grey = _scaled(f"{name} (mode {mode})", values, 1 if mode == "F" else 65535)
        transparent = upright.info.get("transparency")
        if isinstance(transparent, int):
            return np.stack([grey, grey, grey, (values != transparent).astype(np.float32)], axis=-1)
        return grey[:, :, None]
    try:
        return np.asarray(_eight_bits(upright), dtype=np.float32) / np.float32(255)
    except (OSError, ValueError) as error:
        raise ValueError(f"{name} has mode {mode}, which cannot be converted to RGB: {error}") from error


def _eight_bits(image: Image.Image) -> Image.Image:
    """RGB or RGBA in sRGB of an image of 8 bits a channel or a palette."""
    if image.mode in _ALPHA_MODES or image.has_transparency_data:
        layers = image.convert("LA" if image.mode in ("L", "La", "LA") else "RGBA")
        colours = layers.convert("L" if layers.mode == "LA" else "RGB")
        colours.info = image.info
        shown = to_srgb(colours).convert("RGB")
        shown.putalpha(layers.getchannel("A"))
        return shown
    if image.mode in ("P", "PA"):
        image = image.convert("RGB")
    return to_srgb(image).convert("RGB")


def _from_array(array: np.ndarray) -> np.ndarray:
    """(H, W, 1, 3 or 4) float32 in [0, 1] from an array."""
    values = array[:, :, None] if array.ndim == 2 else array
    if values.ndim != 3 or values.shape[2] not in (1, 3, 4):
        raise ValueError(f"image array has shape {array.shape}; it must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)")
    if values.dtype in (np.uint8, np.uint16):
        return values.astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    if values.dtype != np.bool_ and not np.issubdtype(values.dtype, np.floating):
        raise ValueError(f"image array is {array.dtype}; it must be uint8, uint16, bool or float")
    return _scaled("image array", values, 1)


def _scaled(name: str, values: np.ndarray, full: int) -> np.ndarray:
    """`values` / `full` as float32. Raises ValueError for values that are not in 0 to `full`."""
    if not (np.isfinite(values).all() and values.min(initial=0) >= 0 and values.max(initial=0) <= full):
        raise ValueError(f"{name} has values from {values.min()} to {values.max()}; they must be in 0 to {full}")
    return (values / full).astype(np.float32)


def size_within(height: int, width: int, long_side: int) -> tuple[int, int]:
    """(height, width) scaled down, never up, so that the longer is `long_side` pixels at most."""
    if long_side < 1:
        raise ValueError(f"size {long_side} given for the longer side; it must be at least 1 pixel")
    scale = min(1.0, long_side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def to_uint8(image: Tensor) -> Tensor:
    """The 8-bit values of a tensor of any shape in [0, 1]: clamped, times 255, rounded to the nearest (a half up).

    Exact inverse of `load_image` on 8-bit images. Raises ValueError for values that are not finite.
    """
    values = image.detach().to(torch.float32)
    if not torch.isfinite(values).all():
        raise ValueError("image has values that are not finite (NaN or infinity); it must be in 0 to 1")
    return (values.clamp(0, 1) * 255 + 0.5).floor().to(torch.uint8)


def to_pil(image: Tensor | np.ndarray) -> Image.Image:
    """A Pillow image from a tensor (1, 3, H, W), (3, H, W), (1, 1, H, W), (1, H, W) or (H, W) in [0, 1],
    or from a uint8 array (H, W) or (H, W, 3)."""
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
            raise ValueError(f"image array is {image.dtype} {image.shape}; it must be uint8 (H, W) or (H, W, 3)")
        return Image.fromarray(image)
    tensor = image[None] if image.ndim == 2 else image[0] if image.ndim == 4 and len(image) == 1 else image
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3):
        raise ValueError(f"image has shape {tuple(image.shape)}; it must be one image of 1 or 3 channels")
    values = rearrange(to_uint8(tensor), "c h w -> h w c").cpu().numpy()
    return Image.fromarray(np.ascontiguousarray(values[:, :, 0] if values.shape[2] == 1 else values))


def save_png(image: Tensor | np.ndarray | Image.Image, path: str | os.PathLike[str], **options: Any) -> Path:
    """Write one image as PNG and return its path; the file is written atomically.

    `image` as for `to_pil`, or a Pillow image; `options` go to Pillow. Raises ValueError where the folder is
    missing.
    """
    drawn = image if isinstance(image, Image.Image) else to_pil(image)
    with written_whole(path) as unfinished:
        drawn.save(unfinished, format="PNG", **options)
    return Path(path)


@contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it is renamed to `path` at the end of the block.

    Where the block fails or is interrupted, what it wrote is removed and a file already at `path` stays as it
    was. Raises ValueError where the folder does not exist or `path` is a folder.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise ValueError(f"cannot write {str(target)!r}: the folder {str(target.parent)!r} does not exist")
    if target.is_dir():
        raise ValueError(f"cannot write {str(target)!r}: it is a folder")
    unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)
