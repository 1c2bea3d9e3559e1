"""The estimators of the gradient, exact and straight-through, against finite differences and by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pinpoint.region_core.estimators import (
    Expected,
    expected_loss,
    straight_through_image,
    straight_through_losses,
)
from pinpoint.region_core.losses import CompositeLoss, LossWeights
from pinpoint.region_core.proposals import box_masks
from pinpoint.region_core.region_network import RegionNetwork, gumbel_choice
from pinpoint.region_core.search.base import Judgement
from pinpoint.tests.fixtures.planted import CAPTION, PROMPT, Planted


def test_the_expected_loss_is_the_sum_of_scores_times_losses_mean_over_anchors() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]]))
    losses = torch.tensor([[1.0, 2.0, 4.0], [3.0, 0.0, 1.0]])
    # 0.5 + 0.5 + 1 = 2 and 0.3 + 0 + 0.7 = 1.
    torch.testing.assert_close(expected_loss(logits, losses), torch.tensor(1.5))


def test_boxes_out_of_play_have_no_part_in_the_expected_loss() -> None:
    logits = torch.tensor([[0.0, -math.inf, 0.0]], requires_grad=True)
    loss = expected_loss(logits, torch.tensor([[1.0, 100.0, 3.0]]))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(2.0)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.5, 0.0, 0.5]]))


def test_the_expected_gradient_is_finite_differences_through_the_whole_network() -> None:
    generator = torch.Generator().manual_seed(0)
    pooled = torch.randn(2, 12, 7, 7, generator=generator, dtype=torch.float64)
    losses = torch.rand(2, 3, generator=generator, dtype=torch.float64)
    network = RegionNetwork(4, 3).double()
    expected_loss(network(pooled), losses).backward()
    checked = 0
    for weight in network.parameters():
        assert weight.grad is not None and bool((weight.grad != 0).any())
        flat, slope = weight.data.view(-1), weight.grad.view(-1)
        for index in slope.abs().argsort(descending=True)[:3].tolist():
            kept, values = float(flat[index]), []
            for step in (1e-6, -1e-6):
                flat[index] = kept + step
                values.append(float(expected_loss(network(pooled), losses).detach()))
            flat[index] = kept
            assert (values[0] - values[1]) / 2e-6 == pytest.approx(float(slope[index]), rel=1e-4, abs=1e-9)
            checked += 1
    assert checked >= 20


# Straight-through


def test_the_straight_through_image_is_the_drawn_boxs_and_the_mask_composites_it() -> None:
    case = Planted()
    boxes = case.proposals.pixel_boxes()[0]
    masks = box_masks(boxes, (128, 128))
    edit, source = torch.rand(1, 3, 128, 128), case.image
    images = (masks * edit + (1 - masks) * source)[None]
    hard = straight_through_image(torch.tensor([[0.0, 0, 1, 0, 0]]), images)
    assert torch.equal(hard, images[:, 2])
    soft = torch.tensor([[0.1, 0.4, 0.2, 0.2, 0.1]])
    m = (soft[0, :, None, None, None] * masks).sum(dim=0)
    torch.testing.assert_close(straight_through_image(soft, images)[0], (m * edit + (1 - m) * source)[0])


class OneAnchor:
    """The boxes of one anchor of the planted case, each painted by itself, and what there is to know of them.

    opacity: how much of the paint covers. A faint edit changes the loss by little, and almost linearly; all
    but L_Dir, which knows no size, and is left out then.
    """

    def __init__(self, opacity: float) -> None:
        case = Planted(anchors=((4, 4),))
        red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
        masks = box_masks(case.proposals.pixel_boxes()[0], (128, 128)) * opacity
        self.images = (masks * red + (1 - masks) * case.image)[None]
        guide = case.guide
        guide.meanings[PROMPT] = self.images[:, 2]
        weights = LossWeights(1.0, 1.0, 0.0) if opacity < 1 else LossWeights()
        self.loss = CompositeLoss(guide, case.image, PROMPT, CAPTION, weights)
        self.losses = self.loss(self.images[0]).detach()[None]
        self.logits = torch.tensor([[0.3, -0.2, 0.1, 0.4, -0.5]])

    def finite_differences(self) -> Tensor:
        """The slope of Σ π_j·L_j, written out, in each logit, (5,)."""

        def objective(at: Tensor) -> float:
            weights = [math.exp(v) for v in at.tolist()]
            values = self.losses[0].tolist()
            return sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)

        logits = self.logits[0].double()
        steps = 1e-5 * torch.eye(5, dtype=torch.float64)
        return torch.tensor([(objective(logits + s) - objective(logits - s)) / 2e-5 for s in steps])

    def straight_through(self, *, losses: Tensor | None = None, draws: int = 200) -> Tensor:
        """The mean of the estimator's gradient over draws, (5,); with `losses`, as if it remembered them."""
        logits = self.logits.clone().requires_grad_(True)
        generator = torch.Generator().manual_seed(0)
        for _ in range(draws):
            choice = gumbel_choice(logits, 1.0, generator)
            if losses is None:
                loss = self.loss(straight_through_image(choice, self.images)).mean()
            else:
                loss = (choice * losses).sum()
            (loss / draws).backward()
        assert logits.grad is not None
        return logits.grad[0]


def agreement(gradient: Tensor, slopes: Tensor) -> float:
    return float(torch.cosine_similarity(gradient, slopes, dim=0))


def test_the_expected_gradient_is_finite_differences() -> None:
    case = OneAnchor(1.0)
    logits = case.logits.double().requires_grad_(True)
    expected_loss(logits, case.losses.double()).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0].float(), case.finite_differences(), atol=1e-6, rtol=1e-4)


def test_straight_through_agrees_in_direction_with_finite_differences() -> None:
    case = OneAnchor(1.0)
    assert agreement(case.straight_through(), case.finite_differences()) > 0.3


def test_straight_through_agrees_closely_where_the_edit_is_faint() -> None:
    case = OneAnchor(0.02)
    assert agreement(case.straight_through(), case.finite_differences()) > 0.9


def test_straight_through_agrees_closely_with_losses_that_it_remembers() -> None:
    case = OneAnchor(1.0)
    assert agreement(case.straight_through(losses=case.losses), case.finite_differences()) > 0.9


def test_the_guess_at_every_box_has_the_losss_own_gradient() -> None:
    case = OneAnchor(1.0)
    for drawn in range(5):
        choices = []
        for guessed in (False, True):
            logits = case.logits.clone().requires_grad_(True)
            soft = logits.softmax(dim=-1)
            choice = F.one_hot(torch.tensor([drawn]), 5) + soft - soft.detach()
            if guessed:
                losses, guesses = straight_through_losses(torch.tensor([drawn]), case.images, case.loss)
                torch.testing.assert_close(losses, case.losses[:, drawn])
                torch.testing.assert_close(guesses[:, drawn], losses)
                (choice * guesses).sum().backward()
            else:
                case.loss(straight_through_image(choice, case.images)).sum().backward()
            choices.append(logits.grad)
        torch.testing.assert_close(choices[0], choices[1], atol=1e-5, rtol=1e-3)


def test_exploration_rewards_entropy_at_first_and_not_at_all_at_the_end() -> None:
    losses = torch.tensor([[1.0, 3.0, 2.0]])
    judged = Judgement(losses, torch.tensor([[True, True, False]]))
    logits = torch.tensor([[math.log(0.25), math.log(0.75), -math.inf]])
    minimised, loss = Expected(judged, exploration=0.5)(logits, 0.5)
    # π = (1/4, 3/4): Σ π·L = 2.5, H = ln 4 − 3/4·ln 3. The losses in play, 1 and 3, deviate by √2.
    entropy = math.log(4) - 0.75 * math.log(3)
    assert loss == pytest.approx(2.5)
    assert float(minimised) == pytest.approx(2.5 - 0.5 * math.sqrt(2) * 0.5 * entropy)
    assert float(Expected(judged, exploration=0.5)(logits, 1.0)[0]) == pytest.approx(2.5)
    assert float(Expected(judged, exploration=0.0)(logits, 0.0)[0]) == pytest.approx(2.5)


def test_exploration_sends_no_gradient_to_boxes_out_of_play() -> None:
    judged = Judgement(torch.tensor([[1.0, 3.0, 2.0]]), torch.tensor([[True, True, False]]))
    logits = torch.zeros(1, 3, requires_grad=True)
    Expected(judged, exploration=1.0)(logits.masked_fill(~judged.considered, -math.inf), 0.0)[0].backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[-0.5, 0.5, 0.0]]))
