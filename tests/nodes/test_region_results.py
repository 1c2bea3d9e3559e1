"""What region nodes hand on: choices that change nothing that came in, and cost nothing the second time."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
import torch

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.nodes.bridge.payloads import RANKINGS, JudgedRegions, expected_cost, finished, picked
from pinpoint.nodes.bridge.ui_payloads import bounding_box, candidate_rows, region_rows
from pinpoint.region_core.proposals import propose
from pinpoint.region_core.scorer import choose
from pinpoint.region_core.search.budget import BudgetedSearch
from pinpoint.region_core.search.plans import PLANS
from pinpoint.tests.fixtures.planted import Planted


class Holder:
    """A `Managed` without ComfyUI."""

    def __init__(self, value):
        self.value = value


def judged(case, plan="preview", finalists=None):
    scores = case.score(plan=PLANS[plan].with_final_count(finalists))
    return JudgedRegions(scores, Holder(case.guide), Holder(case.editor))


def test_ranking_is_the_core_s_and_leaves_what_came_in_as_it_was():
    case = Planted(anchor=1, box=2)
    regions = judged(case)
    before = regions.scores.edits.made()
    assert not regions.has_ranked(2.0, 1.0)
    found = regions.ranked(2.0, 1.0, case.editor, CostTracker())
    assert regions.scores.edits.made() == before and regions.has_ranked(2.0, 1.0)
    wanted = choose(judged(Planted(anchor=1, box=2)).scores, case.guide)
    assert [one.index for one in found.candidates] == [one.index for one in wanted.candidates]
    for ours, theirs in zip(found.candidates, wanted.candidates, strict=True):
        assert torch.equal(ours.image, theirs.image) and ours.score == theirs.score


def test_asking_again_makes_no_edit_and_other_weights_begin_afresh():
    case = Planted()
    regions = judged(case, finalists=2)
    first = regions.ranked(2.0, 1.0, case.editor, CostTracker())
    calls = len(case.editor.calls)
    assert regions.ranked(2.0, 1.0, case.editor, CostTracker()) is first
    assert len(case.editor.calls) == calls
    other = regions.ranked(0.0, 1.0, case.editor, CostTracker())
    alone = judged(Planted(), finalists=2).ranked(0.0, 1.0, Planted().editor, CostTracker())
    assert candidate_rows(other.candidates) == candidate_rows(alone.candidates)


def test_edits_are_kept_for_the_last_few_weights_alone():
    case = Planted()
    regions = judged(case)
    weights = [(2.0, float(beta)) for beta in range(RANKINGS + 2)]
    first = candidate_rows(regions.ranked(*weights[0], case.editor, CostTracker()).candidates)
    for pair in weights[1:]:
        regions.ranked(*pair, case.editor, CostTracker())
    assert [regions.has_ranked(*pair) for pair in weights] == [False] * 2 + [True] * RANKINGS
    assert candidate_rows(regions.ranked(*weights[0], case.editor, CostTracker()).candidates) == first


def test_a_choice_is_an_anchor_s_number_and_nothing_is_the_best():
    case = Planted()
    found = judged(case).ranked(2.0, 1.0, case.editor, CostTracker())
    assert picked(found, 0) is found.candidates[0]
    assert [picked(found, number).index for number in (1, 2, 3, 4)] == [0, 1, 2, 3]
    for number in (-1, 5):
        with pytest.raises(ValueError, match=f"choice: got {number}, requires an anchor from 1 to 4"):
            picked(found, number)


def test_a_preview_that_is_chosen_is_edited_in_full():
    case = Planted()
    found = judged(case, finalists=1).ranked(2.0, 1.0, case.editor, CostTracker())
    preview = found.candidates[-1]
    assert not preview.final
    calls = len(case.editor.calls)
    done = finished(preview, found.scores.edits, CostTracker())
    assert done.final and len(case.editor.calls) == calls + 1 and case.editor.calls[-1][1] is None
    assert finished(found.candidates[0], found.scores.edits, CostTracker()) is found.candidates[0]


def test_what_the_browser_gets_is_plain_json_with_every_box():
    case = Planted()
    regions = judged(case, plan="halving")
    rows = region_rows(case.proposals, regions.scores)
    # NaN is no JSON: this raises where there is one, and nothing else of Python's gets lost on the way.
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    assert [row["anchor"] for row in rows] == [1, 2, 3, 4]
    assert rows[1]["boxes"] == [list(box) for box in case.proposals.pixel_boxes()[1]]
    assert sum(rows[2]["probabilities"]) == pytest.approx(1.0, abs=1e-6)
    assert rows[0]["chosen"] == regions.scores.chosen[0]
    single = Planted(box=0, m=1)
    assert region_rows(single.proposals, judged(single).scores)[0]["losses"] == [None]
    found = regions.ranked(2.0, 1.0, case.editor, CostTracker())
    assert all(math.isfinite(row["score"]) for row in candidate_rows(found.candidates))


class OfAnySize(Planted):
    """One box an anchor, whose sides lie between pixels."""

    @property
    def proposals(self):
        return propose(torch.tensor(self.anchors), (16, 16), 8, (128, 128), sizes="random", seed=3)


def test_a_candidate_s_box_is_where_its_edit_is_also_where_sides_lie_between_pixels():
    case = OfAnySize(box=0)
    assert any(side % 1 for side in case.proposals.boxes.flatten().tolist())
    regions = judged(case)
    found = regions.ranked(2.0, 1.0, case.editor, CostTracker())
    shown = {row["anchor"]: row["boxes"][0] for row in region_rows(case.proposals, regions.scores)}
    for one, row in zip(found.candidates, candidate_rows(found.candidates), strict=True):
        assert (row["take"], row["placed"]) == (row["variant"], row["in_region"])  # the names that they had
        rows, columns = (one.image != case.image).any(dim=1)[0].nonzero(as_tuple=True)
        ends = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
        assert row["box"] == ends == list(shown[row["anchor"]])


def test_the_expected_cost_is_that_of_the_finalists():
    case = Planted()
    assert expected_cost(judged(case, finalists=3).scores, lambda steps: 10.0) == 30.0
    assert expected_cost(judged(case).scores, lambda steps: 10.0) == 40.0


def test_an_editor_of_few_takes_is_expected_to_edit_boxes_near_the_place_alone_and_so_often():
    case = Planted()
    scores = judged(case).scores
    placed = replace(scores, prior=replace(scores.prior, in_region=(True, True, True, False)))
    assert expected_cost(placed, lambda steps: 10.0) == 40.0  # it has another variant for the anchor that is far
    object.__setattr__(case.editor, "variants", 1)
    assert expected_cost(placed, lambda steps: 10.0) == 30.0
    object.__setattr__(case.editor, "variants", 2)
    assert (
        expected_cost(
            replace(placed, prior=replace(placed.prior, in_region=(True, False, False, False))), lambda steps: 10.0
        )
        == 20.0
    )
    object.__setattr__(case.editor, "variants", 3)
    assert (
        expected_cost(
            replace(placed, prior=replace(placed.prior, in_region=(True, False, False, False))), lambda steps: 10.0
        )
        == 30.0
    )
    assert (
        expected_cost(replace(placed, search=BudgetedSearch(PLANS["preview"].with_final_count(2))), lambda steps: 10.0)
        == 20.0
    )
    assert expected_cost(replace(placed, prior=replace(placed.prior, in_region=None)), lambda steps: 10.0) == 40.0


def test_a_box_in_comfyui_s_terms():
    assert bounding_box((3.0, 5.0, 10.0, 6.0)) == {"x": 3, "y": 5, "width": 7, "height": 1}
