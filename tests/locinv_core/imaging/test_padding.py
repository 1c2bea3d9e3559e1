"""Padding mirrors images and leaves masks empty; maps and masks come back without it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pinpoint.locinv_core.imaging.padding import Padding
from pinpoint.locinv_core.localization.priors import from_boxes

# 70x66 pixels, padded to 72x72.
PADDING = Padding.of(66, 70, 8)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 64))
def test_padding_pads_least_to_the_multiple_and_crops_back(height: int, width: int, multiple: int) -> None:
    padding = Padding.of(height, width, multiple)
    image = torch.arange(height * width, dtype=torch.float32).reshape(1, 1, height, width)
    padded = padding.pad_image(image)
    assert padded.shape[-2] % multiple == 0 and padded.shape[-1] % multiple == 0
    assert 0 <= padded.shape[-2] - height < multiple and 0 <= padded.shape[-1] - width < multiple
    assert torch.equal(padding.crop(padded), image)
    mask = torch.ones(height, width)
    assert padding.pad_mask(mask).sum() == height * width
    assert torch.equal(padding.crop(padding.pad_mask(mask)), mask)
    assert padding.is_trivial == (height % multiple == 0 and width % multiple == 0)


def test_padding_mirrors_the_edge_of_the_image() -> None:
    row = torch.tensor([[[[1.0, 2.0, 3.0, 4.0, 5.0]]]])
    assert Padding.of(1, 5, 4).pad_image(row)[0, 0, 0].tolist() == [1, 2, 3, 4, 5, 4, 3, 2]
    assert Padding.of(1, 5, 4).pad_image(row).shape == (1, 1, 4, 8)
    assert Padding.of(1, 2, 8).pad_image(row[..., :2])[0, 0, 3].tolist() == [1, 2, 2, 2, 2, 2, 2, 2]


def test_padding_refuses_what_has_another_size() -> None:
    padding = Padding.of(70, 90, 64)
    for call in (padding.pad_image, padding.pad_mask, padding.crop):
        with pytest.raises(ValueError, match="64, 64"):
            call(torch.zeros(1, 3, 64, 64))


def test_a_prior_is_padded_with_nothing_and_one_of_another_size_is_refused():
    framed = from_boxes({"cat": (60, 50, 70, 66)}, (66, 70)).padded(PADDING)
    assert framed.size == (72, 72)
    assert framed.mask("cat").sum() == 10 * 16
    with pytest.raises(ValueError, match="prior: its masks have 64x64 pixels, requires the image's 70x66"):
        from_boxes({"cat": (0, 0, 9, 9)}, (64, 64)).padded(PADDING)


def test_a_map_is_interpolated_between_the_centres_of_its_cells_and_cropped():
    values = torch.arange(9.0).expand(9, 9)
    shown = PADDING.map_to_pixels(values)
    assert shown.shape == (66, 70)
    # Cells are 8 pixels wide: the centre of cell c lies between pixels 8c + 3 and 8c + 4.
    assert torch.allclose((shown[:, 11] + shown[:, 12]) / 2, torch.ones(66))
    assert torch.allclose(shown[:, 12:60].diff(dim=1), torch.full((66, 47), 1 / 8), atol=1e-5)


def test_a_mask_of_cells_keeps_hard_edges_and_is_cropped():
    mask = torch.zeros(9, 9)
    mask[1, 8] = 1
    expected = torch.zeros(66, 70)
    expected[8:16, 64:70] = 1
    assert torch.equal(PADDING.mask_to_pixels(mask), expected)
