"""Anchors: the top of the attention, with or without a distance between them, and random ones."""

from __future__ import annotations

import pytest
import torch

from pinpoint.region_core.anchors import (
    ProposalSettings,
    dino_anchors,
    propose_regions,
    random_anchors,
    smoothed,
    spaced,
)
from pinpoint.region_core.encoders.vit import PatchFeatures

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


# Proposals from what a ViT gives


def seen() -> PatchFeatures:
    """An image of 48 x 32 pixels in patches of 8; [CLS] attends to (1, 1), then its right, then (3, 4)."""
    attention = torch.zeros(4, 6)
    attention[1, 1], attention[1, 2], attention[3, 4] = 0.5, 0.3, 0.2
    return PatchFeatures(attention=attention, features=torch.zeros(2, 4, 6), patch=8, size=(32, 48))


def test_boxes_stand_around_what_is_attended_to_far_apart_unless_told() -> None:
    assert propose_regions(seen(), ProposalSettings(k=2, m=1, smoothing=1)).anchors.tolist() == [[1, 1], [3, 4]]
    assert propose_regions(seen(), ProposalSettings(k=2, m=1, smoothing=1, min_distance=0)).anchors.tolist() == [
        [1, 1],
        [1, 2],
    ]


def test_smoothed_attention_puts_an_anchor_in_the_middle() -> None:
    # A ring around (2, 2), brightest in a corner of it: nothing in the middle, which the ring's mean is of.
    ring = torch.zeros(5, 6)
    ring[1:4, 1:4] = 0.1
    ring[2, 2], ring[1, 1] = 0.0, 0.15
    features = PatchFeatures(attention=ring, features=torch.zeros(2, 5, 6), patch=8, size=(40, 48))
    assert propose_regions(features, ProposalSettings(k=1, m=1, smoothing=1)).anchors.tolist() == [[1, 1]]
    assert propose_regions(features, ProposalSettings(k=1, m=1, smoothing=3)).anchors.tolist() == [[2, 2]]
    with pytest.raises(ValueError, match="smoothing: got 4, requires an odd number"):
        propose_regions(features, ProposalSettings(k=1, m=1, smoothing=4))


def test_a_learned_box_is_the_anchors_patch_and_one_more_on_every_side() -> None:
    # Patch (3, 4) is x 32–40, y 24–32; one more on every side is 24–48 and 16–40; the image ends at 32.
    assert propose_regions(seen(), ProposalSettings(k=2, m=1, smoothing=1)).pixel_boxes() == [
        [(0, 0, 24, 24)],
        [(24, 16, 48, 32)],
    ]


def test_random_sizes_are_one_box_an_anchor_and_follow_the_seed() -> None:
    first, again, other = (
        propose_regions(seen(), ProposalSettings(k=2, m=3, sizes="random", seed=seed)) for seed in (5, 5, 6)
    )
    assert (first.k, first.m) == (2, 1)
    assert torch.equal(first.boxes, again.boxes) and not torch.equal(first.boxes, other.boxes)


def test_random_anchors_follow_the_seed_and_not_the_attention() -> None:
    draws = [
        propose_regions(seen(), ProposalSettings(anchors="random", k=3, m=1, seed=seed)).anchors for seed in range(20)
    ]
    assert torch.equal(draws[0], propose_regions(seen(), ProposalSettings(anchors="random", k=3, m=1, seed=0)).anchors)
    assert {tuple(anchor) for anchors in draws for anchor in anchors.tolist()} == {
        (row, column) for row in range(4) for column in range(6)
    }


def test_choices_of_no_known_kind_are_refused() -> None:
    for name, known in (("anchors", "dino, random"), ("sizes", "learned, random")):
        with pytest.raises(ValueError, match=f"{name}: got 'middle', requires one of {known}"):
            ProposalSettings(**{name: "middle"})  # type: ignore[arg-type]
    for name in ("k", "m"):
        with pytest.raises(ValueError, match=f"{name}: got 0, requires 1 or more"):
            ProposalSettings(**{name: 0})  # type: ignore[arg-type]


def test_anchors_are_in_the_middle_of_objects_where_a_region_is_known_and_there_is_room() -> None:
    def spacing(features: PatchFeatures, distance: float | None, side: int | None, *, known: bool = True) -> tuple:
        asked = spaced(ProposalSettings(min_distance=distance, smoothing=side), features, region_known=known)
        return asked.min_distance, asked.smoothing

    wide = PatchFeatures(torch.rand(16, 16), torch.rand(3, 16, 16), 8, (128, 128))
    assert spacing(wide, None, None, known=False) == (2.0, 1)
    assert spacing(wide, None, None) == (3.5, 5)
    assert spacing(wide, 1.0, None) == (1.0, 5)
    assert spacing(wide, None, 3) == (3.5, 3)
    small = PatchFeatures(torch.rand(6, 6), torch.rand(3, 6, 6), 8, (48, 48))
    assert spacing(small, None, None) == (2.0, 1)  # 3.5 apart there is room for four
