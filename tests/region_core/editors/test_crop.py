"""Windows around masks: where they lie, what they show, and how an edit comes back from one."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from pinpoint.region_core.editors.crop import Window, check_window, seen_through, windows_around


def boxed(top: int, bottom: int, left: int, right: int, height: int = 100, width: int = 200) -> Tensor:
    mask = torch.zeros(height, width)
    mask[top:bottom, left:right] = 1
    return mask


@pytest.mark.parametrize(
    ("mask", "factor", "window"),
    [
        # 40 of 100 rows times 1.5 is 0.6 of each side: 60 x 120, in the middle of the mask.
        (boxed(30, 70, 80, 120), 1.5, (20, 80, 40, 160)),
        # At the image's corner it lies against both edges.
        (boxed(0, 40, 160, 200), 1.5, (0, 60, 80, 200)),
        # The side that takes more of the image says how large it is: 100 of 200 columns.
        (boxed(45, 55, 50, 150), 1.5, (12, 87, 25, 175)),
        # Never more than the image, and never less than a quarter of it.
        (boxed(10, 90, 10, 30), 1.5, (0, 100, 0, 200)),
        (boxed(50, 51, 100, 101), 1.5, (38, 63, 75, 125)),
        (boxed(30, 70, 80, 160), 1.0, (30, 70, 80, 160)),
    ],
)
def test_a_window_has_the_images_shape_and_the_mask_in_its_middle(
    mask: Tensor, factor: float, window: tuple[int, int, int, int]
) -> None:
    assert windows_around(mask[None, None], factor) == [Window(*window)]


def test_what_a_window_shows_is_enlarged_as_pillow_does_it() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
    mask = boxed(16, 32, 24, 48, 64, 96)
    (window,) = windows_around(mask[None, None], 2.0)
    images, inside = seen_through([window], image, mask[None, None])

    cut = Image.fromarray(pixels).crop((window.left, window.top, window.right, window.bottom))
    theirs = np.asarray(cut.resize((96, 64), Image.Resampling.BICUBIC), dtype=np.float32) / 255
    # Pillow works in 8 bits and its cubic has another slope: near, not equal.
    assert np.abs(images[0].permute(1, 2, 0).numpy() - theirs).mean() < 0.02
    assert set(inside.unique().tolist()) == {0.0, 1.0}
    # The mask is half as long as the window on each side, so a quarter of what is seen.
    assert inside.mean().item() == pytest.approx(0.25, abs=0.02)


def test_an_edit_comes_back_to_its_place_and_the_rest_is_the_image() -> None:
    image = torch.full((1, 3, 64, 64), 0.25)
    window = Window(8, 40, 16, 48)
    edited = torch.full((1, 3, 64, 64), 0.75)
    whole = window.put_back(edited, image)
    torch.testing.assert_close(whole[..., 8:40, 16:48], torch.full((1, 3, 32, 32), 0.75))
    whole[..., 8:40, 16:48] = 0.25
    assert torch.equal(whole, image)


def test_a_smooth_image_survives_the_way_there_and_back() -> None:
    down, across = torch.meshgrid(torch.linspace(0, 3, 64), torch.linspace(0, 3, 64), indexing="ij")
    image = torch.stack([0.5 + 0.4 * torch.sin(down), 0.5 + 0.4 * torch.cos(across), down / 3])[None]
    window = Window(8, 40, 16, 48)
    back = window.put_back(window.enlarged(image), image)
    assert (back - image).abs().max() < 0.02


@pytest.mark.parametrize("factor", [0.0, 0.99, -1.0, math.nan, math.inf])
def test_a_window_smaller_than_its_mask_is_refused(factor: float) -> None:
    with pytest.raises(ValueError, match="window: got"):
        check_window(factor)


def test_the_refusal_of_a_window_says_how_users_ask_for_the_whole_image() -> None:
    with pytest.raises(ValueError, match=r"got 0\.5, requires a number of at least 1, or for the whole image 0"):
        check_window(0.5)
