"""Images in other colour spaces than sRGB look the same once they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from pinpoint.locinv_core.imaging.io import load_image, load_with_transparency
from pinpoint.tests.fixtures.colour_profiles import ADOBE_RGB, DISPLAY_P3, rgb_profile, srgb_curve, to_xyz_d50

SRGB = ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060))
NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def eight_bits(path: Path) -> np.ndarray:
    return (load_image(path)[0].permute(1, 2, 0).numpy() * 255).round()


@pytest.mark.parametrize(("primaries", "gamma"), [(DISPLAY_P3, None), (ADOBE_RGB, 2.19921875)])
@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff", "rgba", "palette"])
def test_a_colour_of_srgb_written_in_another_space_is_read_as_itself(primaries, gamma, kind, tmp_path) -> None:
    colours = np.array([(0, 200, 0), (200, 60, 40), (90, 90, 90), (20, 40, 220), (255, 255, 255)]) / 255
    linear = srgb_curve(colours) @ (np.linalg.inv(to_xyz_d50(primaries)) @ to_xyz_d50(SRGB)).T
    assert linear.min() > -1e-4
    linear = linear.clip(0, 1)
    encoded = linear ** (1 / gamma) if gamma else np.interp(linear, srgb_curve(x := np.linspace(0, 1, 65536)), x)
    picture = Image.fromarray(np.repeat((encoded * 255).round().astype(np.uint8), 64, axis=0).reshape(-1, 64, 3))
    picture = picture.resize((64, 320), Image.Resampling.NEAREST)
    if kind == "rgba":
        picture.putalpha(Image.linear_gradient("L").resize(picture.size).point(lambda value: max(value, 1)))
    if kind == "palette":
        picture = picture.convert("P", palette=Image.Palette.ADAPTIVE)
    suffix = {"jpeg": "jpg", "tiff": "tiff"}.get(kind, "png")
    options: dict[str, Any] = {"quality": 100, "subsampling": 0} if kind == "jpeg" else {}
    picture.save(tmp_path / f"a.{suffix}", icc_profile=rgb_profile(primaries, gamma), **options)
    read = eight_bits(tmp_path / f"a.{suffix}")
    if kind == "rgba":
        transparency = load_with_transparency(tmp_path / "a.png")[1]
        assert transparency is not None
        read = transparency.colours * 255
    limit = 10 if kind == "jpeg" else 3  # a step of a JPEG near black is many of sRGB
    for number, colour in enumerate(colours):
        assert np.abs(read[number * 64 + 32, 32] - colour * 255).max() <= limit


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        rgb_profile(SRGB, None),
        b"no profile at all",
        rgb_profile(DISPLAY_P3, None)[:300],
        ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes(),
    ],
    ids=["sRGB", "sRGB by hand", "damaged", "cut short", "of another space"],
)
def test_srgb_and_a_profile_that_cannot_be_used_change_no_pixel(profile: bytes, tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(eight_bits(tmp_path / "a.png"), NOISE)


def test_cmyk_by_its_profile_of_rgb_is_read_without_it(tmp_path: Path) -> None:
    plain = Image.fromarray(NOISE).convert("CMYK")
    plain.save(tmp_path / "a.tiff", icc_profile=rgb_profile(DISPLAY_P3, None))
    assert np.array_equal(eight_bits(tmp_path / "a.tiff"), np.asarray(plain.convert("RGB")))
