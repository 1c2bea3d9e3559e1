"""Colour profiles (ICC): the pixels of an image in another colour space, such as Display P3, as sRGB."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageCms

_COLOUR_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""ICC's names of colour spaces -> Pillow's modes."""


def to_srgb(image: Image.Image) -> Image.Image:
    """`image`, of mode RGB, L or CMYK, in sRGB by the profile that it carries; alone its pixels count afterwards.

    Left as it is, bit for bit, where it carries no profile, one that is sRGB within a step of 8 bits, a damaged one,
    or one of another colour space than its own. Relative colorimetric, with black point compensation.
    """
    data = image.info.get("icc_profile")
    if not data:
        return image
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
        if _COLOUR_SPACES.get(profile.profile.xcolor_space) != image.mode:
            return image
        transform = ImageCms.buildTransform(
            profile,
            ImageCms.createProfile("sRGB"),
            image.mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if image.mode != "CMYK" and _changes_nothing(transform, image.mode):
            return image
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return image
    assert converted is not None
    return converted


def _changes_nothing(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    levels = np.arange(256, dtype=np.uint8)
    some = levels[::15]
    colours = levels[None] if mode == "L" else np.stack(np.meshgrid(some, some, some), axis=-1).reshape(1, -1, 3)
    before = Image.fromarray(colours)
    after = ImageCms.applyTransform(before, transform)
    assert after is not None
    difference = np.asarray(after, dtype=int) - np.asarray(before.convert("RGB"), dtype=int)
    return bool(np.abs(difference).max() <= 1)
