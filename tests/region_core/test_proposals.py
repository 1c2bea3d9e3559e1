"""Boxes around anchors, at the borders too; their masks; RoI features against slow and library versions."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torchvision.ops import RoIAlign

from pinpoint.region_core.proposals import (
    RegionProposals,
    box_masks,
    default_reach,
    pixel_box,
    propose,
    roi_features,
)


def anchors(*cells: tuple[int, int]) -> torch.Tensor:
    return torch.tensor(cells)


def test_squares_grow_by_a_patch_on_each_side_around_the_anchors_patch() -> None:
    found = propose(anchors((8, 7)), (16, 16), 8, (128, 128), m=3)
    # The anchor's patch is x 56–64, y 64–72; the reach on a 16×16 grid is one patch of 8 pixels.
    assert found.boxes[0].tolist() == [[48, 56, 72, 80], [40, 48, 80, 88], [32, 40, 88, 96]]


def test_boxes_are_clipped_to_the_image_at_its_corners() -> None:
    found = propose(anchors((0, 0), (15, 15)), (16, 16), 8, (128, 128), m=2)
    assert found.boxes[0].tolist() == [[0, 0, 16, 16], [0, 0, 24, 24]]
    assert found.boxes[1].tolist() == [[112, 112, 128, 128], [104, 104, 128, 128]]


def test_boxes_end_with_an_image_that_ends_inside_a_patch() -> None:
    found = propose(anchors((2, 3)), (3, 4), 8, (20, 30), m=1)
    assert found.boxes[0].tolist() == [[16, 8, 30, 20]]


def test_rows_are_heights_on_an_image_that_is_not_square() -> None:
    found = propose(anchors((1, 6)), (4, 8), 16, (64, 128), m=1)
    assert found.boxes[0].tolist() == [[80, 0, 128, 48]]


def test_the_squares_grow_by_a_sixteenth_of_the_grid_or_as_told() -> None:
    assert [default_reach(grid) for grid in ((8, 8), (16, 16), (32, 32), (32, 48), (64, 64))] == [
        1,
        1,
        2,
        2,
        4,
    ]
    found = propose(anchors((16, 16)), (32, 32), 16, (512, 512), m=7)
    widths = (found.boxes[0, :, 2] - found.boxes[0, :, 0]) / 16
    assert widths.tolist() == [5, 9, 13, 17, 21, 25, 29]
    told = propose(anchors((16, 16)), (32, 32), 16, (512, 512), m=2, reach=3)
    assert ((told.boxes[0, :, 2] - told.boxes[0, :, 0]) / 16).tolist() == [7, 13]


def test_m_is_refused_once_a_square_grows_no_more_wherever_it_stands() -> None:
    # From a corner of an 8×8 grid the 7th square reaches 7 patches: the whole image.
    found = propose(anchors((0, 0)), (8, 8), 8, (64, 64), m=7)
    assert found.boxes[0, 5].tolist() == [0, 0, 56, 56] and found.boxes[0, 6].tolist() == [0, 0, 64, 64]
    for m in (0, 8):
        with pytest.raises(ValueError, match=rf"m: got {m} boxes an anchor, requires 1 to 7"):
            propose(anchors((0, 0)), (8, 8), 8, (64, 64), m=m)
    with pytest.raises(ValueError, match="requires 1 to 1:"):
        propose(anchors((0, 0)), (1, 1), 8, (8, 8), m=2)


def test_random_boxes_are_one_an_anchor_centred_clipped_and_seeded() -> None:
    cells = anchors(*[(r, c) for r in range(16) for c in range(16)])
    found = propose(cells, (16, 16), 8, (128, 128), sizes="random", seed=1)
    assert found.boxes.shape == (256, 1, 4)
    x0, y0, x1, y1 = found.boxes[:, 0].T
    assert bool((x0 >= 0).all() and (y0 >= 0).all() and (x1 <= 128).all() and (y1 <= 128).all())
    middles = torch.stack([y0 + y1, x0 + x1], dim=1) / 2
    inside = (x0 > 0) & (y0 > 0) & (x1 < 128) & (y1 < 128)
    assert int(inside.sum()) > 20
    torch.testing.assert_close(middles[inside], (cells[inside] + 0.5) * 8)
    assert torch.equal(found.boxes, propose(cells, (16, 16), 8, (128, 128), sizes="random", seed=1).boxes)
    assert not torch.equal(found.boxes, propose(cells, (16, 16), 8, (128, 128), sizes="random", seed=2).boxes)


def test_random_sides_are_spread_from_a_patch_to_the_whole_side() -> None:
    # All from the middle of a wide image, so that nothing is clipped away: sides are as they were drawn.
    cells = anchors((4, 8)).expand(4000, 2)
    found = propose(cells, (9, 17), 8, (72, 136), sizes="random")
    widths = found.boxes[:, 0, 2] - found.boxes[:, 0, 0]
    heights = found.boxes[:, 0, 3] - found.boxes[:, 0, 1]
    assert float(widths.min()) >= 8 - 1e-4 and float(heights.min()) >= 8 - 1e-4
    # E max(U, 8) for U ~ U[0, s] is s/2 + 32/s; the deviation of a mean of 4000 is under 0.7.
    assert abs(float(widths.mean()) - (68 + 32 / 136)) < 3
    assert abs(float(heights.mean()) - (36 + 32 / 72)) < 2


@pytest.mark.parametrize(("size", "patch"), [((129, 97), 16), ((97, 129), 16), ((20, 30), 8), ((57, 71), 14)])
def test_random_boxes_are_nowhere_under_a_patch_even_where_the_image_ends_inside_one(
    size: tuple[int, int], patch: int
) -> None:
    rows, columns = (-(-side // patch) for side in size)
    cells = anchors(*[(r, c) for r in range(rows) for c in range(columns)])
    for seed in range(20):
        found = propose(cells, (rows, columns), patch, size, sizes="random", seed=seed)
        x0, y0, x1, y1 = found.boxes[:, 0].T
        assert float((x1 - x0).min()) >= patch - 1e-3 and float((y1 - y0).min()) >= patch - 1e-3
        # What the anchor's patch shows of the image is at least touched.
        left, top = cells[:, 1] * patch, cells[:, 0] * patch
        assert bool((x1 > left).all() and (y1 > top).all())


@pytest.mark.parametrize(
    ("cells", "grid", "size", "message"),
    [
        (anchors((0, 0)), (1, 1), (7, 20), r"image: got 20x7 pixels, requires at least a patch of 8"),
        (anchors((0, 0)), (4, 4), (32, 40), r"grid: got \(4, 4\), requires \(4, 5\)"),
        (anchors((0, 4)), (4, 4), (32, 32), "anchors: got"),
        (anchors((-1, 0)), (4, 4), (32, 32), "anchors: got"),
        (torch.zeros(0, 2, dtype=torch.long), (4, 4), (32, 32), "anchors: got"),
        (torch.zeros(1, 2), (4, 4), (32, 32), "anchors: got"),
    ],
)
def test_images_grids_and_anchors_that_do_not_fit_are_refused(
    cells: torch.Tensor, grid: tuple[int, int], size: tuple[int, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        propose(cells, grid, 8, size, m=1)


def test_other_ways_to_size_boxes_are_refused() -> None:
    with pytest.raises(ValueError, match="sizes: got 'large', requires one of learned, random"):
        propose(anchors((0, 0)), (4, 4), 8, (32, 32), sizes="large")  # type: ignore[arg-type]


def test_proposals_are_frozen_and_have_boxes_inside_their_image() -> None:
    found = propose(anchors((1, 1), (2, 2)), (4, 4), 8, (32, 32), m=3)
    assert (found.k, found.m) == (2, 3)
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.patch = 4  # type: ignore[misc]
    outside = torch.tensor([[[0.0, 0, 40, 8]]])
    with pytest.raises(ValueError, match="box: got"):
        RegionProposals(anchors((0, 0)), outside, (4, 4), 8, (32, 32))
    with pytest.raises(ValueError, match="proposals: got boxes"):
        RegionProposals(anchors((0, 0)), torch.zeros(2, 1, 4), (4, 4), 8, (32, 32))


def test_clipping_makes_boxes_the_same() -> None:
    rows = propose(anchors((2, 2)), (4, 4), 8, (32, 32), m=3).pixel_boxes()
    assert rows == [[(8, 8, 32, 32), (0, 0, 32, 32), (0, 0, 32, 32)]]


def test_boxes_are_rounded_to_whole_pixels() -> None:
    assert pixel_box([0.4, 1.5, 7.6, 8.0], (8, 8)) == (0, 2, 8, 8)
    for box in ([3.0, 3, 3.4, 8], [-0.6, 0, 4, 4], [0, 0, 4, 9]):
        with pytest.raises(ValueError, match="box: got"):
            pixel_box(box, (8, 8))


def test_masks_are_one_inside_and_zero_outside() -> None:
    masks = box_masks([(1, 0, 3, 2), (0, 0, 4, 3)], (3, 4))
    assert masks.shape == (2, 1, 3, 4)
    assert masks[0, 0].tolist() == [[0, 1, 1, 0], [0, 1, 1, 0], [0, 0, 0, 0]]
    assert bool((masks[1] == 1).all())


def test_roi_features_of_a_ramp_are_the_ramp_at_the_bins_middles() -> None:
    # A feature that is its column's number plus a half has the value x/patch at pixel x, away from borders.
    columns = (torch.arange(12) + 0.5).expand(12, 12)
    features = torch.stack([columns, columns.T])
    found = roi_features(features, torch.tensor([[16.0, 24, 72, 66]]), patch=8)
    assert found.shape == (2, 7, 7)
    wide = (16 + 56 * (torch.arange(7) + 0.5) / 7) / 8
    high = (24 + 42 * (torch.arange(7) + 0.5) / 7) / 8
    torch.testing.assert_close(found[0], wide.expand(7, 7))
    torch.testing.assert_close(found[1], high[:, None].expand(7, 7))


def slow_roi(features: torch.Tensor, box: list[float], patch: int) -> torch.Tensor:
    """RoIAlign of one box, 7×7, two samples a bin each way, written out."""
    channels, rows, columns = features.shape
    x0, y0, x1, y1 = (v / patch - 0.5 for v in box)
    pooled = torch.zeros(channels, 7, 7)
    for i in range(7):
        for j in range(7):
            for a in (0.25, 0.75):
                for b in (0.25, 0.75):
                    y = min(max(y0 + (y1 - y0) * (i + a) / 7, 0), rows - 1)
                    x = min(max(x0 + (x1 - x0) * (j + b) / 7, 0), columns - 1)
                    top, left = int(y), int(x)
                    low, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
                    dy, dx = y - top, x - left
                    pooled[:, i, j] += (
                        features[:, top, left] * (1 - dy) * (1 - dx)
                        + features[:, top, right] * (1 - dy) * dx
                        + features[:, low, left] * dy * (1 - dx)
                        + features[:, low, right] * dy * dx
                    ) / 4
    return pooled


def test_roi_features_agree_with_a_slow_version_and_join_boxes_on_channels() -> None:
    features = torch.rand(3, 8, 6, generator=torch.Generator().manual_seed(0))
    found = propose(anchors((0, 0), (5, 4)), (8, 6), 8, (64, 48), m=3)
    pooled = roi_features(features, found.boxes, 8)
    assert pooled.shape == (2, 9, 7, 7)
    for i in range(2):
        for j in range(3):
            expected = slow_roi(features, found.boxes[i, j].tolist(), 8)
            torch.testing.assert_close(pooled[i, 3 * j : 3 * j + 3], expected)
        torch.testing.assert_close(roi_features(features, found.boxes[i], 8), pooled[i])


def test_roi_features_agree_with_torchvisions_layer() -> None:
    features = torch.rand(5, 9, 9, generator=torch.Generator().manual_seed(1))
    boxes = torch.tensor([[3.0, 5, 60, 44], [0, 0, 72, 72]])
    layer = RoIAlign((7, 7), spatial_scale=1 / 8, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(roi_features(features, boxes, 8).reshape(2, 5, 7, 7), layer(features[None], [boxes]))
