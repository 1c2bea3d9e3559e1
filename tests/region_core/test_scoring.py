"""Scoring: every box judged, the least loss taken; on a case where the right box is planted."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.encoders.clip import CompositeLoss, GuidanceWeights
from pinpoint.region_core.proposals import box_masks
from pinpoint.region_core.scorer import choose
from pinpoint.region_core.scoring import score_regions
from pinpoint.region_core.search.plans import PLANS
from pinpoint.tests.fixtures.planted import CAPTION, PROMPT, Planted


def scored(case, plan="full", **options):
    return score_regions(
        options.pop("image", case.image),
        options.pop("proposals", case.proposals),
        case.editor,
        case.guide,
        caption=options.pop("caption", CAPTION),
        prompt=options.pop("prompt", PROMPT),
        plan=PLANS[plan],
        **options,
    )


def test_each_box_has_the_loss_of_its_own_edit_and_the_least_is_chosen():
    case = Planted(anchor=1, box=2)
    scores = scored(case)
    assert scores.chosen[1] == 2
    loss = CompositeLoss(case.guide, case.image, PROMPT, CAPTION, GuidanceWeights())
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    for anchor, boxes in enumerate(case.proposals.pixel_boxes()):
        painted = torch.where(box_masks(boxes, (128, 128)) > 0, red, case.image)
        wanted = loss(painted)
        torch.testing.assert_close(scores.losses[anchor], wanted, atol=1e-5, rtol=0)
        assert scores.chosen[anchor] == int(wanted.argmin())
    torch.testing.assert_close(scores.logits, -scores.losses)
    assert scores.loss_curve == () and scores.network == {}


def test_choosing_goes_on_with_the_edits_that_scoring_made():
    case = Planted(anchor=0, box=1)
    scores = scored(case)
    calls = len(case.editor.calls)
    found = choose(scores, case.guide)
    assert len(case.editor.calls) == calls
    assert found.chosen.index == 0
    torch.testing.assert_close(found.image, case.right_edit)


def test_boxes_that_a_plan_has_dropped_are_not_chosen():
    scores = scored(Planted(), plan="halving")
    dropped = scores.logits.isneginf()
    assert bool(dropped.any()) and not bool(dropped.all(dim=1).any())
    assert all(not dropped[anchor, box] for anchor, box in enumerate(scores.chosen))
    assert not bool(scores.losses.isnan().any())


def test_one_box_an_anchor_is_taken_without_an_edit():
    case = dataclasses.replace(Planted(), box=0, m=1)
    tracker = CostTracker()
    scores = scored(case, tracker=tracker)
    assert scores.chosen == (0, 0, 0, 0) and case.editor.calls == [] and tracker.total == 0
    assert bool(scores.losses.isnan().all())


def test_the_image_of_other_proposals_is_refused_before_any_edit():
    case = Planted()
    with pytest.raises(ValueError, match=r"image: got the shape \(1, 3, 64, 128\)"):
        scored(case, image=torch.zeros(1, 3, 64, 128))
    with pytest.raises(ValueError, match="caption"):
        scored(case, caption=PROMPT)
    assert case.editor.calls == []
