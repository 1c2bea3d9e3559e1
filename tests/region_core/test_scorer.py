"""Choosing: S by hand, all candidates ranked, and no edit made twice."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.proposals import pixel_box, propose
from pinpoint.region_core.scorer import Candidate, choose, quality_score, rank
from pinpoint.region_core.search.base import BoxSearch, FinalEdit
from pinpoint.region_core.search.budget import BudgetedSearch
from pinpoint.region_core.search.plans import PLANS, EditPlan, Round
from pinpoint.region_core.trainer import RegionScores
from pinpoint.tests.fixtures.planted import PROMPT, Planted
from pinpoint.tests.fixtures.tiny_encoders import PaintingEditor


def learned(case: Planted, plan: EditPlan = PLANS["full"], **options: Any) -> RegionScores:
    return case.learn(plan=plan, **options)


def candidate(index: int, score: float, final: bool = True, in_region: bool = True) -> Candidate:
    picture, edit = torch.zeros(1, 3, 2, 2), FinalEdit((0, 0, 1, 1), index, in_region=in_region)
    return Candidate(index, edit, (0, 0, 1, 1), (0, 0), 0.0, 0.0, score, picture, final)


def test_the_quality_is_twice_the_text_and_once_the_image_similarity() -> None:
    found = quality_score(torch.tensor([0.3, 0.1]), torch.tensor([0.8, 0.9]))
    torch.testing.assert_close(found, torch.tensor([1.4, 1.1]))
    torch.testing.assert_close(quality_score(torch.tensor([0.3]), torch.tensor([0.8]), 1, 3), torch.tensor([2.7]))


def test_the_highest_score_comes_first_and_equal_ones_stay_in_order() -> None:
    ranked = rank([candidate(0, 1.0), candidate(1, 2.0), candidate(2, 1.0), candidate(3, 1.5)], BoxSearch())
    assert [c.index for c in ranked] == [1, 3, 0, 2]


def test_edits_in_full_come_before_previews() -> None:
    ranked = rank([candidate(0, 3.0, final=False), candidate(1, 1.0), candidate(2, 2.0)], BudgetedSearch())
    assert [c.index for c in ranked] == [2, 1, 0]


def test_what_is_in_the_region_comes_before_what_is_not() -> None:
    far = candidate(0, 3.0, in_region=False)
    ranked = rank([far, candidate(1, 1.0, final=False), candidate(2, 0.5)], BudgetedSearch())
    assert [c.index for c in ranked] == [2, 1, 0]


def test_the_planted_edit_is_chosen_and_scored_by_hand() -> None:
    case = Planted(anchor=1, box=2)
    found = choose(learned(case), case.guide)
    best = found.chosen
    assert best.index == 1 and best.anchor == (2, 9)
    assert best.box == tuple(case.proposals.boxes[1, 2].tolist())
    torch.testing.assert_close(found.image, case.right_edit)
    encode = case.guide.encode_images
    for one in found.candidates:
        t2i = float(encode(one.image)[0] @ encode(case.right_edit)[0])
        i2i = float(encode(one.image)[0] @ encode(case.image)[0])
        assert one.s_t2i == pytest.approx(t2i, abs=1e-5) and one.s_i2i == pytest.approx(i2i, abs=1e-5)
        assert one.score == pytest.approx(2 * t2i + i2i, abs=1e-5)


def test_every_anchor_has_its_candidate_with_its_box_best_first() -> None:
    case = Planted()
    scores = learned(case)
    found = choose(scores, case.guide)
    assert sorted(c.index for c in found.candidates) == [0, 1, 2, 3]
    assert [c.score for c in found.candidates] == sorted((c.score for c in found.candidates), reverse=True)
    for one in found.candidates:
        assert one.box == tuple(scores.boxes[one.index].tolist())
        assert one.final and one.image.shape == (1, 3, 128, 128)
        x0, y0, x1, y1 = (int(v) for v in one.box)
        outside = torch.ones(128, 128, dtype=torch.bool)
        outside[y0:y1, x0:x1] = False
        assert torch.equal(one.image[..., outside], case.image[..., outside])


def test_the_weights_of_the_score_have_an_effect() -> None:
    case = Planted()
    scores = learned(case)
    by_text = choose(scores, case.guide, alpha=1.0, beta=0.0)
    by_source = choose(scores, case.guide, alpha=0.0, beta=1.0)
    assert by_text.chosen.score == pytest.approx(max(c.s_t2i for c in by_text.candidates))
    assert by_source.chosen.score == pytest.approx(max(c.s_i2i for c in by_source.candidates))


def test_edits_that_learning_has_made_in_full_cost_nothing_more() -> None:
    case, tracker = Planted(), CostTracker()
    scores = learned(case, tracker=tracker)
    learning = tracker.total
    choose(scores, case.guide, tracker=tracker)
    assert tracker.total == learning == 20 * 74


def test_finalists_are_edited_in_full_after_cheap_learning() -> None:
    case, tracker = Planted(), CostTracker()
    scores = learned(case, PLANS["preview"], tracker=tracker)
    found = choose(scores, case.guide, tracker=tracker)
    assert tracker.forward_equivalents["edits for learning"] == 20 * 4
    assert tracker.forward_equivalents["final edits"] == 4 * 74
    assert all(one.final for one in found.candidates)


def test_a_box_that_several_anchors_have_chosen_is_edited_once() -> None:
    case, tracker = Planted(anchors=((4, 4), (4, 4), (4, 4))), CostTracker()
    scores = learned(case, PLANS["preview"], tracker=tracker)
    assert len(set(scores.chosen)) == 1
    found = choose(scores, case.guide, tracker=tracker)
    assert tracker.forward_equivalents["final edits"] == 74 and len(found.candidates) == 3


def test_with_fewer_finalists_the_best_previews_are_edited_in_full_and_the_rest_stay() -> None:
    case, tracker = Planted(anchor=2), CostTracker()
    scores = learned(case, PLANS["preview"].with_final_count(2), tracker=tracker)
    found = choose(scores, case.guide, tracker=tracker)
    assert [one.final for one in found.candidates] == [True, True, False, False]
    assert tracker.forward_equivalents["final edits"] == 2 * 74
    assert found.chosen.index == 2
    # The painter's previews are as good as its edits, so the finalists are the best of all.
    assert min(c.score for c in found.candidates[:2]) >= max(c.score for c in found.candidates[2:])


def test_the_finalists_are_the_boxes_of_least_loss_whatever_their_score() -> None:
    case = Planted(anchor=2)
    scores = learned(case, PLANS["preview"].with_final_count(1))
    losses = torch.full_like(scores.losses, 0.9)
    losses[1, scores.chosen[1]] = 0.1  # the planted one, anchor 2, has the highest score
    found = choose(dataclasses.replace(scores, losses=losses), case.guide)
    assert [one.index for one in found.candidates if one.final] == [1]
    assert found.chosen.index == 1
    assert max(found.candidates, key=lambda one: one.score).index == 2


def test_the_shortlist_edits_two_boxes_in_full() -> None:
    case, tracker = Planted(), CostTracker()
    found = choose(learned(case, PLANS["shortlist"], tracker=tracker), case.guide, tracker=tracker)
    assert tracker.forward_equivalents["final edits"] == 2 * 74
    assert sum(one.final for one in found.candidates) == 2 and len(found.candidates) == 4
    assert PLANS["shortlist"].with_final_count(None).final_count == 2
    assert PLANS["shortlist"].with_final_count(3).final_count == 3


def test_edits_that_learning_made_in_full_are_no_previews_whoever_the_finalists_are() -> None:
    case = Planted(anchor=2)
    found = choose(learned(case, PLANS["full"].with_final_count(1)), case.guide)
    assert {steps for _, steps in case.editor.calls} == {None}  # the editor made nothing but full edits
    assert all(one.final for one in found.candidates)
    scores = [one.score for one in found.candidates]
    assert scores == sorted(scores, reverse=True)


def test_more_finalists_than_anchors_are_all_of_them() -> None:
    case = Planted()
    plan = EditPlan("p", (Round(steps=4),), final_count=9)
    assert all(one.final for one in choose(learned(case, plan), case.guide).candidates)


def test_random_boxes_are_edited_and_ranked_without_learning() -> None:
    case, tracker = Planted(), CostTracker()
    proposals = propose(torch.tensor(case.anchors), (16, 16), 8, (128, 128), sizes="random", seed=3)
    scores = learned(case, PLANS["screened"], proposals=proposals, tracker=tracker)
    assert tracker.total == 0
    found = choose(scores, case.guide, tracker=tracker)
    assert tracker.total == 4 * 74 and len(found.candidates) == 4
    assert torch.equal(scores.boxes, proposals.boxes[:, 0])


def test_a_cancel_while_choosing_leaves_the_scores_usable() -> None:
    case = Planted()
    scores = learned(case, PLANS["preview"])

    def progress(stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        if stage == "final edits" and step == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        choose(scores, case.guide, tracker=CostTracker(progress))
    again = choose(scores, case.guide)
    expected = choose(learned(Planted(), PLANS["preview"]), case.guide)
    assert [c.index for c in again.candidates] == [c.index for c in expected.candidates]


def test_a_result_is_frozen() -> None:
    case = Planted(m=1, box=0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        choose(learned(case), case.guide).candidates = ()  # type: ignore[misc]


@pytest.mark.parametrize("judge", ["learned", "scored"])
def test_edits_are_judged_by_the_prompt_whatever_the_editor_is_told(judge: str) -> None:
    told: list[str] = []

    class Telling(PaintingEditor):
        def edit(self, image, masks, prompt, seed, *, steps=None, tracker=None):
            told.append(prompt)
            return super().edit(image, masks, PROMPT, seed, steps=steps, tracker=tracker)

    case = Planted(anchor=1, box=2, editor=Telling())
    if judge == "learned":
        scores = learned(case, edit_prompt="red")
    else:
        scores = case.score(edit_prompt="red")
    torch.testing.assert_close(choose(scores, case.guide).image, case.right_edit)
    assert set(told) == {"red"}


def square_region(x0: int, y0: int, x1: int, y1: int) -> Tensor:
    region = torch.zeros(128, 128)
    region[y0:y1, x0:x1] = 1
    return region


@pytest.mark.parametrize("estimator", ["expected", "straight-through"])
def test_with_a_region_only_boxes_in_it_are_edited_in_full(estimator: str) -> None:
    # Anchor 3 in patch (12, 12), whose boxes are centred on (100, 100): its second box is 40 pixels wide.
    case, tracker = Planted(anchor=2), CostTracker()
    region = square_region(76, 76, 124, 124)
    scores = learned(case, PLANS["preview"], region_mask=region, estimator=estimator, tracker=tracker)
    assert scores.prior.in_region == (False, False, True, False)
    # Sides of 24, 40, 56, 64 and 72 (the last two clipped) on a place of 48 cover 576, 1600 and all 2304
    # pixels of it, and the last three have 832, 1792 and 2880 beyond: they fit by 0.143, 0.532, 0.917, 0.837
    # and 0.762. Near are those of 0.85 * 0.917 = 0.780 or more.
    assert scores.probabilities[2].gt(0).tolist() == [False, False, True, True, False]
    assert all(int(row.gt(0).sum()) == 1 for row in scores.probabilities[[0, 1, 3]])
    found = choose(scores, case.guide, tracker=tracker)
    # Anchor 3's edit, and three more takes in the same box in place of the other anchors' edits.
    assert tracker.forward_equivalents["final edits"] == 4 * 74
    assert sorted((one.index, one.edit.variant) for one in found.candidates) == [(0, 1), (1, 2), (2, 0), (3, 3)]
    assert all(one.final and one.edit.in_region for one in found.candidates)
    assert len({(one.box, one.anchor) for one in found.candidates}) == 1
    # A preview of each box in play: two of anchor 3, and one of every other.
    assert tracker.forward_equivalents["edits for learning"] == 5 * 4


def test_among_boxes_in_a_region_the_plan_says_how_many_are_edited_in_full() -> None:
    case, tracker = Planted(anchors=((11, 11), (12, 12), (13, 12), (0, 0)), anchor=1), CostTracker()
    region = square_region(72, 72, 120, 120)
    scores = learned(case, PLANS["shortlist"], region_mask=region, tracker=tracker)
    assert scores.prior.in_region == (True, True, True, False)
    found = choose(scores, case.guide, tracker=tracker)
    assert tracker.forward_equivalents["final edits"] == 2 * 74
    assert [one.final for one in found.candidates] == [True, True, False, False]
    assert {one.index for one in found.candidates[:2]} <= {0, 1, 2}
    assert [one.edit.variant for one in found.candidates] == [0] * 4 and not found.candidates[3].edit.in_region


class NoisyEditor(PaintingEditor):
    """Paints as `PaintingEditor` does, red of a strength that the seed decides."""

    seen: ClassVar[list[int]] = []

    def edit(self, image, masks, prompt, seed, *, steps=None, tracker=None):
        self.seen.append(seed)
        return super().edit(image, masks, prompt, seed, steps=steps, tracker=tracker) * (1 - 0.1 * (seed % 7))


def test_variants_start_from_other_noise_in_boxes_in_the_region_by_turns() -> None:
    case = Planted(anchors=((12, 12), (11, 12), (0, 0), (0, 15), (15, 0)), anchor=0, editor=NoisyEditor())
    scores = learned(case, PLANS["preview"], region_mask=square_region(76, 76, 124, 124), seed=2**64 - 1)
    assert scores.prior.in_region == (True, True, False, False, False)
    boxes = [tuple(box) for box in scores.boxes.tolist()]
    NoisyEditor.seen.clear()
    found = choose(scores, case.guide)
    assert sorted(NoisyEditor.seen) == [0, 1, 2**64 - 1]  # seeds go round
    by_index = {one.index: one for one in found.candidates}
    assert [by_index[i].edit.variant for i in range(5)] == [0, 0, 1, 1, 2]
    assert [by_index[i].box for i in range(5)] == [boxes[0], boxes[1], boxes[0], boxes[1], boxes[0]]
    assert bool((by_index[0].image != by_index[2].image).any())


REGION = (76, 76, 124, 124)
AROUND = (70, 70, 128, 128)
"""With an eighth of 48 pixels more on each side, as far as the image goes."""
CORNERS = ((12, 12), (0, 0), (0, 15), (15, 0))
"""Of which the first alone has boxes in `REGION`."""


def test_an_editor_with_nothing_at_random_makes_its_variants_and_then_those_in_the_box_of_the_region() -> None:
    editor = NoisyEditor(variants=2)
    case = Planted(anchors=(*CORNERS, (15, 15)), anchor=0, editor=editor)
    scores = learned(case, PLANS["preview"], region_mask=square_region(*REGION), seed=11)
    assert scores.prior.in_region == (True, False, False, False, False) and scores.prior.region_box == AROUND
    NoisyEditor.seen.clear()
    tracker = CostTracker()
    found = choose(scores, case.guide, tracker=tracker)
    # Its variants by number, whatever the seed, each in both boxes at once.
    assert NoisyEditor.seen == [0, 1] and tracker.forward_equivalents["final edits"] == 4 * 74
    by_index = {one.index: one for one in found.candidates}
    own = tuple(scores.boxes[0].tolist())
    assert own != AROUND
    assert [
        (by_index[i].box, by_index[i].edit.variant, by_index[i].edit.in_region, by_index[i].final) for i in range(5)
    ] == [
        (own, 0, True, True),
        (own, 1, True, True),
        (AROUND, 0, True, True),
        (AROUND, 1, True, True),
        (tuple(scores.boxes[4].tolist()), 0, False, False),
    ]
    assert [by_index[i].edit.source_anchor for i in range(5)] == [0, 0, None, None, 4]
    assert [by_index[i].edit.source_anchor is None for i in range(5)] == [False, False, True, True, False]
    assert by_index[2].anchor == (12, 12) and by_index[4].anchor == (15, 15)  # 100 // 8
    outside = 1 - square_region(*AROUND)
    assert bool((by_index[2].image == case.image)[..., outside > 0].all())
    assert bool((by_index[2].image != case.image)[..., outside == 0].any())


def test_an_editor_with_a_single_variant_edits_in_the_box_of_the_region_too() -> None:
    case, tracker = Planted(anchors=CORNERS, anchor=0, editor=PaintingEditor(variants=1)), CostTracker()
    scores = learned(case, PLANS["preview"], region_mask=square_region(*REGION), tracker=tracker)
    found = choose(scores, case.guide, tracker=tracker)
    assert tracker.forward_equivalents["final edits"] == 2 * 74
    assert sorted(
        (one.edit.in_region, one.final, one.edit.variant, one.edit.source_anchor is None) for one in found.candidates
    ) == [
        *[(False, False, 0, False)] * 2,
        (True, True, 0, False),
        (True, True, 0, True),
    ]


def test_a_region_whose_box_an_anchor_has_chosen_is_not_edited_twice() -> None:
    case, tracker = Planted(anchors=CORNERS, anchor=0, editor=PaintingEditor(variants=1)), CostTracker()
    scores = learned(case, PLANS["preview"], region_mask=square_region(*REGION), tracker=tracker)
    chosen = pixel_box(scores.boxes[0], scores.proposals.size)
    found = choose(
        dataclasses.replace(scores, prior=dataclasses.replace(scores.prior, region_box=chosen)),
        case.guide,
        tracker=tracker,
    )
    assert tracker.forward_equivalents["final edits"] == 74 and sum(one.final for one in found.candidates) == 1


def test_a_box_off_its_region_loses_by_as_much_as_it_does_not_fit() -> None:
    case = Planted(anchor=2)
    region = square_region(76, 76, 124, 124)
    plain = learned(case).losses
    both = learned(case, region_mask=region).losses
    scored = case.score(region_mask=region)
    added = torch.tensor([1 - 2304 / (2304 + 832 / 4), 1 - 2304 / (2304 + 1792 / 4)])
    torch.testing.assert_close((both - plain)[2, 2:4], added)
    assert bool(both[2, [0, 1, 4]].isnan().all())
    torch.testing.assert_close(scored.losses, both, equal_nan=True)
    assert scored.prior.in_region == (False, False, True, False)
    torch.testing.assert_close(scored.logits.isinf(), both.isnan())


def test_a_region_of_another_image_is_refused_before_any_edit() -> None:
    case, tracker = Planted(), CostTracker()
    with pytest.raises(ValueError, match="region_mask: got the shape"):
        learned(case, region_mask=torch.ones(64, 64), tracker=tracker)
    with pytest.raises(ValueError, match="region_mask: got an empty mask"):
        learned(case, region_mask=torch.zeros(128, 128), tracker=tracker)
    assert tracker.total == 0
