"""Anchors: the top of the attention, with or without a distance between them, and random ones."""

from __future__ import annotations

import pytest
import torch

from pinpoint.region_core.anchors import dino_anchors, random_anchors, smoothed

ATTENTION = torch.tensor(
    [
        [0.1, 0.9, 0.8, 0.0],
        [0.0, 0.7, 0.2, 0.0],
        [0.0, 0.0, 0.0, 0.6],
    ]
)


def test_anchors_are_the_patches_of_most_attention_strongest_first() -> None:
    assert dino_anchors(ATTENTION, 4).tolist() == [[0, 1], [0, 2], [1, 1], [2, 3]]


def test_a_minimum_distance_passes_over_neighbours() -> None:
    # From (0, 1), both (0, 2) and (1, 1) are 1 patch away; (2, 3) is √8, (1, 2) is √2.
    assert dino_anchors(ATTENTION, 2, min_distance=2).tolist() == [[0, 1], [2, 3]]
    assert dino_anchors(ATTENTION, 2, min_distance=1.4).tolist() == [[0, 1], [2, 3]]
    assert dino_anchors(ATTENTION, 3, min_distance=1).tolist() == [[0, 1], [0, 2], [1, 1]]


def test_ties_go_to_the_upper_and_left_patch() -> None:
    assert dino_anchors(torch.ones(2, 3), 4).tolist() == [[0, 0], [0, 1], [0, 2], [1, 0]]


def test_as_many_anchors_as_patches_can_be_had_and_no_more() -> None:
    assert len(dino_anchors(ATTENTION, 12)) == 12
    for count in (0, 13):
        with pytest.raises(ValueError, match=rf"k: got {count} anchors, requires 1 to 12"):
            dino_anchors(ATTENTION, count)
        with pytest.raises(ValueError, match=rf"k: got {count} anchors, requires 1 to 12"):
            random_anchors((3, 4), count)


def test_more_anchors_than_there_is_room_for_at_their_distance_are_refused() -> None:
    with pytest.raises(ValueError, match=r"k: got 3 anchors at least 2.5 patches apart.* room for 2"):
        dino_anchors(ATTENTION, 3, min_distance=2.5)


@pytest.mark.parametrize("attention", [torch.zeros(3), torch.full((2, 2), torch.nan)])
def test_a_map_that_is_none_is_refused(attention: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="attention: got the shape"):
        dino_anchors(attention, 1)


def test_a_distance_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="min_distance: got -1"):
        dino_anchors(ATTENTION, 1, min_distance=-1)


def test_random_anchors_are_different_patches_inside_the_grid_and_follow_their_seed() -> None:
    anchors = random_anchors((5, 7), 20, seed=3)
    assert anchors.shape == (20, 2) and anchors.dtype == torch.long
    assert len({tuple(a) for a in anchors.tolist()}) == 20
    assert all(0 <= row < 5 and 0 <= column < 7 for row, column in anchors.tolist())
    assert torch.equal(anchors, random_anchors((5, 7), 20, seed=3))
    assert not torch.equal(anchors, random_anchors((5, 7), 20, seed=4))


def test_random_anchors_are_spread_evenly() -> None:
    hits = torch.zeros(4, 4)
    for seed in range(800):
        row, column = random_anchors((4, 4), 1, seed)[0].tolist()
        hits[row, column] += 1
    # 50 expected each, deviation √(800·1/16·15/16) = 6.8.
    assert bool(((hits > 20) & (hits < 80)).all())


def test_smoothed_attention_is_the_mean_of_what_lies_around() -> None:
    attention = torch.arange(12.0).reshape(3, 4)
    # Around (1, 1) lie 0 1 2, 4 5 6, 8 9 10; around the corner 0 1, 4 5 and five places beyond the edges.
    means = smoothed(attention, 3)
    assert means.shape == (3, 4)
    assert means[1, 1].item() == pytest.approx(45 / 9) and means[0, 0].item() == pytest.approx(10 / 9)
    assert torch.equal(smoothed(attention, 1), attention)
    for side in (0, 2, -1):
        with pytest.raises(ValueError, match=f"smoothing: got {side}, requires an odd number"):
            smoothed(attention, side)
