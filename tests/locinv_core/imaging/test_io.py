"""Reading and writing images: every kind of file, exact values, refusals, and files written whole."""

from __future__ import annotations

import io
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pinpoint.locinv_core.imaging.io import (
    load_image,
    save_png,
    size_within,
    to_pil,
    to_uint8,
    written_whole,
)

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (70, 90, 3), dtype=np.uint8)


def png_16_bit(values: np.ndarray, colour_type: int) -> bytes:
    """A PNG of 16 bits a channel, packed by hand: Pillow cannot write one in colour."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def hwc(image: torch.Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).numpy()


def test_an_8_bit_value_becomes_exactly_itself_over_255(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    image = load_image(tmp_path / "a.png")
    assert image.shape == (1, 3, 70, 90) and image.dtype == torch.float32
    assert np.array_equal(hwc(image), NOISE.astype(np.float32) / np.float32(255))


def test_all_256_values_survive_reading_and_writing(tmp_path: Path) -> None:
    ramp = np.arange(256, dtype=np.uint8).repeat(3 * 64).reshape(128, 128, 3)
    Image.fromarray(ramp).save(tmp_path / "in.png")
    save_png(load_image(str(tmp_path / "in.png")), tmp_path / "out.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out.png")), ramp)


def test_a_path_a_pillow_image_and_an_array_read_the_same(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    expected = load_image(tmp_path / "a.png")
    assert torch.equal(load_image(Image.fromarray(NOISE)), expected)
    assert torch.equal(load_image(NOISE), expected)
    assert torch.equal(load_image(NOISE.astype(np.float32) / np.float32(255)), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """A red corner, drawn upright, then stored as a camera in each position would."""
    upright = np.zeros((80, 100, 3), dtype=np.uint8)
    upright[:30, :20] = (255, 0, 0)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(hwc(load_image(tmp_path / "a.png")) * 255, upright)


def test_transparency_is_laid_over_white() -> None:
    rgba = np.zeros((64, 64, 4), dtype=np.uint8)
    rgba[..., 0] = 200
    rgba[:, :32, 3] = 51  # one fifth
    rgba[:, 32:48, 3] = 255
    pixels = hwc(load_image(Image.fromarray(rgba)))
    assert pixels[0, 0] == pytest.approx([0.2 * 200 / 255 + 0.8, 0.8, 0.8], abs=1e-6)
    assert pixels[0, 40].tolist() == [np.float32(200) / np.float32(255), 0, 0]
    assert pixels[0, 60].tolist() == [1, 1, 1]
    assert np.array_equal(hwc(load_image(rgba)), pixels)


def test_a_palette_with_a_transparent_colour_is_converted(tmp_path: Path) -> None:
    indices = np.zeros((64, 64), dtype=np.uint8)
    indices[:, 32:] = 1
    picture = Image.fromarray(indices).convert("P")
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.save(tmp_path / "a.png", transparency=1)
    pixels = hwc(load_image(tmp_path / "a.png")) * 255
    assert pixels[0, 0] == pytest.approx([10, 20, 30]) and pixels[0, 63].tolist() == [255, 255, 255]


def test_16_bit_grey_is_scaled_by_65535_and_not_clipped(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    (tmp_path / "a.png").write_bytes(png_16_bit(values[:, :, None], 0))
    Image.fromarray(values).save(tmp_path / "a.tiff")
    for name in ("a.png", "a.tiff"):
        pixels = hwc(load_image(tmp_path / name))
        assert np.abs(pixels - values[:, :, None] / 65535).max() < 1e-7
    assert np.array_equal(hwc(load_image(values)), hwc(load_image(tmp_path / "a.png")))


def test_16_bit_colour_keeps_its_brightness(tmp_path: Path) -> None:
    values = np.linspace(0, 65535, 64 * 64 * 3).astype(np.uint16).reshape(64, 64, 3)
    (tmp_path / "a.png").write_bytes(png_16_bit(values, 2))
    assert np.abs(hwc(load_image(tmp_path / "a.png")) - values / 65535).max() <= 1 / 255


@pytest.mark.parametrize("mode", ["L", "LA", "1", "CMYK", "YCbCr", "HSV", "LAB"])
def test_white_is_white_in_every_mode(mode: str) -> None:
    white = {
        "L": 255,
        "LA": (255, 255),
        "1": 1,
        "CMYK": (0, 0, 0, 0),
        "YCbCr": (255, 128, 128),
        "LAB": (255, 128, 128),
    }
    colour = white.get(mode, (0, 0, 255) if mode == "HSV" else (255, 0, 0))
    image = load_image(Image.new(mode, (64, 64), colour))  # type: ignore[arg-type]
    assert image.shape == (1, 3, 64, 64) and image.min() > 0.99


def test_one_channel_is_repeated_in_three() -> None:
    image = load_image(NOISE[:, :, 0])
    assert torch.equal(image[0, 0], image[0, 1]) and torch.equal(image[0, 0], image[0, 2])
    assert torch.equal(load_image(NOISE[:, :, :1]), image)


def test_a_float_image_keeps_its_values() -> None:
    values = RNG.random((64, 64)).astype(np.float32)
    assert np.array_equal(load_image(Image.fromarray(values))[0, 1].numpy(), values)


@pytest.mark.parametrize(
    "picture",
    [
        Image.fromarray(np.full((64, 64), 300.0, dtype=np.float32)),
        Image.fromarray(np.full((64, 64), np.nan, dtype=np.float32)),
        Image.new("I", (64, 64), 70000),
        np.full((64, 64), 1.5),
        np.full((64, 64, 3), np.nan),
        np.zeros((64, 64), dtype=np.int64),
        np.zeros((64, 64, 2), dtype=np.uint8),
        np.zeros((1, 3, 64, 64), dtype=np.uint8),
    ],
)
def test_values_and_shapes_without_a_meaning_are_refused(picture: Image.Image | np.ndarray) -> None:
    with pytest.raises(ValueError, match="image"):
        load_image(picture)


def test_an_image_too_small_is_refused_with_both_sizes(tmp_path: Path) -> None:
    Image.new("RGB", (200, 63)).save(tmp_path / "thin.png")
    with pytest.raises(ValueError, match=r"thin\.png.*200x63.*64"):
        load_image(tmp_path / "thin.png")
    assert load_image(tmp_path / "thin.png", minimum=63).shape == (1, 3, 63, 200)
    with pytest.raises(ValueError, match="0x0"):
        load_image(np.zeros((0, 0, 3), dtype=np.uint8))


def jpeg_bytes() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, "jpeg")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "format"),
        (b"not an image", "format"),
        (jpeg_bytes()[:400], "Truncated"),
        (jpeg_bytes()[:-500], "cut short"),
        (png_16_bit(np.ones((64, 64, 3)), 2)[:80], "cut short"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\x04IHDR\x00\x00\x00\x00\xf2\x0e\xe9\x60", "cut short"),
        (png_16_bit(np.ones((64, 64, 3)), 2).replace(b"IDAT", b"IDAX"), "format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n", "EPS"),
    ],
)
def test_a_foreign_or_damaged_file_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(ValueError, match=reason) as caught:
        load_image(tmp_path / "bad.png")
    assert "bad.png" in str(caught.value) and "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["png", "jpeg", "webp", "tiff", "gif"]), st.integers(0, 2**31))
def test_a_file_with_random_damage_is_read_or_refused_and_nothing_else(kind: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    stream = io.BytesIO()
    Image.fromarray(NOISE).save(stream, kind)
    content = np.frombuffer(stream.getvalue(), dtype=np.uint8).copy()
    # Mostly the head, where the structure is.
    places = generator.integers(0, generator.choice([60, len(content)]), 5)
    content[places] = generator.integers(0, 256, 5, dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bad"
        path.write_bytes(content.tobytes())
        try:
            image = load_image(path, minimum=1)
        except ValueError as error:
            assert str(path) in str(error)
        else:
            assert image.ndim == 4 and image.min() >= 0 and image.max() <= 1


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"gone\.png.*does not exist"):
        load_image(tmp_path / "gone.png")
    with pytest.raises(ValueError, match="not a file"):
        load_image(tmp_path)


@pytest.mark.parametrize("side", [12_000, 40_000])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    """12,000 is where Pillow warns, 40,000 where it refuses; the file itself holds no pixel."""
    header = bytearray(png_16_bit(np.ones((1, 1, 3)), 2))
    header[16:24] = struct.pack(">II", side, side)
    header[29:33] = struct.pack(">I", zlib.crc32(bytes(header[12:29])))
    (tmp_path / "bomb.png").write_bytes(bytes(header))
    with pytest.raises(ValueError, match=r"bomb\.png.*too many pixels"):
        load_image(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [
        ((960, 1280), 512, (384, 512)),
        ((512, 512), 512, (512, 512)),
        ((100, 50), 300, (100, 50)),
        ((1, 999), 9, (1, 9)),
    ],
)
def test_sizes_shrink_to_the_longer_side_and_never_grow(
    size: tuple[int, int], long_side: int, expected: tuple[int, int]
) -> None:
    assert size_within(*size, long_side) == expected
    with pytest.raises(ValueError, match="size 0"):
        size_within(*size, 0)


def test_8_bit_values_are_rounded_not_cut() -> None:
    values = torch.tensor([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 1.5 / 255, 2.5 / 255, 254.6 / 255, 1.0, 1.7])
    assert to_uint8(values).tolist() == [0, 0, 0, 1, 2, 3, 255, 255, 255]
    with pytest.raises(ValueError, match="finite"):
        to_uint8(torch.tensor([0.5, float("nan")]))


def test_pillow_images_have_the_right_axes() -> None:
    assert np.array_equal(np.asarray(to_pil(load_image(NOISE))), NOISE)
    assert np.array_equal(np.asarray(to_pil(load_image(NOISE)[0])), NOISE)
    assert np.array_equal(np.asarray(to_pil(NOISE)), NOISE)
    mask = torch.zeros(5, 7)
    mask[2, 3] = 1
    for shaped in (mask, mask[None], mask[None, None]):
        assert to_pil(shaped).size == (7, 5) and to_pil(shaped).getpixel((3, 2)) == 255
    for wrong in (torch.zeros(2, 3, 8, 8), torch.zeros(4, 8, 8), np.zeros((8, 8, 3))):
        with pytest.raises(ValueError, match="must be"):
            to_pil(wrong)


def test_a_saved_image_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"old")
    assert save_png(load_image(NOISE), tmp_path / "a.png") == tmp_path / "a.png"
    assert np.array_equal(np.asarray(Image.open(tmp_path / "a.png")), NOISE)
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("interruption", [OSError("disk full"), KeyboardInterrupt()])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_nothing_else(
    tmp_path: Path, interruption: BaseException
) -> None:
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(type(interruption)), written_whole(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("half")
        raise interruption
    assert (tmp_path / "a.txt").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_writing_to_a_missing_folder_or_over_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        save_png(NOISE, tmp_path / "missing" / "a.png")
    with pytest.raises(ValueError, match="is a folder"):
        save_png(NOISE, tmp_path)
