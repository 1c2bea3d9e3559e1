"""The region network's shape, and the Gumbel choice: what it draws, and the gradient it passes on."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from pinpoint.region_core.region_network import RegionNetwork, gumbel_choice


def test_the_network_is_two_convolutions_and_two_linear_layers_with_relu_between() -> None:
    kinds = [type(layer) for layer in RegionNetwork(5, 3).layers if not isinstance(layer, nn.Flatten)]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.Conv2d, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]


def test_it_maps_the_joined_features_of_each_anchor_to_a_logit_for_each_box() -> None:
    network = RegionNetwork(5, 3)
    pooled = torch.randn(4, 15, 7, 7, generator=torch.Generator().manual_seed(0))
    logits = network(pooled)
    assert logits.shape == (4, 3)
    torch.testing.assert_close(network(pooled[2:3]), logits[2:3])


def test_no_box_is_nearly_certain_before_training_however_many_features_there_are() -> None:
    for features in (8, 768):
        pooled = torch.randn(8, 7 * features, 7, 7, generator=torch.Generator().manual_seed(1))
        scores = RegionNetwork(features, 7)(pooled).softmax(dim=-1).detach()
        assert float(scores.max()) < 0.5 and float(scores.min()) > 0.02


def test_a_seed_fixes_the_weights_and_leaves_torchs_own_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (RegionNetwork(4, 2, seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_a_network_without_features_or_boxes_is_refused() -> None:
    for features, boxes in ((0, 3), (3, 0)):
        with pytest.raises(ValueError, match="region network: got"):
            RegionNetwork(features, boxes)


def test_choices_are_one_hot_forward() -> None:
    choice = gumbel_choice(torch.zeros(6, 4), generator=torch.Generator().manual_seed(0))
    assert choice.shape == (6, 4)
    torch.testing.assert_close(choice.sum(dim=-1), torch.ones(6))
    assert sorted(choice.flatten().round(decimals=6).unique().abs().tolist()) == [0, 1]


def test_boxes_are_drawn_as_often_as_their_softmax_scores_say() -> None:
    scores = torch.tensor([0.5, 0.3, 0.15, 0.05])
    for temperature in (0.5, 2.0):  # the temperature shapes the gradient, not the draw
        drawn = gumbel_choice(scores.log().expand(20000, 4), temperature, torch.Generator().manual_seed(0)).mean(dim=0)
        # The deviation of a share is at most √(0.25/20000) = 0.0035.
        torch.testing.assert_close(drawn, scores, atol=0.015, rtol=0)


def test_the_gradient_is_the_softmaxs_at_the_noise_that_was_drawn() -> None:
    logits = torch.tensor([[0.3, -0.2, 0.9]], dtype=torch.float64, requires_grad=True)
    uniform = torch.rand(1, 3, generator=torch.Generator().manual_seed(7)).double()
    noise = torch.tensor([[-math.log(-math.log(u)) for u in uniform[0].tolist()]], dtype=torch.float64)
    temperature, weights = 0.7, torch.tensor([[1.0, 2.0, -1.0]], dtype=torch.float64)

    choice = gumbel_choice(logits, temperature, torch.Generator().manual_seed(7))
    (choice * weights).sum().backward()

    y = F.softmax((logits.detach() + noise) / temperature, dim=-1)[0]
    jacobian = (torch.diag(y) - torch.outer(y, y)) / temperature
    assert choice.argmax() == y.argmax()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0], jacobian @ weights[0], atol=1e-5, rtol=1e-5)


def test_a_soft_choice_is_the_softmax_both_ways() -> None:
    logits = torch.tensor([[0.3, -0.2, 0.9]])
    soft = gumbel_choice(logits, 0.7, torch.Generator().manual_seed(7), hard=False)
    assert 0 < float(soft.min()) and float(soft.max()) < 1
    torch.testing.assert_close(soft.sum(), torch.tensor(1.0))


def test_a_low_temperature_nears_one_hot() -> None:
    logits, generator = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)), torch.Generator()
    cold = gumbel_choice(logits, 0.01, generator.manual_seed(1), hard=False)
    warm = gumbel_choice(logits, 5.0, generator.manual_seed(1), hard=False)
    assert float(cold.max(dim=-1).values.mean()) > 0.97 > 0.5 > float(warm.max(dim=-1).values.mean())


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_that_is_none_is_refused(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature: got"):
        gumbel_choice(torch.zeros(1, 2), temperature)
