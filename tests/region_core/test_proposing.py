"""Proposals straight from what a ViT saw: which anchors they stand around, and the paper's baselines."""

from __future__ import annotations

import pytest
import torch

from pinpoint.region_core.encoders.vit import PatchFeatures
from pinpoint.region_core.proposing import anchoring, propose_regions


def seen() -> PatchFeatures:
    """An image of 48 x 32 pixels in patches of 8; [CLS] attends to (1, 1), then its right, then (3, 4)."""
    attention = torch.zeros(4, 6)
    attention[1, 1], attention[1, 2], attention[3, 4] = 0.5, 0.3, 0.2
    return PatchFeatures(attention=attention, features=torch.zeros(2, 4, 6), patch=8, size=(32, 48))


def test_boxes_stand_around_what_is_attended_to_far_apart_unless_told() -> None:
    assert propose_regions(seen(), k=2, m=1, smoothing=1).anchors.tolist() == [[1, 1], [3, 4]]
    assert propose_regions(seen(), k=2, m=1, smoothing=1, min_distance=0).anchors.tolist() == [[1, 1], [1, 2]]


def test_smoothed_attention_puts_an_anchor_in_the_middle() -> None:
    # A ring around (2, 2), brightest in a corner of it: nothing in the middle, which the ring's mean is of.
    ring = torch.zeros(5, 6)
    ring[1:4, 1:4] = 0.1
    ring[2, 2], ring[1, 1] = 0.0, 0.15
    features = PatchFeatures(attention=ring, features=torch.zeros(2, 5, 6), patch=8, size=(40, 48))
    assert propose_regions(features, k=1, m=1, smoothing=1).anchors.tolist() == [[1, 1]]
    assert propose_regions(features, k=1, m=1, smoothing=3).anchors.tolist() == [[2, 2]]
    with pytest.raises(ValueError, match="smoothing: got 4, requires an odd number"):
        propose_regions(features, k=1, m=1, smoothing=4)


def test_a_learned_box_is_the_anchors_patch_and_one_more_on_every_side() -> None:
    # Patch (3, 4) is x 32–40, y 24–32; one more on every side is 24–48 and 16–40; the image ends at 32.
    assert propose_regions(seen(), k=2, m=1, smoothing=1).pixel_boxes() == [
        [(0, 0, 24, 24)],
        [(24, 16, 48, 32)],
    ]


def test_random_sizes_are_one_box_an_anchor_and_follow_the_seed() -> None:
    first, again, other = (propose_regions(seen(), k=2, m=3, sizes="random", seed=seed) for seed in (5, 5, 6))
    assert (first.k, first.m) == (2, 1)
    assert torch.equal(first.boxes, again.boxes) and not torch.equal(first.boxes, other.boxes)


def test_random_anchors_follow_the_seed_and_not_the_attention() -> None:
    draws = [propose_regions(seen(), anchors="random", k=3, m=1, seed=seed).anchors for seed in range(20)]
    assert torch.equal(draws[0], propose_regions(seen(), anchors="random", k=3, m=1, seed=0).anchors)
    assert {tuple(anchor) for anchors in draws for anchor in anchors.tolist()} == {
        (row, column) for row in range(4) for column in range(6)
    }


def test_anchors_of_no_known_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="anchors: got 'middle', requires one of dino, random"):
        propose_regions(seen(), anchors="middle")  # type: ignore[arg-type]


def test_anchors_are_in_the_middle_of_objects_where_a_place_is_known_and_there_is_room() -> None:
    wide = PatchFeatures(torch.rand(16, 16), torch.rand(3, 16, 16), 8, (128, 128))
    assert anchoring(wide, 8, None, None, placed=False) == (2.0, 1)
    assert anchoring(wide, 8, None, None, placed=True) == (3.5, 5)
    assert anchoring(wide, 8, 1.0, None, placed=True) == (1.0, 5)
    assert anchoring(wide, 8, None, 3, placed=True) == (3.5, 3)
    small = PatchFeatures(torch.rand(6, 6), torch.rand(3, 6, 6), 8, (48, 48))
    assert anchoring(small, 8, None, None, placed=True) == (2.0, 1)  # 3.5 apart there is room for four
