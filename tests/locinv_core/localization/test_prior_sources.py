"""Priors from image files, COCO annotations and the command line, and all that must be refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from pinpoint.locinv_core.localization.priors import (
    from_arguments,
    from_coco,
    from_mask_files,
    parse_prior_argument,
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


def rle_of(mask: np.ndarray) -> dict:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))


def runs_of(mask: np.ndarray) -> list[int]:
    """Run lengths down the columns, beginning with the zeros."""
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel == value:
            runs[-1] += 1
        else:
            runs.append(1)
            value = pixel
    return runs


def test_polygons_and_both_kinds_of_rle_give_the_drawn_mask() -> None:
    polygon = [2, 1, 7, 1, 7, 4, 2, 4]
    compressed = rle_of(DRAWN)
    for segmentation in (
        [polygon],
        polygon,
        [[2, 1, 5, 1, 5, 4, 2, 4], [4, 1, 7, 1, 7, 4, 4, 4]],
        compressed,
        {**compressed, "counts": compressed["counts"].decode()},
        {"size": list(SIZE), "counts": runs_of(DRAWN)},
        {"segmentation": [polygon], "bbox": [2, 1, 5, 3]},
        [{"size": list(SIZE), "counts": runs_of(DRAWN)}, {"segmentation": [polygon]}],
    ):
        prior = from_coco({"cat": segmentation}, SIZE)
        assert torch.equal(prior.mask("cat"), drawn()), segmentation
        assert prior.kind == "segment"


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_any_rle_is_read_as_pycocotools_wrote_it(height: int, width: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    mask = generator.random((height, width)) < generator.random()
    mask[generator.integers(height), generator.integers(width)] = True
    for segmentation in (rle_of(mask), {"size": [height, width], "counts": runs_of(mask)}):
        read = from_coco({"cat": segmentation}, (height, width)).mask("cat")
        assert np.array_equal(read.numpy(), mask)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ([], "require polygons or an RLE"),
        ("cat", "require polygons or an RLE"),
        (None, "require polygons or an RLE"),
        ([[1, 1, 4, 4]], "has 4 numbers: require x, y of at least three points"),
        ([[1, 1, 4, 4, 5, 5, 6]], "has 7 numbers"),
        ([[1, 1, 40, 1, 4, 4]], "leaves the image: require finite x from 0 to 8 and y from 0 to 6"),
        ([[1, 1, float("nan"), 1, 4, 4]], "leaves the image"),
        ({"size": [6, 8]}, "require size and counts"),
        ({"size": [8, 6], "counts": [10, 38]}, "is 6×8 .* and the image is 8×6"),
        ({"size": [6, 8], "counts": [10, 10]}, "cover 20 pixels and the image has 48"),
        ({"size": [6, 8], "counts": [-1, 49]}, "cover 48 pixels"),
        ({"size": [6, 8], "counts": [48]}, "'cat' is empty"),
        ({"size": [6, 8], "counts": "5"}, "cover 5 pixels"),
        ({"size": [6, 8], "counts": ""}, "cover 0 pixels"),
        ({"size": [6, 8], "counts": "!!!"}, "cannot be read"),
        ({"size": [6, 8], "counts": "é"}, "cannot be read"),
        ({"size": [6, 8], "counts": "oo"}, "cannot be read"),
        ({"size": 6, "counts": "5"}, "cannot be read"),
    ],
)
def test_a_malformed_segmentation_is_refused(segmentation: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_coco({"cat": segmentation}, SIZE)


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("cat=mask.png", ("cat", Path("mask.png"))),
        (" cat = a b/m=1,2.png", ("cat", Path("a b/m=1,2.png"))),
        ("mountain lion#2=0,1,2.5,-3", ("mountain lion#2", (0.0, 1.0, 2.5, -3.0))),
        ("cat=1, 2, 3, 4", ("cat", (1.0, 2.0, 3.0, 4.0))),
    ],
)
def test_a_prior_argument_is_a_word_and_a_box_or_a_file(argument: str, expected: tuple) -> None:
    assert parse_prior_argument(argument) == expected


@pytest.mark.parametrize("argument", ["cat", "=mask.png", "cat=", " =1,2,3,4", "", "cat=  "])
def test_a_prior_argument_without_a_word_or_a_place_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=r"require WORD=MASK\.png or WORD=x0,y0,x1,y1"):
        parse_prior_argument(argument)


@pytest.mark.parametrize(("argument", "count"), [("cat=1,2,3", 3), ("cat=1,2,3,4,5", 5), ("cat=7", 1)])
def test_a_box_argument_of_other_than_four_numbers_is_refused(argument: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"four numbers x0,y0,x1,y1, got {count}"):
        parse_prior_argument(argument)


def test_arguments_together_make_one_prior(tmp_path: Path) -> None:
    Image.fromarray(WHITE_ON_BLACK).save(tmp_path / "mask.png")
    prior = from_arguments(["cat=0,0,1,1", f"dog={tmp_path / 'mask.png'}", "CAT=7,5,8,6"], SIZE)
    assert prior.words == ("cat", "dog")
    assert prior.mask("cat").nonzero().tolist() == [[0, 0], [5, 7]]
    assert prior.kinds == {"cat": "detection", "dog": "segment"}
    with pytest.raises(ValueError, match="box of 'cat'"):
        from_arguments(["cat=0,0,9,9"], SIZE)
