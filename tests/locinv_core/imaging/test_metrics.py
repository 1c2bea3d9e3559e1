"""Image metrics against hand calculations and torchmetrics; IoU curves against a slow count."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.functional.regression import mean_squared_error

from pinpoint.locinv_core.imaging.metrics import IOU_THRESHOLDS, best_iou, finite, iou_curve, mse, psnr, ssim


def images(seed: int = 0, size: tuple[int, int] = (40, 50), batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(batch, 3, *size, generator=generator)
    return a, (a + 0.1 * torch.randn(batch, 3, *size, generator=generator)).clamp(0, 1)


def left_half(size: tuple[int, int] = (40, 50)) -> Tensor:
    mask = torch.zeros(size)
    mask[:, : size[1] // 2] = 1
    return mask


def test_whole_images_agree_with_torchmetrics() -> None:
    a, b = images()
    assert mse(a, b) == pytest.approx(float(mean_squared_error(a.flatten(), b.flatten())), rel=1e-5)
    assert psnr(a, b) == pytest.approx(float(peak_signal_noise_ratio(a, b, data_range=1.0)), abs=1e-4)
    expected = float(structural_similarity_index_measure(a, b, data_range=1.0))  # type: ignore[arg-type]
    assert ssim(a, b) == pytest.approx(expected, abs=1e-5)


def test_a_known_difference_gives_the_known_decibels() -> None:
    a = torch.full((1, 3, 16, 16), 0.5)
    assert mse(a, a + 0.1) == pytest.approx(0.01, rel=1e-5)
    assert psnr(a, a + 0.1) == pytest.approx(20, abs=1e-4)


def test_only_counted_pixels_move_mse_and_psnr() -> None:
    a = torch.full((1, 3, 4, 4), 0.5)
    b = a.clone()
    b[:, :, 0, 0] += 0.4  # the one counted pixel that differs, of 4
    b[:, :, 3, 3] -= 0.5
    mask = torch.zeros(4, 4)
    mask[0] = 1
    assert mse(a, b, mask) == pytest.approx(0.16 / 4, rel=1e-5)
    assert psnr(a, b, mask) == pytest.approx(10 * math.log10(25), abs=1e-4)
    assert psnr(a, b, mask.bool()) == psnr(a, b, mask)


def test_a_fraction_in_the_mask_weighs() -> None:
    a = torch.zeros(1, 3, 1, 2)
    b = torch.tensor([0.2, 0.4]).expand(1, 3, 1, 2)
    assert mse(a, b, torch.tensor([[1.0, 0.5]])) == pytest.approx((0.04 + 0.5 * 0.16) / 1.5, rel=1e-5)


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
def test_a_mask_over_everything_changes_nothing(metric: Callable[..., float]) -> None:
    a, b = images()
    assert metric(a, b, torch.ones(40, 50)) == metric(a, b)


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
@pytest.mark.parametrize("mask", [left_half(), 1 - left_half(), left_half().flip(1).cummax(0).values])
def test_what_lies_outside_the_mask_cannot_move_a_metric(metric: Callable[..., float], mask: Tensor) -> None:
    a, b = images()
    altered = torch.where(mask > 0, b, 1 - b)
    assert metric(a, altered, mask) == metric(a, b, mask)


def test_an_untouched_background_scores_perfectly_beside_a_total_edit() -> None:
    a, _ = images()
    mask = left_half()
    edited = torch.where(mask > 0, a, torch.zeros_like(a))
    assert mse(a, edited, mask) == 0
    assert psnr(a, edited, mask) == math.inf
    assert ssim(a, edited, mask) == pytest.approx(1, abs=1e-9)
    assert ssim(a, edited) < 0.8


def test_masked_ssim_averages_the_map_of_torchmetrics_over_the_mask() -> None:
    """The images differ only in the mask, so filling in what lies outside changes nothing."""
    a, b = images()
    mask = left_half()
    b = torch.where(mask > 0, b, a)
    _, full = structural_similarity_index_measure(a, b, data_range=1.0, return_full_image=True)
    assert ssim(a, b, mask) == pytest.approx(float(full[..., :25].mean()), abs=1e-5)


def test_ssim_agrees_with_its_formula_worked_out_at_one_pixel() -> None:
    """One counted pixel: weighted means, variances and covariance under an 11x11 Gaussian, written out."""
    a, b = images(batch=1, size=(21, 21))
    mask = torch.zeros(21, 21)
    mask[5:16, 5:16] = 1  # all of the window around (10, 10), so that nothing in it is filled in
    steps = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-steps.square() / (2 * 1.5**2))
    window = torch.outer(line, line) / line.sum() ** 2
    x, y = a[0, :, 5:16, 5:16].double(), b[0, :, 5:16, 5:16].double()
    mean_x, mean_y = (window * x).sum((1, 2)), (window * y).sum((1, 2))
    var_x, var_y = (window * x * x).sum((1, 2)) - mean_x**2, (window * y * y).sum((1, 2)) - mean_y**2
    covariance = (window * x * y).sum((1, 2)) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)) / (
        (mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4)
    )
    weights = mask * 1e-9
    weights[10, 10] = 1
    assert ssim(a, b, weights) == pytest.approx(float(similarity.mean()), abs=1e-6)


def test_identical_images_have_infinite_psnr_that_json_writes_as_null() -> None:
    a, b = images()
    assert psnr(a, a) == math.inf and mse(a, a) == 0 and ssim(a, a) == pytest.approx(1, abs=1e-9)
    assert json.dumps({"psnr": finite(psnr(a, a))}, allow_nan=False) == '{"psnr": null}'
    assert finite(psnr(a, b)) == psnr(a, b)


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
def test_images_and_masks_that_do_not_fit_are_refused(metric: Callable[..., float]) -> None:
    a, b = images()
    with pytest.raises(ValueError, match="shapes"):
        metric(a, b[..., :-1])
    with pytest.raises(ValueError, match="mask has shape"):
        metric(a, b, torch.ones(50, 40))
    with pytest.raises(ValueError, match="no pixel"):
        metric(a, b, torch.zeros(40, 50))
    with pytest.raises(ValueError, match="0 to 1"):
        metric(a, b, torch.full((40, 50), 2.0))


def test_images_smaller_than_the_ssim_window_are_refused() -> None:
    with pytest.raises(ValueError, match="11"):
        ssim(torch.zeros(1, 3, 10, 40), torch.zeros(1, 3, 10, 40))


def test_half_precision_images_are_measured_in_full() -> None:
    a = torch.full((1, 3, 64, 64), 0.5, dtype=torch.bfloat16)
    assert mse(a, torch.full_like(a, 0.25)) == 0.0625


def test_iou_of_a_map_at_the_masks_size_is_counted_by_hand() -> None:
    attention = torch.tensor([[1.0, 0.8, 0.6, 0.4]]) * 0.02
    mask = torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    assert iou_curve(attention, mask, (0.3, 0.5, 0.7, 0.9)).tolist() == pytest.approx([0.5, 2 / 3, 1.0, 0.5])
    assert best_iou(attention, mask, (0.3, 0.5, 0.7, 0.9)) == 1
    assert best_iou(attention, mask, (0.3, 0.9)) == 0.5


def test_the_thresholds_are_the_nineteen_of_the_report() -> None:
    assert len(IOU_THRESHOLDS) == 19 and IOU_THRESHOLDS[0] == 0.05 and IOU_THRESHOLDS[-1] == 0.95
    assert iou_curve(torch.rand(4, 4), torch.ones(8, 8)).shape == (19,)


@settings(max_examples=25)
@given(st.integers(0, 10_000))
def test_iou_agrees_with_a_slow_count_over_pixels(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    attention = torch.rand(3, 4, generator=generator)
    mask = (torch.rand(6, 8, generator=generator) > 0.6).float()
    mask[0, 0] = 1
    full = torch.nn.Upsample(size=(6, 8), mode="bilinear")(attention[None, None].double())[0, 0]
    for threshold, value in zip((0.25, 0.5, 0.75), iou_curve(attention, mask, (0.25, 0.5, 0.75)), strict=True):
        both = either = 0
        for y in range(6):
            for x in range(8):
                hit, wanted = bool(full[y, x] >= threshold * full.max()), bool(mask[y, x])
                both, either = both + (hit and wanted), either + (hit or wanted)
        assert float(value) == pytest.approx(both / either)


def test_a_flat_map_scores_the_masks_share_of_the_image() -> None:
    mask = torch.zeros(32, 32)
    mask[:8] = 1
    assert iou_curve(torch.full((4, 4), 0.01), mask).tolist() == pytest.approx([0.25] * 19)
    assert best_iou(torch.full((4, 4), 0.01), torch.ones(32, 32)) == 1


def test_a_map_of_zeros_finds_nothing() -> None:
    assert iou_curve(torch.zeros(4, 4), torch.ones(8, 8)).tolist() == [0.0] * 19


def test_maps_and_masks_without_a_meaning_are_refused() -> None:
    with pytest.raises(ValueError, match="empty"):
        iou_curve(torch.rand(4, 4), torch.zeros(8, 8))
    for bad in (torch.full((4, 4), float("nan")), torch.full((4, 4), -0.1)):
        with pytest.raises(ValueError, match="negative or non-finite"):
            iou_curve(bad, torch.ones(8, 8))
    with pytest.raises(ValueError, match="must be"):
        iou_curve(torch.rand(1, 4, 4), torch.ones(8, 8))
