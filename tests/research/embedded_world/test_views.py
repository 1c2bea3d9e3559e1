"""What the views of training images show, and where they are taken."""

from __future__ import annotations

import pytest
import torch

from pinpoint.research.embedded_world.scenes.views import look, mirrored, softened, toned, windows_on_objects


def noise_images(count: int = 3, side: int = 32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, side, side), generator=generator, dtype=torch.uint8)


def test_a_window_of_the_views_own_size_is_cut_out_and_not_resampled() -> None:
    pictures = noise_images()
    windows = torch.tensor([[0.0, 0.0, 16.0, 16.0], [5.0, 9.0, 21.0, 25.0], [16.0, 16.0, 32.0, 32.0]])
    seen = look(pictures, windows, 16)
    for k, (x, y) in enumerate(((0, 0), (5, 9), (16, 16))):
        torch.testing.assert_close(seen[k], pictures[k, :, y : y + 16, x : x + 16].float() / 255)


def test_an_oblong_window_fills_the_square() -> None:
    image = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    image[:, :, :16] = 255  # the upper half is white
    seen = look(image, torch.tensor([[4.0, 8.0, 28.0, 24.0]]), 16)
    assert seen[0, :, :7].min() == 1
    assert seen[0, :, 9:].max() == 0


def test_only_the_chosen_images_are_mirrored() -> None:
    images = noise_images(2).float()
    turned = mirrored(images, torch.tensor([False, True]))
    assert torch.equal(turned[0], images[0])
    assert torch.equal(turned[1], images[1].flip(2))


def test_softening_by_nothing_changes_nothing_and_keeps_the_mean_of_a_flat_image() -> None:
    images = noise_images(2).float() / 255
    assert torch.equal(softened(images, torch.zeros(2)), images)
    fine = torch.zeros(1, 3, 8, 8)
    fine[..., ::2] = 1  # stripes a pixel wide are gone at half the resolution
    torch.testing.assert_close(softened(fine, torch.ones(1)), torch.full_like(fine, 0.5))


def test_tones_are_multiplied_shifted_and_kept_in_range() -> None:
    images = torch.full((1, 3, 2, 2), 0.5)
    made = toned(images, torch.tensor([[1.0, 0.5, 3.0]]), torch.tensor([[0.1, 0.0, 0.0]]))
    assert made[0, :, 0, 0].tolist() == pytest.approx([0.6, 0.25, 1.0])


def test_windows_lie_inside_the_image_around_the_place_where_objects_show() -> None:
    shown = torch.zeros(50, 4, 4)
    shown[:, 2, 1] = 1
    rng = torch.Generator().manual_seed(0)
    windows, centres = windows_on_objects(shown, 3, (10.0, 20.0), 4.0, rng, size=64)
    assert windows.shape == (150, 4)
    assert windows.min() >= 0 and windows.max() <= 64
    sides = windows[:, 2:] - windows[:, :2]
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    assert sides.min() >= 10 and sides.max() <= 20
    assert ((centres >= torch.tensor([16.0, 32.0])) & (centres <= torch.tensor([32.0, 48.0]))).all()
    off = (windows[:, :2] + windows[:, 2:]) / 2 - centres.repeat_interleave(3, dim=0)
    assert off.abs().max() <= 4 + 1e-4  # here no window has to be moved inside


def test_known_places_are_taken_as_they_are() -> None:
    places = torch.tensor([[60.0, 3.0]])
    windows, centres = windows_on_objects(
        torch.ones(1, 4, 4), 2, (16.0, 16.0), 0.0, torch.Generator(), size=64, centres=places
    )
    assert torch.equal(centres, places)
    assert windows.tolist() == [[48.0, 0.0, 64.0, 16.0]] * 2
