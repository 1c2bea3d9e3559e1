"""Priors from image files, COCO annotations and the command line, and all that must be refused."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

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


SIDE = 96
RED = np.array([1, 0, 0], dtype=np.uint8)
DISC = np.hypot(*(np.mgrid[0:SIDE, 0:SIDE] - 40)) < 25
PHOTO = np.random.default_rng(3).integers(0, 256, (7, 7, 3), dtype=np.uint8)
PHOTO = np.asarray(Image.fromarray(PHOTO).resize((SIDE, SIDE), Image.Resampling.BICUBIC))
SOFT = np.asarray(Image.fromarray(np.where(DISC, 255, 0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(4)))


def iou(given: np.ndarray, wanted: np.ndarray) -> float:
    return float((given & wanted).sum() / (given | wanted).sum())


def labels(**ids: int) -> np.ndarray:
    """Three parts of the image, the disc in the last."""
    values = np.full((SIDE, SIDE), ids["a"], dtype=np.uint8)
    values[70:] = ids["b"]
    values[DISC] = ids["disc"]
    return values


def voc(values: np.ndarray) -> Image.Image:
    image = Image.fromarray(values, "P")
    image.putpalette([i * factor % 256 for i in range(256) for factor in (37, 91, 11)])
    return image


CUT_OUT = np.dstack([np.where(SOFT[..., None] > 0, PHOTO, 0).astype(np.uint8), SOFT])
FOUND: dict[str, tuple[Image.Image, str, str]] = {
    "ComfyUI's mask editor": (layered(PHOTO, np.where(DISC, 0, 255)), "", "transparent is the object"),
    "ComfyUI's mask editor, soft": (layered(PHOTO, 255 - SOFT), "", "transparent is the object"),
    "a cut-out": (Image.fromarray(CUT_OUT), "", "opaque is the object"),
    "a cut-out on white": (layered(np.where(DISC[..., None], PHOTO, 255), SOFT), "", "opaque is the object"),
    "soft edges": (Image.fromarray(SOFT), "", ""),
    "soft edges in colour": (Image.fromarray(SOFT[..., None] * RED), "", ""),
    "at most 100 of 255": (Image.fromarray((SOFT * (100 / 255)).astype(np.uint8)), "", ""),
    "an id of a grey map": (Image.fromarray(labels(a=0, b=1, disc=2)), "#2", ""),
    "an id of a palette": (voc(labels(a=1, b=200, disc=2)), "#2", ""),
    "the one id of a palette": (voc(labels(a=0, b=0, disc=15)), "", ""),
    "an object and its border": (voc(labels(a=0, b=255, disc=15)), "", "255 is taken for a border"),
}


@pytest.mark.parametrize("name", FOUND)
def test_the_object_is_found_in_what_people_bring(name: str, tmp_path: Path) -> None:
    image, wanted, remark = FOUND[name]
    image.save(tmp_path / "mask.png")
    prior = from_mask_files({"cat": f"{tmp_path / 'mask.png'}{wanted}"})
    assert iou(prior.mask("cat").bool().numpy(), DISC) > (0.93 if "oft" in name or "cut" in name else 0.97)
    assert len(prior.remarks) == bool(remark) and remark in "".join(prior.remarks)


REFUSED: dict[str, tuple[Image.Image, str, str]] = {
    "a photograph": (Image.fromarray(PHOTO), "", "looks like a photograph"),
    "a grey photograph": (Image.fromarray(PHOTO).convert("L"), "", "looks like a photograph"),
    "a grey label map": (Image.fromarray(labels(a=0, b=1, disc=2)), "", "ids 0, 1, 2: require one of them, as FILE#ID"),
    "ids far apart": (Image.fromarray(labels(a=1, b=2, disc=200)), "", "ids 1, 2, 200"),
    "a palette": (voc(labels(a=0, b=7, disc=2)), "", "ids 2, 7"),
    "an id that is not there": (voc(labels(a=0, b=7, disc=2)), "#3", "no id 3; it has the ids 0, 2, 7"),
    "a label map in colour": (voc(labels(a=1, b=7, disc=2)).convert("RGB"), "", "regions of 3 colours"),
    "an id of colours": (Image.fromarray(PHOTO), "#3", "has colours, not ids"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_mask_of_one_object_is_refused_with_the_reason(name: str, tmp_path: Path) -> None:
    image, wanted, message = REFUSED[name]
    image.save(tmp_path / "mask.png")
    with pytest.raises(ValueError, match=rf"mask\.png'.*{message}"):
        from_mask_files({"cat": f"{tmp_path / 'mask.png'}{wanted}"})


def test_a_jpeg_of_a_mask_is_one(tmp_path: Path) -> None:
    for name, colour in (("grey", RED | 1), ("red", RED)):
        drawn_disc = np.where(DISC, 255, 0)[..., None].astype(np.uint8) * colour
        Image.fromarray(drawn_disc).save(tmp_path / f"{name}.jpg", quality=60)
        assert iou(from_mask_files({"cat": tmp_path / f"{name}.jpg"}).mask("cat").bool().numpy(), DISC) > 0.95


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mask.png")
    with pytest.raises(ValueError, match="no regular file"):
        from_mask_files({"cat": tmp_path / "mask.png"})
