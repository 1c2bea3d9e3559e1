"""Priors from image files, COCO annotations and the command line, and all that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pinpoint.locinv_core.localization.priors import (
    from_mask_files,
)
from pinpoint.tests.fixtures.drawn_prior import DRAWN, SIZE, drawn

WHITE_ON_BLACK = np.where(DRAWN, 255, 0).astype(np.uint8)


def layered(colour: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([colour, alpha]).astype(np.uint8), "RGBA")


def coloured(inside: tuple[int, int, int], outside: tuple[int, int, int]) -> np.ndarray:
    return np.where(DRAWN[..., None], inside, outside).astype(np.uint8)


def palette_image() -> Image.Image:
    image = Image.fromarray(DRAWN.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0])  # how Pascal VOC writes its first class
    return image


IMAGES: dict[str, Callable[[], Image.Image]] = {
    "one bit": lambda: Image.fromarray(DRAWN),
    "grey": lambda: Image.fromarray(WHITE_ON_BLACK),
    "grey of 0 and 1": lambda: Image.fromarray(DRAWN.astype(np.uint8)),
    "16 bits": lambda: Image.fromarray(np.where(DRAWN, 65535, 0).astype(np.uint16)),
    "rgb": lambda: Image.fromarray(coloured((255, 255, 255), (0, 0, 0))),
    "pure red on black": lambda: Image.fromarray(coloured((255, 0, 0), (0, 0, 0))),
    "palette": palette_image,
    "rgba, opaque": lambda: layered(coloured((255, 255, 255), (0, 0, 0)), np.full(SIZE, 255)),
    "black, alpha alone": lambda: layered(np.zeros((*SIZE, 3)), WHITE_ON_BLACK),
    "white, alpha alone": lambda: layered(np.full((*SIZE, 3), 255), WHITE_ON_BLACK),
    "black brush, white under it": lambda: layered(coloured((0, 0, 0), (255, 255, 255)), WHITE_ON_BLACK),
    "white over a transparent rest": lambda: layered(coloured((255, 255, 255), (200, 9, 90)), WHITE_ON_BLACK),
    "grey and alpha": lambda: Image.merge("LA", [Image.new("L", (8, 6), 0), Image.fromarray(WHITE_ON_BLACK)]),
}


@pytest.mark.parametrize("name", IMAGES)
def test_every_mode_of_image_gives_the_drawn_mask(name: str, tmp_path: Path) -> None:
    IMAGES[name]().save(tmp_path / "mask.png")
    assert torch.equal(from_mask_files({"cat": tmp_path / "mask.png"}, size=SIZE).mask("cat"), drawn())


def test_a_mask_that_a_camera_turned_is_turned_back(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(WHITE_ON_BLACK[::-1, ::-1].copy()).save(tmp_path / "mask.png", exif=exif)
    assert torch.equal(from_mask_files({"cat": str(tmp_path / "mask.png")}).mask("cat"), drawn())


def test_several_files_of_a_word_are_joined(tmp_path: Path) -> None:
    for name, part in (("left", slice(0, 4)), ("right", slice(4, 8))):
        half = np.zeros(SIZE, dtype=np.uint8)
        half[:, part] = WHITE_ON_BLACK[:, part]
        Image.fromarray(half).save(tmp_path / f"{name}.png")
    prior = from_mask_files({"cat": [tmp_path / "left.png", tmp_path / "right.png"]})
    assert torch.equal(prior.mask("cat"), drawn())


def test_a_mask_file_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no image")
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)).save(tmp_path / "whole.png")
    (tmp_path / "half.png").write_bytes((tmp_path / "whole.png").read_bytes()[:2000])
    for name in ("missing.png", "text.png", "half.png"):
        with pytest.raises(ValueError, match=rf"mask file '.*{name}' cannot be read"):
            from_mask_files({"cat": tmp_path / name})


def test_a_mask_file_whose_exif_is_damaged_is_refused_by_name(tmp_path: Path) -> None:
    Image.fromarray(WHITE_ON_BLACK).save(tmp_path / "mask.png", exif=b"Exif\0\0MM\0*")  # ends in its head
    with pytest.raises(ValueError, match=r"mask file '.*mask\.png' cannot be read"):
        from_mask_files({"cat": tmp_path / "mask.png"})


def test_a_mask_file_that_is_black_or_transparent_is_refused(tmp_path: Path) -> None:
    Image.new("L", (8, 6), 0).save(tmp_path / "black.png")
    Image.new("RGBA", (8, 6), (255, 255, 255, 0)).save(tmp_path / "clear.png")
    for name in ("black", "clear"):
        with pytest.raises(ValueError, match="'cat' is empty"):
            from_mask_files({"cat": tmp_path / f"{name}.png"})
