"""Regions that an edit keeps to: fits by hand, and which boxes are considered."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pinpoint.region_core.proposals import RegionProposals
from pinpoint.region_core.search.base import BoxSearch
from pinpoint.region_core.search.box_prior import anchors_in_region, box_around, considered, region_fits, region_prior

BOXES = [[(0, 0, 4, 4), (0, 0, 8, 8)], [(8, 8, 16, 16), (4, 4, 16, 16)], [(2, 0, 6, 4), (0, 0, 16, 16)]]


def proposals() -> RegionProposals:
    anchors = torch.tensor([(0, 0), (2, 2), (0, 1)])
    return RegionProposals(anchors, torch.tensor(BOXES).float(), (4, 4), 4, (16, 16))


def region(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    mask = torch.zeros(16, 16)
    mask[y0:y1, x0:x1] = 1
    return mask


def test_a_box_fits_a_place_by_what_it_covers_misses_and_has_beyond() -> None:
    fits = region_fits(proposals(), region(0, 0, 4, 4))
    # all 16 and no more, 48 more; nothing; 8, with 8 missed and 8 more; all, and 240 more
    expected = torch.tensor([[1, 16 / (16 + 48 / 4)], [0, 0], [8 / (8 + 2 * 8 + 8 / 4), 16 / (16 + 240 / 4)]])
    torch.testing.assert_close(fits, expected)


def test_a_soft_place_counts_by_its_weight() -> None:
    fits = region_fits(proposals(), 0.5 * region(0, 0, 4, 4))
    assert float(fits[0, 0]) == pytest.approx(8 / (8 + 8 / 4))  # 8 inside; 16 - 8 beyond


def test_boxes_nearly_as_near_as_the_best_are_considered_and_the_best_of_every_other_anchor() -> None:
    fits = torch.tensor([[0.6, 0.5, 0.52], [0.1, 0.2, 0.0], [0.5, 0.515, 0.1]])
    assert anchors_in_region(fits).tolist() == [True, False, True]
    assert considered(fits).tolist() == [
        [True, False, True],
        [False, True, False],
        [False, True, False],
    ]


def test_before_any_edit_a_box_has_what_its_place_adds_to_its_loss() -> None:
    known = region_prior(proposals(), region(0, 0, 4, 4))
    torch.testing.assert_close(known.added, torch.tensor([[0, 3 / 7], [1, 1], [9 / 13, 15 / 19]]))
    assert known.considered.tolist() == [[True, False], [True, False], [True, False]]
    assert known.in_region == (True, False, False) and known.region_box == (0, 0, 4, 4)


def test_the_box_around_a_place_holds_what_is_at_least_half_as_much_in_it_and_an_eighth_more() -> None:
    soft = torch.zeros(40, 60)
    soft[10, 20], soft[20:26, 43], soft[39, 0] = 0.4, 0.8, 0.39
    # 24 wide and 16 high: 3 and 2 more on each side.
    assert box_around(soft) == (17, 8, 47, 28)


def test_the_box_around_a_place_does_not_leave_the_image() -> None:
    assert box_around(torch.ones(40, 60)) == (0, 0, 60, 40)


def test_without_a_place_all_boxes_are_in_play_and_nothing_is_added() -> None:
    known = BoxSearch().prior(proposals())
    assert bool(known.considered.all()) and not bool(known.added.any())
    assert known.in_region is None and known.region_box is None


def test_a_place_that_is_empty_or_of_another_image_is_refused() -> None:
    with pytest.raises(ValueError, match="region_mask: got an empty mask"):
        region_fits(proposals(), torch.zeros(16, 16))
    with pytest.raises(ValueError, match=r"region_mask: got the shape \(8, 16\), requires \(16, 16\)"):
        region_fits(proposals(), torch.ones(8, 16))
