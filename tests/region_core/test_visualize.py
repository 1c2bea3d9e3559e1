"""Images of a region edit: looked at pixel by pixel where colours and sizes say what was drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import ImageColor

from pinpoint.locinv_core.imaging.visualize import COLOURS
from pinpoint.region_core.proposals import propose
from pinpoint.region_core.scorer import Candidate
from pinpoint.region_core.search.base import FinalEdit
from pinpoint.region_core.visualize import boxes_image, candidates_image, loss_image, proposals_image

ANCHORS = torch.tensor([[2, 2], [5, 6], [7, 0]])


def grey(height=64, width=64):
    return torch.full((1, 3, height, width), 0.5)


def proposals_of(height=64, width=64):
    return propose(ANCHORS, (height // 8, width // 8), 8, (height, width), m=3)


def candidate(index, score, proposals, image, final=True):
    x0, y0, x1, y1 = proposals.boxes[index, 1].tolist()
    row, column = ANCHORS[index].tolist()
    edit = FinalEdit((int(x0), int(y0), int(x1), int(y1)), index)
    return Candidate(index, edit, (x0, y0, x1, y1), (row, column), 0.3, 0.8, score, image, final)


def close_to(picture, colour):
    """How many pixels have a colour, within what antialiasing leaves of it."""
    difference = np.asarray(picture).astype(int) - np.array(ImageColor.getrgb(colour))
    return int((np.abs(difference).max(axis=-1) <= 3).sum())


@pytest.mark.parametrize("size", [(64, 64), (64, 128), (128, 64)])
def test_the_boxes_of_every_anchor_are_drawn_in_its_colour_beside_their_scores(size):
    proposals = proposals_of(*size)
    image = grey(*size)
    ranked = [candidate(k, 1.0 - k, proposals, image) for k in (1, 0, 2)]
    picture = boxes_image(image, proposals, ranked, torch.zeros(3, 3))
    for index in range(3):
        assert close_to(picture, COLOURS[index]) > 300
    assert close_to(picture, COLOURS[4]) == 0
    # The longer side of the image is 500 pixels; what is right of it is the table.
    assert picture.width > 500 * size[1] / max(size) + 300
    assert picture.height >= 500 * size[0] / max(size)


def test_the_chosen_box_is_filled_and_no_other():
    proposals, image = proposals_of(), grey()
    first, second = (candidate(k, 1.0, proposals, image) for k in (0, 1))
    filled = [np.asarray(boxes_image(image, proposals, order)) for order in ([first, second], [second, first])]
    plain = np.array([128, 128, 128])

    def tinted(picture, box):
        """Whether the middle of a box that other lines stay clear of is not the image's grey."""
        scale = 500 / 64
        x, y = (int(20 + scale * (box[0] + 5)), int(picture.shape[0] - 25 - scale * (64 - box[1] - 5)))
        patch = picture[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3).astype(int)
        return bool((np.abs(np.median(patch, axis=0) - plain) > 8).any())

    for picture, (chosen, other) in zip(filled, ((first, second), (second, first)), strict=True):
        inside = [tinted(picture, c.box) for c in (chosen, other)]
        assert inside[0]
    assert (filled[0] != filled[1]).any()


def test_a_variant_in_another_anchors_box_has_that_anchors_colour_and_one_in_the_region_has_none():
    proposals, image = proposals_of(), grey()
    own = candidate(0, 1.0, proposals, image)
    others = [replace(own.edit, variant=1), replace(own.edit, source_anchor=None)]
    retaken = [replace(own, index=k, edit=edit) for k, edit in enumerate(others, start=1)]
    plain = boxes_image(image, proposals, [own])
    taken = boxes_image(image, proposals, [own, *retaken])
    sheets = [candidates_image(image, [one]) for one in (own, retaken[0])]
    for index in (1, 2):  # their dots and thin boxes are there, and nothing more
        assert close_to(taken, COLOURS[index]) == close_to(plain, COLOURS[index]) > 0
        assert close_to(sheets[1], COLOURS[index]) == 0
    assert close_to(sheets[1], COLOURS[0]) == close_to(sheets[0], COLOURS[0]) > 300
    # Its own number and whose box it is in are written, so the label is another one.
    assert np.asarray(sheets[0]).tobytes() != np.asarray(sheets[1]).tobytes()


def test_the_contact_sheet_has_the_source_and_every_candidate_in_their_order():
    proposals = proposals_of()
    shades = {0: 0.1, 1: 0.9, 2: 0.3}
    ranked = [candidate(k, 1.0, proposals, torch.full((1, 3, 64, 64), shades[k])) for k in (2, 0, 1)]
    sheet = np.asarray(candidates_image(grey(), ranked, columns=4).convert("L"))
    # Cells of 256 pixels, 14 apart, end 20 above the foot; a strip of each is looked at.
    strips = [sheet[-100:-60, 20 + 270 * k + 60 : 20 + 270 * k + 200] for k in range(4)]
    assert [int(np.median(strip)) for strip in strips] == [128, 77, 26, 230]  # 0.5, 0.3, 0.1, 0.9 of 255


def test_a_preview_is_told_from_an_edit_in_full():
    proposals, image = proposals_of(), grey()
    full, preview = (candidates_image(grey(), [candidate(0, 1.0, proposals, image, final)]) for final in (True, False))
    assert full.size == preview.size and full.tobytes() != preview.tobytes()


def test_the_loss_curve_falls_where_the_loss_does():
    falling = np.asarray(loss_image([3.0, 2.0, 1.0]))
    line = np.abs(falling.astype(int) - np.array(ImageColor.getrgb(COLOURS[0]))).max(axis=-1) <= 3
    rows, columns = np.nonzero(line)
    # Pixel rows count downwards.
    assert rows[columns < columns.min() + 40].mean() < rows[columns > columns.max() - 40].mean() - 100


def test_a_curve_of_one_step_and_an_empty_one_are_drawn():
    one, none = loss_image([1.0], epochs=5), loss_image([])
    assert close_to(one, COLOURS[0]) > 10
    assert close_to(none, COLOURS[0]) == 0
    assert one.size == none.size


def test_no_candidates_are_refused():
    with pytest.raises(ValueError, match="no candidates"):
        boxes_image(grey(), proposals_of(), [])
    with pytest.raises(ValueError, match="no candidates"):
        candidates_image(grey(), [])


# The proposals: lines lie where the boxes' edges are, computed by hand

GREY = 128


def differing(picture):
    return (np.asarray(picture).astype(int) - GREY).__abs__().max(axis=-1) > 20


def test_every_box_is_outlined_at_its_edges_and_the_chosen_one_strongly():
    # One anchor in the middle: boxes of 24 and 40 pixels around its patch of 8.
    proposals = propose(torch.tensor([[4, 4]]), (8, 8), 8, (64, 64), m=2)
    assert proposals.pixel_boxes() == [[(24, 24, 48, 48), (16, 16, 56, 56)]]
    image = torch.full((1, 3, 64, 64), GREY / 255)
    plain, strong = proposals_image(image, proposals), proposals_image(image, proposals, [1])
    assert plain.size == (768, 768)
    thin, thick = differing(plain), differing(strong)
    # Column 300 of 768 is inside both boxes (192 to 672, 288 to 576) and beside the anchor's dot.
    assert np.flatnonzero(thin[:, 300]).tolist() == [192, 288, 575, 671]
    assert {192, 193, 194, 195, 196, 288, 575, 671} <= set(np.flatnonzero(thick[:, 300]).tolist())
    assert not thin[:, 100].any()
    # The anchor's dot is in the middle of its patch: row and column 4.5 · 8 · 12.
    assert thin[432 - 9 : 432 + 9, 432 - 3].all()


def test_a_large_image_is_not_made_smaller_and_anchors_at_the_edge_stay_inside():
    proposals = propose(torch.tensor([[0, 0], [99, 124]]), (100, 125), 8, (800, 996), m=1)
    picture = proposals_image(torch.full((1, 3, 800, 996), GREY / 255), proposals, (0, 0))
    assert picture.size == (996, 800)
    assert differing(picture)[795:, 985:].any()


def test_a_choice_must_be_one_box_an_anchor():
    proposals = propose(torch.tensor([[4, 4]]), (8, 8), 8, (64, 64), m=2)
    with pytest.raises(ValueError, match="got 2 boxes, requires one for each of 1"):
        proposals_image(torch.zeros(1, 3, 64, 64), proposals, (0, 1))
