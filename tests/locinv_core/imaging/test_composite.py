"""The pixel composite: untouched outside the mask bit for bit, the edit inside, a soft edge between."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from pinpoint.locinv_core.imaging.composite import composite, feather, grow
from pinpoint.locinv_core.imaging.io import load_image, save_png, to_uint8


def square(size: int = 21, low: int = 5, high: int = 16) -> Tensor:
    mask = torch.zeros(size, size)
    mask[low:high, low:high] = 1
    return mask


def random_case(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source = torch.rand(1, 3, 24, 32, generator=generator)
    edited = torch.rand(2, 3, 24, 32, generator=generator) * 1.4 - 0.2  # a decoder overshoots
    coarse = torch.rand(1, 1, 6, 8, generator=generator)
    mask = (torch.nn.functional.interpolate(coarse, (24, 32), mode="bilinear")[0, 0] > 0.5).float()
    return source, edited, mask


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.floats(0, 12))
def test_outside_the_mask_the_input_is_bit_identical(seed: int, pixels: float) -> None:
    source, edited, mask = random_case(seed)
    result = composite(source, edited, mask, pixels)
    outside = (mask == 0).expand_as(result)
    assert result.shape == edited.shape
    assert torch.equal(result[outside], source.expand_as(result)[outside])
    assert torch.equal(to_uint8(result)[outside], to_uint8(source).expand_as(result)[outside])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000), st.integers(0, 6))
def test_deep_inside_the_mask_the_edit_is_bit_identical(seed: int, pixels: int) -> None:
    """Deep is farther than the feather from any pixel outside, found by looking at every pair."""
    source, edited, mask = random_case(seed)
    result = composite(source, edited, mask, pixels)
    inside, outside = torch.nonzero(mask).float(), torch.nonzero(mask == 0).float()
    if len(inside) == 0:
        assert torch.equal(result, source.expand_as(result))
        return
    distance = torch.cdist(inside, outside).min(dim=1).values if len(outside) else torch.full((len(inside),), 1e9)
    deep = inside[distance >= pixels + 1].long()
    assert torch.equal(result[:, :, deep[:, 0], deep[:, 1]], edited[:, :, deep[:, 0], deep[:, 1]])


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 100_000), st.floats(0.5, 12))
def test_on_the_edge_the_result_lies_between_input_and_edit(seed: int, pixels: float) -> None:
    source, edited, mask = random_case(seed)
    result = composite(source, edited, mask, pixels)
    low, high = torch.minimum(source, edited), torch.maximum(source, edited)
    assert (result >= low - 1e-6).all() and (result <= high + 1e-6).all()


def test_without_a_feather_the_mask_cuts_hard() -> None:
    source, edited, mask = random_case(3)
    expected = torch.stack([torch.where(mask > 0, image, source[0]) for image in edited])
    assert torch.equal(composite(source, edited, mask), expected)


def test_half_a_mask_blends_half_and_half() -> None:
    result = composite(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4), torch.full((4, 4), 0.5))
    assert torch.equal(result, torch.full((1, 3, 4, 4), 0.5))


def test_the_feather_follows_smoothstep_over_the_distance_to_the_outside() -> None:
    """Row 10 of the square starts at column 5: distances 1, 2, 3, 4; feather 3, so t = 1/4, 1/2, 3/4, 1."""
    row = feather(square(), 3)[10]
    assert row[4:9].tolist() == pytest.approx([0, 0.15625, 0.5, 0.84375, 1])
    assert torch.equal(row, row.flip(0))


def test_the_border_of_the_image_is_no_edge() -> None:
    mask = torch.zeros(20, 20)
    mask[:, :10] = 1
    alpha = feather(mask, 4)
    assert (alpha[:, 0] == 1).all() and torch.equal(alpha, alpha[:1].expand(20, 20))
    assert torch.equal(feather(torch.ones(20, 20), 4), torch.ones(20, 20))


def test_a_thin_part_keeps_pixels_that_are_the_edit_alone() -> None:
    mask = square(40, 5, 30)
    mask[35, 2:38] = 1  # one pixel thin, apart from the square
    alpha = feather(mask, 6)
    assert (alpha[35, 2:38] == 1).all()
    assert alpha[17, 17] == 1 and 0 < alpha[5, 17] < 0.1


def test_an_empty_mask_returns_the_input() -> None:
    source, edited, mask = random_case(1)
    assert torch.equal(composite(source, edited, torch.zeros_like(mask), 3), source.expand_as(edited))
    assert grow(torch.zeros(5, 5), 2).sum() == 0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100_000), st.floats(0, 9))
def test_growing_reaches_every_pixel_within_the_distance(seed: int, pixels: float) -> None:
    _, _, mask = random_case(seed)
    here, there = torch.cartesian_prod(torch.arange(24.0), torch.arange(32.0)), torch.nonzero(mask).double()
    if len(there) == 0:
        return
    near = (torch.cdist(here.double(), there).min(dim=1).values <= pixels + 1e-9).reshape(24, 32)
    assert torch.equal(grow(mask, pixels), near.float())


def test_growing_by_one_pixel_draws_a_plus() -> None:
    mask = torch.zeros(5, 5)
    mask[2, 2] = 0.3
    assert grow(mask, 1).tolist() == [[0] * 5, [0, 0, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 0, 0], [0] * 5]


def test_an_edit_of_another_precision_takes_the_inputs() -> None:
    source, edited, mask = random_case(2)
    result = composite(source, edited.to(torch.bfloat16), mask, 2)
    assert result.dtype == torch.float32
    assert torch.equal(result[:, :, mask == 0], source.expand_as(result)[:, :, mask == 0])


def test_a_file_keeps_its_background_from_disk_to_disk(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (72, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    source = load_image(tmp_path / "in.png")
    mask = torch.zeros(72, 80)
    mask[20:50, 30:80] = 1
    save_png(source, tmp_path / "source.png")
    save_png(composite(source, 1 - source, mask, 4), tmp_path / "edited.png")
    edited = np.asarray(Image.open(tmp_path / "edited.png"))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "source.png")), pixels)
    assert np.array_equal(edited[mask.numpy() == 0], pixels[mask.numpy() == 0])
    assert np.array_equal(edited[30:40, 60:], 255 - pixels[30:40, 60:])


def test_images_and_masks_that_do_not_fit_are_refused() -> None:
    a = torch.zeros(1, 3, 8, 8)
    with pytest.raises(ValueError, match="source has shape"):
        composite(a, torch.zeros(1, 3, 8, 9), torch.ones(8, 8))
    with pytest.raises(ValueError, match="3 images"):
        composite(torch.zeros(3, 3, 8, 8), torch.zeros(2, 3, 8, 8), torch.ones(8, 8))
    with pytest.raises(ValueError, match="mask has shape"):
        composite(a, a, torch.ones(4, 4))
    for function in (feather, grow):
        with pytest.raises(ValueError, match="0 to 1"):
            function(torch.full((8, 8), 1.5), 1)
        with pytest.raises(ValueError, match="0 to 1"):
            function(torch.full((8, 8), float("nan")), 1)
        with pytest.raises(ValueError, match="pixels given"):
            function(torch.ones(8, 8), -1)
        with pytest.raises(ValueError, match="must be"):
            function(torch.ones(1, 8, 8), 1)
