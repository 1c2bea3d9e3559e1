"""Masks and boxes of other nodes, in their sizes, batches and forms, become the prior that they say."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest
import torch

from pinpoint.nodes.bridge.masks import (
    boxes_of_bbox,
    mask_of_segs,
    mask_of_size,
    masks_of_images,
    shaped,
)

# As the Impact Pack makes them.
SEG = namedtuple("SEG", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper")


def drawn(*rows: str) -> torch.Tensor:
    """A mask of rows in which # is inside."""
    return torch.tensor([[float(cell == "#") for cell in row] for row in rows])


def test_a_mask_of_another_size_is_interpolated_to_its_images():
    wide = mask_of_size(torch.tensor([[[0.0, 1.0]]]), (1, 4))
    # The centres of the four pixels lie at -0.25, 0.25, 0.75 and 1.25 of the two.
    assert wide.tolist() == [[0, 0.25, 0.75, 1]]
    same = torch.rand(1, 5, 7)
    assert torch.equal(mask_of_size(same, (5, 7)), same[0])


DOT = drawn(".....", ".....", "..#..", ".....", ".....")
PLUS = drawn(".....", "..#..", ".###.", "..#..", ".....")


@pytest.mark.parametrize(
    ("mask", "settings", "expected"),
    [
        (DOT, {"grow": 1}, PLUS),
        (PLUS, {"grow": -1}, DOT),
        (DOT, {"invert": True}, 1 - DOT),
        (0.3 * DOT, {"threshold": 0.3}, DOT),
        (0.3 * DOT, {}, torch.zeros(5, 5)),
        # Half of the weight of a blur lies beyond an edge, less than half around one pixel.
        (DOT, {"blur": 1.0}, torch.zeros(5, 5)),
        (drawn("##..", "##..", "##.."), {"blur": 1.0}, drawn("##..", "##..", "##..")),
    ],
    ids=["grown", "shrunk", "inverted", "cut lower", "cut at half", "a speck blurred", "an edge blurred"],
)
def test_a_mask_is_shaped(mask, settings, expected):
    given = mask.clone()
    assert torch.equal(shaped(mask, **settings), expected)
    assert torch.equal(mask, given)


def test_image_i_has_mask_i_whether_they_come_as_batches_or_lists():
    masks, images = torch.rand(3, 8, 8), torch.rand(3, 8, 8, 3)
    for given in ([masks], [masks[:1], masks[1:]]):
        for pictures in ([images], [images[:1], images[1:2], images[2:]]):
            found = masks_of_images(given, pictures)
            assert len(found) == 3 and all(torch.equal(found[k], masks[k]) for k in range(3))


def test_one_mask_goes_with_every_image_at_its_size():
    found = masks_of_images([torch.ones(1, 8, 8)], [torch.rand(1, 8, 8, 3), torch.rand(1, 16, 12, 3)])
    assert [tuple(mask.shape) for mask in found] == [(8, 8), (16, 12)]


@pytest.mark.parametrize("images", [[], [torch.rand(1, 8, 8, 3)]])
def test_the_masks_of_a_batch_are_joined_for_one_image_and_those_of_a_list_are_not(images):
    masks = torch.zeros(2, 8, 8)
    masks[0, 1, 1] = masks[1, 2, 2] = 1
    (joined,) = masks_of_images([masks], images)
    assert joined.nonzero().tolist() == [[1, 1], [2, 2]]
    assert [mask.nonzero().tolist() for mask in masks_of_images([masks[:1], masks[1:]], images)] == [[[1, 1]], [[2, 2]]]


def test_another_number_of_masks_than_images_is_refused():
    with pytest.raises(ValueError, match="mask: got 2 masks for 3 images, requires 1 or as many"):
        masks_of_images([torch.ones(2, 8, 8)], [torch.rand(3, 8, 8, 3)])


@pytest.mark.parametrize(
    "bboxes", [[4, 5, 30, 40], [(4, 5, 30, 40)], np.array([[4.0, 5, 30, 40, 0.9]]), [[[4, 5, 30, 40]]]]
)
def test_a_bbox_is_read_by_its_corners_or_by_its_size(bboxes):
    assert boxes_of_bbox(bboxes, "corners") == [(4, 5, 30, 40)]
    assert boxes_of_bbox(bboxes, "size") == [(4, 5, 34, 45)]


@pytest.mark.parametrize("bboxes", [[], None, [1, 2, 3], ["cat"], [float("nan"), 0, 1, 1]])
def test_what_is_no_bbox_is_refused(bboxes):
    with pytest.raises(ValueError, match="bboxes: got"):
        boxes_of_bbox(bboxes, "corners")


def segs():
    cat = np.array([[0.0, 1.0], [1.0, 0.6]], np.float32)
    star = torch.full((1, 2, 3), 255.0)
    return (4, 6), [
        SEG(None, cat, np.array([0.9]), (1, 1, 3, 3), (1, 1, 3, 3), "cat", None),
        SEG(None, star, 0.5, (3, 2, 6, 4), (3, 2, 6, 4), "Star", None),
        SEG(None, None, 0.2, (0, 0, 6, 4), (4, 0, 7, 1), "face", None),
    ]


def test_segs_are_put_where_they_were_cut_out_and_joined():
    assert torch.allclose(
        mask_of_segs(segs(), "cat"),
        drawn("......", "..#...", ".##...", "......")
        * torch.tensor([[1.0] * 6, [1.0] * 6, [1, 1, 0.6, 1, 1, 1], [1.0] * 6]),
    )
    assert torch.equal(mask_of_segs(segs(), "star"), drawn("......", "......", "...###", "...###"))
    assert torch.equal(mask_of_segs(segs(), "face"), drawn("....##", "......", "......", "......"))
    assert int((mask_of_segs(segs()) > 0).sum()) == 3 + 6 + 2
    assert int((mask_of_segs(segs(), least=0.4) > 0).sum()) == 3 + 6


def test_segs_that_hold_no_such_object_are_refused_and_say_what_there_is():
    with pytest.raises(
        ValueError, match=r"none is labelled dog with 0 or more; there are: Star 0\.50, cat 0\.90, face 0"
    ):
        mask_of_segs(segs(), "dog")
    with pytest.raises(ValueError, match="there are: none at all"):
        mask_of_segs(((4, 6), []))
    with pytest.raises(ValueError, match="segs: got list, requires SEGS"):
        mask_of_segs([3])
    bad = SEG(None, np.ones((3, 3)), 1.0, (1, 1, 3, 3), (1, 1, 3, 3), "cat", None)
    with pytest.raises(ValueError, match=r"segs: got a mask of \(3, 3\)"):
        mask_of_segs(((4, 6), [bad]))
