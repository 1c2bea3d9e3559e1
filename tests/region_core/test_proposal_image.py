"""The image of proposals: lines lie where the boxes' edges are, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pinpoint.region_core.proposal_image import proposal_picture
from pinpoint.region_core.proposals import propose

GREY = 128


def changed(picture):
    return (np.asarray(picture).astype(int) - GREY).__abs__().max(axis=-1) > 20


def test_every_box_is_outlined_at_its_edges_and_the_chosen_one_strongly():
    # One anchor in the middle: boxes of 24 and 40 pixels around its patch of 8.
    proposals = propose(torch.tensor([[4, 4]]), (8, 8), 8, (64, 64), m=2)
    assert proposals.pixel_boxes() == [[(24, 24, 48, 48), (16, 16, 56, 56)]]
    image = torch.full((1, 3, 64, 64), GREY / 255)
    plain, strong = proposal_picture(image, proposals), proposal_picture(image, proposals, [1])
    assert plain.size == (768, 768)
    thin, thick = changed(plain), changed(strong)
    # Column 300 of 768 is inside both boxes (192 to 672, 288 to 576) and beside the anchor's dot.
    assert np.flatnonzero(thin[:, 300]).tolist() == [192, 288, 575, 671]
    assert {192, 193, 194, 195, 196, 288, 575, 671} <= set(np.flatnonzero(thick[:, 300]).tolist())
    assert not thin[:, 100].any()
    # The anchor's dot is in the middle of its patch: row and column 4.5 · 8 · 12.
    assert thin[432 - 9 : 432 + 9, 432 - 3].all()


def test_a_large_image_is_not_made_smaller_and_anchors_at_the_edge_stay_inside():
    proposals = propose(torch.tensor([[0, 0], [99, 124]]), (100, 125), 8, (800, 996), m=1)
    picture = proposal_picture(torch.full((1, 3, 800, 996), GREY / 255), proposals, (0, 0))
    assert picture.size == (996, 800)
    assert changed(picture)[795:, 985:].any()


def test_a_choice_must_be_one_box_an_anchor():
    proposals = propose(torch.tensor([[4, 4]]), (8, 8), 8, (64, 64), m=2)
    with pytest.raises(ValueError, match="got 2 boxes, requires one for each of 1"):
        proposal_picture(torch.zeros(1, 3, 64, 64), proposals, (0, 1))
