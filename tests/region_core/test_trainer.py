"""Learning that reaches the network, on a planted case whose right box is known."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import pytest
import torch
from torch import Tensor

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.estimators import Expected
from pinpoint.region_core.losses import CompositeLoss, LossWeights
from pinpoint.region_core.proposals import box_masks, propose, roi_features
from pinpoint.region_core.region_network import RegionNetwork
from pinpoint.region_core.scorer import choose
from pinpoint.region_core.search.base import Judgement
from pinpoint.region_core.search.plans import PLANS, EditPlan, Round
from pinpoint.region_core.trainer import (
    LearningSettings,
    RegionScores,
    RegionTask,
    learn_regions,
    standardised,
    train_network,
)
from pinpoint.tests.fixtures.planted import CAPTION, PROMPT, Planted
from pinpoint.tests.fixtures.tiny_encoders import tiny_clip


def learn(case: Planted, **options: Any) -> RegionScores:
    return case.learn(**options)


def true_losses(case: Planted) -> Tensor:
    """The loss of every box's edit, (K, M), each painted and judged by itself."""
    loss = CompositeLoss(case.guide, case.image, PROMPT, CAPTION)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    rows = []
    for boxes in case.proposals.pixel_boxes():
        images = [torch.where(box_masks([box], (128, 128)) > 0, red, case.image) for box in boxes]
        rows.append(torch.cat([loss(picture) for picture in images]))
    return torch.stack(rows)


# Training


def test_parameters_move_and_the_loss_falls() -> None:
    case = Planted()
    losses = true_losses(case).detach()
    for estimator in ("expected", "straight-through"):
        scores = learn(case, estimator=estimator)
        before = RegionNetwork(24, 5, seed=0).state_dict()
        assert all(bool((scores.network[name] != before[name]).any()) for name in before)
        assert len(scores.loss_curve) == 50
        first, last = (sum(part) / 10 for part in (scores.loss_curve[:10], scores.loss_curve[-10:]))
        assert last < first
        # The curve is of the composite loss itself: it lies among the boxes' losses.
        lowest, highest = float(losses.min(1).values.mean()), float(losses.max(1).values.mean())
        assert all(lowest - 1e-4 <= loss <= highest + 1e-4 for loss in scores.loss_curve)


@pytest.mark.parametrize("box", [0, 2, 4])
@pytest.mark.parametrize("estimator", ["expected", "straight-through"])
def test_the_network_picks_the_planted_box(estimator: str, box: int) -> None:
    scores = learn(Planted(box=box), estimator=estimator)
    assert scores.chosen[0] == box
    assert scores.boxes[0].tolist() == Planted().proposals.boxes[0, box].tolist()
    assert float(scores.probabilities[0, box]) > 0.5


def test_the_expected_estimator_finds_the_best_box_of_every_anchor() -> None:
    for anchor, box in ((0, 2), (1, 3), (3, 1)):
        case = Planted(anchor=anchor, box=box)
        best, scores = true_losses(case), learn(case)
        torch.testing.assert_close(scores.losses, best, atol=1e-5, rtol=1e-4)
        reached = best.gather(1, torch.tensor(scores.chosen)[:, None])[:, 0]
        torch.testing.assert_close(reached, best.min(dim=1).values, atol=0.01, rtol=0)


def test_without_exploration_anchors_that_differ_run_together() -> None:
    generator = torch.Generator().manual_seed(0)
    found = {}
    for exploration in (0.0, 1.0):
        gaps = []
        for seed in range(4):
            maps = torch.randn(24, 16, 16, generator=generator.manual_seed(seed))
            losses = torch.rand(8, 7, generator=generator)
            cells = torch.stack([torch.randperm(16, generator=generator)[:8] for _ in range(2)], dim=1)
            boxes = propose(cells, (16, 16), 8, (128, 128)).boxes
            scores = learn_from(maps, boxes, losses, LearningSettings(exploration=exploration, seed=seed))
            gaps.append(float((scores - losses.min(dim=1).values).mean()))
        found[exploration] = sum(gaps) / len(gaps)
    assert found[1.0] < 0.02 and found[1.0] < found[0.0]


def learn_from(maps: Tensor, boxes: Tensor, losses: Tensor, settings: LearningSettings) -> Tensor:
    """Train on losses (K, M) that are known, and give the loss of each anchor's choice, (K,)."""
    pooled = roi_features(standardised(maps), boxes, 8)
    network = RegionNetwork(24, 7, seed=settings.seed)
    judged = Judgement(losses, torch.ones_like(losses, dtype=torch.bool))
    train_network(network, pooled, Expected(judged, settings.exploration), settings)
    with torch.no_grad():
        chosen = network(pooled).argmax(dim=1, keepdim=True)
    return losses.gather(1, chosen)[:, 0]


@pytest.mark.parametrize("plan", sorted(PLANS))
@pytest.mark.parametrize("estimator", ["expected", "straight-through"])
def test_every_plan_finds_the_planted_box_with_both_estimators(estimator: str, plan: str) -> None:
    # The painter needs no steps to paint, so that cheap edits are as good as full ones.
    scores = learn(Planted(), estimator=estimator, plan=PLANS[plan])
    assert scores.chosen[0] == 2 and scores.search.steps == PLANS[plan].rounds[-1].steps


def test_boxes_that_a_plan_has_dropped_cannot_be_chosen() -> None:
    plan = EditPlan("h", (Round(steps=4, keep=0.4), Round(steps=8)))
    scores = learn(Planted(), plan=plan)
    dropped = scores.logits == -math.inf
    assert dropped.sum(dim=1).tolist() == [3, 3, 3, 3]  # 2 of 5 stay
    assert bool((scores.probabilities[dropped] == 0).all())
    assert not any(bool(dropped[i, j]) for i, j in enumerate(scores.chosen))
    assert not bool(scores.losses.isnan().any())


def test_straight_through_edits_only_what_it_draws_each_box_once() -> None:
    case = Planted()
    scores = learn(case, estimator="straight-through", epochs=1, iterations=2, plan=PLANS["preview"])
    edited = scores.edits.made()
    assert set(edited) == {3} and 1 <= edited[3] <= 8 == 2 * len(case.anchors)
    assert int((~scores.losses.isnan()).sum()) <= 8
    assert len(case.editor.calls) == edited[3]


def test_losses_of_what_straight_through_drew_are_those_of_its_edits() -> None:
    case = Planted()
    scores = learn(case, estimator="straight-through", epochs=1, iterations=3)
    seen = ~scores.losses.isnan()
    assert bool(seen.any())
    torch.testing.assert_close(scores.losses[seen], true_losses(case)[seen], atol=1e-4, rtol=1e-3)


def test_the_papers_estimator_as_it_is_learns_from_clip_alone() -> None:
    # On the structure loss of this case its linear guess leads away from the planted box.
    weights = LossWeights(clip=1, structure=0, direction=0)
    scores = learn(Planted(), estimator="straight-through", remember=False, weights=weights)
    assert scores.chosen[0] == 2


def test_the_published_algorithm_runs_with_nothing_of_ours() -> None:
    case = Planted()
    weights = LossWeights(clip=1, structure=0, direction=0)
    settings = LearningSettings(estimator="straight-through", remember=False, weights=weights)
    task = RegionTask(case.image, CAPTION, PROMPT)
    scores = learn_regions(task, case.proposals, case.features, case.editor, case.guide, settings)
    found = choose(scores, case.guide)
    assert {steps for _, steps in case.editor.calls} == {None}  # all edits are in full
    assert [one.edit.source_anchor for one in found.candidates] == [one.index for one in found.candidates]
    assert found.chosen.score == max(one.score for one in found.candidates)
    assert found.chosen.index == 0 and scores.chosen[0] == 2
    torch.testing.assert_close(found.image, case.right_edit)


def test_a_real_clip_guides_too() -> None:
    case = Planted(m=3)
    scores = learn(case, clip=tiny_clip(), caption="a grey wall", prompt="a red square on a grey wall")
    assert scores.loss_curve[-1] < scores.loss_curve[0]


def test_one_box_an_anchor_leaves_nothing_to_learn_and_nothing_is_edited() -> None:
    case = Planted(m=1, box=0)
    scores = learn(case)
    assert scores.chosen == (0, 0, 0, 0) and scores.loss_curve == ()
    assert case.editor.calls == []


def test_a_seed_fixes_everything_and_torchs_own_numbers_are_left_alone() -> None:
    for estimator in ("expected", "straight-through"):
        torch.manual_seed(3)
        expected = torch.rand(2)
        torch.manual_seed(3)
        first, again = (learn(Planted(), estimator=estimator, seed=7) for _ in range(2))
        assert torch.equal(torch.rand(2), expected)
        assert torch.equal(first.logits, again.logits) and first.loss_curve == again.loss_curve
        other = learn(Planted(), estimator=estimator, seed=8)
        assert not torch.equal(first.logits, other.logits)


def test_temperature_rate_epochs_and_exploration_have_an_effect() -> None:
    plain = learn(Planted(), estimator="straight-through", epochs=1)
    for changed in ({"temperature": 0.3}, {"lr": 1e-3}, {"iterations": 5}, {"remember": False}):
        options = {"estimator": "straight-through", "epochs": 1, **changed}
        assert not torch.equal(plain.logits, learn(Planted(), **options).logits)
    assert not torch.equal(learn(Planted()).logits, learn(Planted(), exploration=0.0).logits)


def test_features_are_brought_to_mean_zero_and_deviation_one() -> None:
    maps = torch.rand(3, 5, 6) * torch.tensor([1.0, 10, 0]).view(3, 1, 1) + 4
    found = standardised(maps)
    torch.testing.assert_close(found.mean(dim=(1, 2)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(found.std(dim=(1, 2), correction=0)[:2], torch.ones(2))
    assert bool(torch.isfinite(found).all())


# Inside other programs


def test_it_learns_inside_a_callers_inference_mode_and_changes_none_of_its_tensors() -> None:
    with torch.inference_mode():
        case = Planted()
        image, features = case.image, case.features
        kept = image.clone(), features.features.clone()
        scores = learn(case, image=image, features=features)
    assert scores.chosen[0] == 2
    assert torch.equal(image, kept[0]) and torch.equal(features.features, kept[1])


def test_progress_and_cost_are_booked_by_stage() -> None:
    seen: dict[str, list[tuple[int, int]]] = {}

    def progress(stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        seen.setdefault(stage, []).append((step, steps))

    tracker = CostTracker(progress)
    learn(Planted(), tracker=tracker)
    assert [step for step, _ in seen["learning"]] == list(range(1, 51))
    assert seen["judging"][-1] == (20, 20)
    assert tracker.forward_equivalents["edits for learning"] == 20 * 74 == tracker.total


def test_the_seconds_of_learning_are_those_of_its_losses_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(time, "perf_counter", lambda: now)

    def objective(logits: Tensor, done: float) -> tuple[Tensor, float]:
        nonlocal now
        now += 2.0  # what a loss takes
        return logits.square().mean(), 0.0

    tracker = CostTracker()
    pooled = torch.randn(2, 3 * 4, 7, 7, generator=torch.Generator().manual_seed(0))
    train_network(RegionNetwork(4, 3), pooled, objective, LearningSettings(epochs=1, iterations=5), tracker=tracker)
    assert tracker.seconds == {"learning": 5 * 2.0}


@pytest.mark.parametrize("where", ["edits for learning", "judging", "learning"])
@pytest.mark.parametrize("estimator", ["expected", "straight-through"])
def test_a_cancel_anywhere_leaves_nothing_broken(estimator: str, where: str) -> None:
    case = Planted()
    plan = PLANS["screened"]
    expected = learn(Planted(), estimator=estimator, plan=plan)

    def progress(stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        if stage == where and step >= 2:
            raise InterruptedError

    torch.manual_seed(1)
    numbers = torch.rand(2)
    torch.manual_seed(1)
    with pytest.raises(InterruptedError):
        learn(case, estimator=estimator, plan=plan, tracker=CostTracker(progress))
    assert torch.equal(torch.rand(2), numbers)
    again = learn(case, estimator=estimator, plan=plan)
    assert torch.equal(again.logits, expected.logits)


def test_scores_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        learn(Planted(m=1, box=0)).loss_curve = ()  # type: ignore[misc]


# What is refused, before anything is edited


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs: got 0"),
        ({"iterations": 0}, "iterations: got 0"),
        ({"lr": 0.0}, "lr: got 0.0"),
        ({"lr": math.nan}, "lr: got nan"),
        ({"temperature": 0.0}, "temperature: got 0.0"),
        ({"exploration": -1.0}, "exploration: got -1.0"),
        ({"estimator": "reinforce"}, "estimator: got 'reinforce', requires one of expected, straight-through"),
        ({"batch": 0}, "batch: got 0"),
        ({"edit_prompt": " "}, "edit prompt is empty"),
    ],
)
def test_settings_out_of_bounds_are_refused(options: dict, message: str) -> None:
    case = Planted()
    with pytest.raises(ValueError, match=message):
        learn(case, **options)
    assert case.editor.calls == []


@pytest.mark.parametrize("name", ["caption", "prompt"])
def test_texts_that_clip_would_cut_are_refused_before_any_edit(name: str) -> None:
    case = Planted()
    texts = {"caption": "a cat", "prompt": "a fox", name: "very " * 80}
    with pytest.raises(ValueError, match=f"{name} is too long"):
        learn(case, clip=tiny_clip(), **texts)
    assert case.editor.calls == []


@pytest.mark.parametrize("estimator", ["expected", "straight-through"])
def test_a_learning_rate_that_overflows_is_refused_as_soon_as_it_has(estimator: str) -> None:
    with pytest.raises(ValueError, match=r"lr: got 1e\+30, .* no longer finite, requires a smaller one"):
        learn(Planted(), estimator=estimator, lr=1e30)


def test_an_image_or_features_of_another_size_are_refused() -> None:
    case = Planted()
    with pytest.raises(ValueError, match="image: got the shape"):
        learn(case, image=case.image[..., :64])
    small = dataclasses.replace(case.features, attention=torch.rand(8, 8), features=torch.rand(24, 8, 8), size=(64, 64))
    with pytest.raises(ValueError, match=r"features: got a grid of \(8, 8\)"):
        learn(case, features=small)


# Scoring, with nothing learned


def test_each_box_has_the_loss_of_its_own_edit_and_the_least_is_chosen() -> None:
    case = Planted(anchor=1, box=2)
    scores = case.score()
    assert scores.chosen[1] == 2
    loss = CompositeLoss(case.guide, case.image, PROMPT, CAPTION)
    red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
    for anchor, boxes in enumerate(case.proposals.pixel_boxes()):
        painted = torch.where(box_masks(boxes, (128, 128)) > 0, red, case.image)
        expected = loss(painted)
        torch.testing.assert_close(scores.losses[anchor], expected, atol=1e-5, rtol=0)
        assert scores.chosen[anchor] == int(expected.argmin())
    torch.testing.assert_close(scores.logits, -scores.losses)
    assert scores.loss_curve == () and scores.network == {}


def test_choosing_goes_on_with_the_edits_that_scoring_made() -> None:
    case = Planted(anchor=0, box=1)
    scores = case.score()
    calls = len(case.editor.calls)
    found = choose(scores, case.guide)
    assert len(case.editor.calls) == calls
    assert found.chosen.index == 0
    torch.testing.assert_close(found.image, case.right_edit)


def test_boxes_that_a_plan_has_dropped_are_not_chosen_by_score() -> None:
    scores = Planted().score(plan=PLANS["halving"])
    dropped = scores.logits.isneginf()
    assert bool(dropped.any()) and not bool(dropped.all(dim=1).any())
    assert all(not dropped[anchor, box] for anchor, box in enumerate(scores.chosen))
    assert not bool(scores.losses.isnan().any())


def test_one_box_an_anchor_is_taken_without_an_edit() -> None:
    case = dataclasses.replace(Planted(), box=0, m=1)
    tracker = CostTracker()
    scores = case.score(tracker=tracker)
    assert scores.chosen == (0, 0, 0, 0) and case.editor.calls == [] and tracker.total == 0
    assert bool(scores.losses.isnan().all())


def test_the_image_of_other_proposals_is_refused_before_any_edit() -> None:
    case = Planted()
    with pytest.raises(ValueError, match=r"image: got the shape \(1, 3, 64, 128\)"):
        case.score(image=torch.zeros(1, 3, 64, 128))
    with pytest.raises(ValueError, match="caption"):
        case.score(caption=PROMPT)
    assert case.editor.calls == []
