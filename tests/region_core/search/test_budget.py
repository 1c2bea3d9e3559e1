"""Edit plans: which boxes are edited with how many steps, what that costs, and what stays in play."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.proposals import RegionProposals, propose
from pinpoint.region_core.search.base import BoxPrior, BoxSearch, Judgement
from pinpoint.region_core.search.budget import BudgetedSearch
from pinpoint.region_core.search.edit_cache import BoxEdits
from pinpoint.region_core.search.plans import PLANS, EditPlan, Round, plan_named
from pinpoint.tests.fixtures.tiny_encoders import PaintingEditor

IMAGE = torch.full((1, 3, 128, 128), 0.25)


def eight_anchors(m: int = 7) -> RegionProposals:
    cells = [(3, 3), (3, 12), (12, 3), (12, 12), (8, 8), (5, 9), (9, 5), (0, 8)]
    return propose(torch.tensor(cells), (16, 16), 8, (128, 128), m=m)


def red_area(images: Tensor) -> Tensor:
    """The share of an image that is painted."""
    return (images[:, 0] == 1).float().mean(dim=(1, 2))


def away_from(share: float):
    """A loss that is least for a box that covers `share` of the image."""
    return lambda images: (red_area(images) - share).abs()


def cost(steps: int | None) -> int:
    """FE of an edit at strength 0.75 with guidance: ⌊0.75·steps⌋ steps of two passes."""
    return 2 * int(0.75 * (steps or 50))


def areas(proposals: RegionProposals) -> Tensor:
    boxes = proposals.boxes
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1]) / 128**2


def judged_by(plan, proposals, edits, loss, *, prior=None, tracker=None) -> Judgement:
    prior = prior or BoxPrior.flat(proposals)
    return BudgetedSearch(plan).judge(proposals, edits, loss, prior, tracker or CostTracker())


def test_the_full_plan_edits_every_box_in_full_and_judges_it() -> None:
    proposals, tracker = eight_anchors(), CostTracker()
    edits = BoxEdits(PaintingEditor(), IMAGE, "red")
    judged = judged_by(PLANS["full"], proposals, edits, red_area, tracker=tracker)
    torch.testing.assert_close(judged.losses, areas(proposals))
    assert bool(judged.considered.all())
    assert edits.made() == {None: 56} and tracker.total == 56 * 74


def test_boxes_that_are_the_same_are_edited_and_judged_once() -> None:
    proposals = propose(torch.tensor([(4, 4), (4, 4), (3, 3)]), (8, 8), 8, (64, 64), m=7)
    distinct = len({box for row in proposals.pixel_boxes() for box in row})
    assert distinct < 14
    judged_images = 0

    def loss(images: Tensor) -> Tensor:
        nonlocal judged_images
        judged_images += len(images)
        return red_area(images)

    edits = BoxEdits(PaintingEditor(), IMAGE[..., :64, :64], "red")
    judged = judged_by(PLANS["full"], proposals, edits, loss)
    assert edits.made() == {None: distinct} and judged_images == distinct
    assert torch.equal(judged.losses[0], judged.losses[1])


def test_a_preview_takes_its_own_number_of_steps() -> None:
    edits = BoxEdits(PaintingEditor(), IMAGE, "red")
    judged_by(EditPlan("p", (Round(steps=6),)), eight_anchors(), edits, red_area)
    assert edits.made() == {6: 56}


def test_a_stand_in_is_one_edit_for_every_box() -> None:
    proposals = eight_anchors()
    edits = BoxEdits(PaintingEditor(), IMAGE, "red")
    judged = judged_by(PLANS["stand-in"], proposals, edits, red_area)
    assert edits.made() == {None: 1}
    torch.testing.assert_close(judged.losses, areas(proposals))


def test_a_round_keeps_the_best_boxes_of_each_anchor_for_the_next() -> None:
    proposals = propose(torch.tensor([(8, 8)]), (16, 16), 8, (128, 128), m=6)
    # Squares of 3, 5, 7, 9, 11 and 13 patches cover 9, 25, 49, 81, 121 and 169 of 256.
    plan = EditPlan("h", (Round(steps=2, keep=0.5), Round(steps=4, keep=0.5), Round(steps=8)))
    edits = BoxEdits(PaintingEditor(), IMAGE, "red")
    judged = judged_by(plan, proposals, edits, away_from(60 / 256))
    # Losses·256: 51, 35, 11, 21, 61, 109. Three stay: 11, 21, 35; then two: 11, 21.
    assert judged.considered.tolist() == [[False, False, True, True, False, False]]
    torch.testing.assert_close(judged.losses * 256, torch.tensor([[51.0, 35, 11, 21, 61, 109]]))
    assert edits.made() == {2: 6, 4: 3, 8: 2}


def test_a_later_round_has_the_last_word_on_what_it_judges() -> None:
    class Fading(PaintingEditor):
        def edit(self, image, masks, prompt, seed, *, steps=None, tracker=None):
            return torch.full((len(masks), *image.shape[1:]), (steps or 50) / 100)

    proposals = propose(torch.tensor([(8, 8)]), (16, 16), 8, (128, 128), m=4)
    plan = EditPlan("h", (Round(steps=2, keep=0.5), Round(steps=4)))
    edits = BoxEdits(Fading(), torch.zeros(1, 3, 128, 128), "")
    found = judged_by(plan, proposals, edits, lambda images: images.mean(dim=(1, 2, 3)))
    inside = torch.tensor([[9.0, 25, 49, 81]]) / 256
    torch.testing.assert_close(found.losses, inside * torch.tensor([[0.04, 0.04, 0.02, 0.02]]))


def test_boxes_that_are_the_same_stay_or_go_together() -> None:
    # Around the middle of an 8×8 grid the squares of 9 to 15 patches are the whole image.
    proposals = propose(torch.tensor([(4, 4)]), (8, 8), 8, (64, 64), m=7)
    plan = EditPlan("h", (Round(steps=2, keep=0.5),))
    small = BoxEdits(PaintingEditor(), IMAGE[..., :64, :64], "red")
    judged = judged_by(plan, proposals, small, away_from(1.0))
    # Distinct: 3, 5 and 7 patches, and the whole; half of the 4 stay: the whole and 7 patches.
    row = proposals.pixel_boxes()[0]
    whole = [box == (0, 0, 64, 64) for box in row]
    assert len(set(row)) == 4 and sum(whole) == 4
    assert judged.considered[0].tolist() == [False, False, True, *[True] * 4]


def test_judging_by_a_cheap_plan_takes_hundreds_of_forward_equivalents_and_in_full_thousands() -> None:
    proposals = eight_anchors()
    assert {name: BudgetedSearch(plan).judging_cost(proposals, cost) for name, plan in PLANS.items()} == {
        "full": 56 * 74,
        "preview": 56 * 4,
        "shortlist": 56 * 4,
        "stand-in": 74,
        "halving": 56 * 2 + 32 * 6,
        "screened": 74 + 32 * 6,
    }
    assert BudgetedSearch().judging_cost(eight_anchors(1), cost) == 0


def test_boxes_that_are_not_considered_cost_nothing() -> None:
    proposals, region = eight_anchors(), torch.zeros(128, 128)
    region[4:60, 4:60] = 1
    search = BudgetedSearch(PLANS["preview"], region)
    boxes = proposals.pixel_boxes()
    considered = search.prior(proposals).considered
    alive = {boxes[i][j] for i, j in considered.nonzero().tolist()}
    assert 8 <= len(alive) < 56 and search.judging_cost(proposals, cost) == 4 * len(alive)
    edits, tracker = BoxEdits(PaintingEditor(), IMAGE, "red"), CostTracker()
    prior = BoxPrior(considered, torch.full((8, 7), 0.5))
    judged = judged_by(PLANS["full"], proposals, edits, red_area, prior=prior, tracker=tracker)
    assert tracker.total == len(alive) * 74 and torch.equal(judged.considered, considered)
    torch.testing.assert_close(judged.losses[considered], areas(proposals)[considered] + 0.5)
    assert bool(judged.losses[~considered].isnan().all())


def test_the_published_search_judges_every_box_in_full() -> None:
    proposals, edits = eight_anchors(), BoxEdits(PaintingEditor(), IMAGE, "red")
    prior = BoxSearch().prior(proposals)
    judged = BoxSearch().judge(proposals, edits, red_area, prior, CostTracker())
    assert torch.equal(judged.losses, judged_by(PLANS["full"], proposals, edits, red_area).losses)
    assert bool(judged.considered.all()) and edits.made() == {None: 56}


def test_rounds_and_plans_out_of_bounds_are_refused() -> None:
    for wrong in ({"steps": 0}, {"keep": 0.0}, {"keep": 1.1}, {"keep": math.nan}):
        with pytest.raises(ValueError, match="of a round: got"):
            Round(**wrong)
    with pytest.raises(ValueError, match="got no round"):
        EditPlan("none", ())
    with pytest.raises(ValueError, match="finalists: got 0"):
        EditPlan("none", (Round(),), final_count=0)
    with pytest.raises(ValueError, match="plan: got 'free', requires one of full, preview"):
        plan_named("free")
    assert plan_named("halving") is PLANS["halving"]
