"""Priors from arrays and boxes, on any grid and of several words, against slow area means."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pinpoint.locinv_core.localization.priors import LocalizationPrior, from_boxes, from_masks, merge
from pinpoint.tests.fixtures.clip_text import prompt
from pinpoint.tests.fixtures.drawn_prior import DRAWN, SIZE, drawn


@pytest.mark.parametrize(
    "given_mask",
    [
        DRAWN,
        torch.from_numpy(DRAWN),
        DRAWN.astype(np.uint8),
        DRAWN.astype(np.uint8) * 255,
        np.where(DRAWN, 128, 127).astype(np.uint8),
        np.where(DRAWN, 40000, 20000).astype(np.int32),
        np.where(DRAWN, 0.5, 0.49),
        np.where(DRAWN, 100, 0).astype(np.uint8),
        np.where(DRAWN, 1.000001, -0.01),
        np.where(DRAWN, 1.12, -0.12),
        drawn()[None].half(),
        drawn()[None, None],
        np.asfortranarray(DRAWN[::-1])[::-1],
    ],
    ids="bool tensor 0/1 0/255 half 16-bit float 100-of-255 rounding bicubic (1,H,W) (1,1,H,W) strided".split(),
)
def test_every_form_of_mask_gives_the_drawn_one(given_mask: np.ndarray | torch.Tensor) -> None:
    prior = from_masks({"Cat": given_mask}, size=SIZE)
    assert (prior.words, prior.size, prior.kind) == (("cat",), SIZE, "segment")
    assert torch.equal(prior.mask("CAT"), drawn())
    assert prior.mask("cat").dtype == torch.float32


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros(SIZE), "'cat' is empty"),
        (np.zeros(SIZE, dtype=bool), "'cat' is empty"),
        (np.full(SIZE, 0.4), "'cat' is empty"),
        (np.full(SIZE, 1.5), "values from 1.5 to 1.5: require 0 to 1"),
        (np.full(SIZE, np.nan), "values from nan to nan"),
        (np.where(DRAWN, 255.0, 0), "values from 0 to 255: require 0 to 1"),
        (np.where(DRAWN, 1, 2), "is a label map with the ids 1, 2: require one of them"),
        (np.full(SIZE, -1), "values from -1 to -1: require 0 to 1, 255 or 65535"),
        (np.ones((6, 8, 3)), r"has shape (6, 8, 3): require (H, W)"),
        (np.ones(6), r"has shape (6,): require (H, W)"),
        (np.ones((0, 8)), r"has shape (0, 8)"),
    ],
)
def test_what_is_no_mask_is_refused(mask: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        from_masks({"cat": mask})


def test_a_mask_of_another_size_than_the_image_is_refused_with_both_sizes() -> None:
    with pytest.raises(ValueError, match=r"'cat' is 8×6 .* and the image is 10×6"):
        from_masks({"cat": DRAWN}, size=(6, 10))


def test_masks_of_different_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"8×6 .* and 6×8"):
        from_masks({"cat": DRAWN, "dog": DRAWN.T})


def test_a_prior_without_words_is_refused() -> None:
    for make in (
        lambda: from_masks({}),
        lambda: from_boxes({}, SIZE),
        lambda: merge(),
        lambda: LocalizationPrior({}, {}),
    ):
        with pytest.raises(ValueError, match="at least one"):
            make()
    with pytest.raises(ValueError, match="prior word is empty"):
        from_masks({"  ": DRAWN})


@pytest.mark.parametrize(
    ("masks", "kinds", "message"),
    [
        ({"cat": drawn() / 2}, {"cat": "segment"}, "float32 of 0 and 1"),
        ({"cat": drawn().double()}, {"cat": "segment"}, "float32 of 0 and 1"),
        ({"cat": drawn()}, {"dog": "segment"}, "the same words"),
        ({"cat": drawn()}, {"cat": "circle"}, "'circle'"),
        ({"Cat": drawn()}, {"Cat": "segment"}, "must be written 'cat'"),
        ({"cat": drawn(), "dog": drawn().T}, {"cat": "segment", "dog": "segment"}, "differ in size"),
    ],
)
def test_the_dataclass_itself_holds_only_valid_masks(masks: dict, kinds: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalizationPrior(masks, kinds)


def test_a_box_covers_its_pixels_and_its_last_edge_is_exclusive() -> None:
    prior = from_boxes({"cat": (2, 1, 7, 4)}, SIZE)
    assert torch.equal(prior.mask("cat"), drawn())
    assert prior.kind == "detection"


def test_fractions_of_a_box_are_rounded_outwards() -> None:
    assert torch.equal(from_boxes({"cat": (2.9, 1.1, 6.1, 3.5)}, SIZE).mask("cat"), drawn())
    assert from_boxes({"cat": (1.2, 0, 1.4, 0.1)}, SIZE).union().sum() == 1


def test_what_leaves_the_image_by_less_than_a_pixel_is_cut_off() -> None:
    expected = from_boxes({"cat": (2, 1, 8, 6)}, SIZE).union()
    assert torch.equal(from_boxes({"cat": (2, 1, 8.3, 6.99)}, SIZE).union(), expected)
    assert from_boxes({"cat": (-0.7, -0.2, 8, 6)}, SIZE).union().all()


def test_several_boxes_of_a_word_are_joined() -> None:
    expected = torch.zeros(SIZE)
    expected[0, 0] = expected[5, 7] = 1
    for boxes in (
        [(0, 0, 1, 1), (7, 5, 8, 6)],
        np.array([[0, 0, 1, 1], [7, 5, 8, 6]]),
        torch.tensor([[0, 0, 1, 1], [7, 5, 8, 6]]),
    ):
        assert torch.equal(from_boxes({"cat": boxes}, SIZE).mask("cat"), expected)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((0, 0, 9, 6), "leaves the image, which is 8×6"),
        ((-1, 0, 8, 6), "leaves the image"),
        ((0, 0, 8, 7.5), "leaves the image"),
        ((8.1, 0, 8.9, 6), "lies outside the image"),
        ((0.6, 0.26, 0.94, 0.6), "require pixels; shares .* in percent, 60,26,94,60%"),
        ((0, 0, 1, 0.5), "in percent, 0,0,100,50%"),
        ((3, 1, 3, 4), "has no area"),
        ((5, 4, 2, 1), "has no area"),
        ((0, 0, float("nan"), 6), "finite"),
        ((0, 0, float("inf"), 6), "finite"),
        ((0, 0, 8), "four numbers"),
        ([], "four numbers"),
        ("0,0,8,6", "four numbers"),
        ([(0, 0, 8, 6), (1, 2)], "four numbers"),
    ],
)
def test_what_is_no_box_in_the_image_is_refused(box: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"box of 'cat'.*{message}"):
        from_boxes({"cat": box}, SIZE)


@given(st.tuples(st.floats(0, 8), st.floats(0, 6), st.floats(0, 8), st.floats(0, 6)))
def test_a_box_covers_just_the_pixels_that_it_touches(box: tuple[float, float, float, float]) -> None:
    x0, x1 = sorted((box[0], box[2]))
    y0, y1 = sorted((box[1], box[3]))
    if x0 == x1 or y0 == y1 or max(x1, y1) <= 1:
        return
    mask = from_boxes({"cat": (x0, y0, x1, y1)}, SIZE).mask("cat")
    for y in range(6):
        for x in range(8):
            touched = x < x1 and x + 1 > x0 and y < y1 and y + 1 > y0
            assert bool(mask[y, x]) == touched


def slow_area_mean(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Every cell by itself, in whole fractions of a pixel."""
    rows, columns = mask.shape
    grid = np.zeros((height, width))
    for i in range(height):
        for j in range(width):
            top, bottom = Fraction(i * rows, height), Fraction((i + 1) * rows, height)
            left, right = Fraction(j * columns, width), Fraction((j + 1) * columns, width)
            covered = Fraction(0)
            for y in range(rows):
                for x in range(columns):
                    if mask[y, x]:
                        down = max(Fraction(0), min(bottom, Fraction(y + 1)) - max(top, Fraction(y)))
                        across = max(Fraction(0), min(right, Fraction(x + 1)) - max(left, Fraction(x)))
                        covered += down * across
            grid[i, j] = float(covered / ((bottom - top) * (right - left)))
    return grid


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 7), st.integers(1, 7), st.integers(0, 2**32 - 1))
def test_a_grid_cell_is_the_part_of_its_area_inside(
    rows: int, columns: int, height: int, width: int, seed: int
) -> None:
    mask = np.random.default_rng(seed).random((rows, columns)) < 0.5
    mask[0, 0] = True
    grid = from_masks({"cat": mask}).resample("cat", (height, width))
    assert grid.dtype == torch.float32
    np.testing.assert_allclose(grid.numpy(), slow_area_mean(mask, height, width), atol=1e-6)
    assert float(grid.mean()) == pytest.approx(float(mask.mean()), abs=1e-6)


def test_whole_cells_are_torchs_area_mean() -> None:
    mask = torch.from_numpy(np.random.default_rng(1).random((64, 96)) < 0.3).float()
    expected = torch.nn.functional.interpolate(mask[None, None], size=(16, 24), mode="area")[0, 0]
    torch.testing.assert_close(from_masks({"cat": mask}).resample("cat", (16, 24)), expected)


def test_a_grid_for_a_word_without_a_mask_is_refused() -> None:
    prior = from_masks({"cat": DRAWN, "mat": DRAWN})
    with pytest.raises(ValueError, match="no mask for 'dog'; it has masks for: cat, mat"):
        prior.resample("dog", (2, 2))
    with pytest.raises(ValueError, match="0×2"):
        prior.resample("cat", (0, 2))


def test_priors_are_merged_and_the_same_word_gets_the_union() -> None:
    left, right = from_boxes({"cat": (0, 0, 4, 6)}, SIZE), from_masks({"Cat": DRAWN, "dog": DRAWN})
    both = merge(left, right)
    expected = drawn()
    expected[:, :4] = 1
    assert both.words == ("cat", "dog")
    assert torch.equal(both.mask("cat"), expected)
    assert torch.equal(both.mask("dog"), drawn())
    assert (both.kinds["cat"], both.kinds["dog"], both.kind) == ("detection", "segment", "detection")
    assert torch.equal(both.union(), expected)
    assert torch.equal(left.mask("cat").sum(), torch.tensor(24.0))


def test_capitals_spaces_and_number_one_name_the_same_word() -> None:
    prior = merge(*(from_masks({name: DRAWN}) for name in ("mountain lion", " Mountain  Lion", "mountain lion#1")))
    assert prior.words == ("mountain lion",)


def test_priors_of_different_sizes_do_not_merge() -> None:
    with pytest.raises(ValueError, match=r"priors differ in size: 8×6 .* and 6×8"):
        merge(from_masks({"cat": DRAWN}), from_masks({"dog": DRAWN.T}))


def test_a_prior_knows_its_words_in_the_prompt() -> None:
    prior = from_masks({"cat#2": DRAWN, "mountain lion": DRAWN, "CAT": DRAWN})
    found = prior.check_against(prompt("A cat, a cat and a mountain lion"))
    assert {word: place.tokens for word, place in found.items()} == {
        "cat#2": (5,),
        "mountain lion": (8, 9),
        "cat": (2,),
    }


def test_a_prior_for_a_word_that_is_not_in_the_prompt_is_refused_with_the_words_that_are() -> None:
    with pytest.raises(ValueError, match=r"prior: word 'dog' is not in the prompt .*: a, red, cat$"):
        from_masks({"cat": DRAWN, "dog": DRAWN}).check_against(prompt("a red cat"))
