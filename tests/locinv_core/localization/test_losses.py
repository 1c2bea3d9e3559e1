"""LocInv's losses against cases worked out by hand, finite differences, and the paper's numbers."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pinpoint.locinv_core.localization.losses import (
    BINDING,
    DETECTION,
    SEGMENT,
    LocInvObjective,
    LossPreset,
    LossTerm,
    binding_loss,
    overlap_loss,
    preset_for,
    similarity_loss,
    word_maps,
)

E = 2.718281828459045
OFF = LossTerm(0.0, 1.0, 1.0)


def matrix(*rows: list[float]) -> Tensor:
    return torch.tensor(rows)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Positive float64 numbers that gradients are wanted of."""
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(*shape, generator=generator, dtype=torch.float64) + 0.05).requires_grad_()


def test_a_word_of_two_tokens_has_the_mean_of_their_maps() -> None:
    maps = matrix([0.1, 0.5, 0.2, 0.2], [0.4, 0.1, 0.1, 0.4])
    expected = matrix([0.5, 0.1], [0.2, 0.25])
    torch.testing.assert_close(word_maps(maps, [(1,), (2, 3)]), expected)


def test_word_maps_keeps_the_dimensions_in_front() -> None:
    maps = torch.rand(5, 3, 6, 7)
    words = word_maps(maps, [(2,), (4, 5)])
    assert words.shape == (5, 3, 2, 6)
    torch.testing.assert_close(words[:, :, 0], maps[..., 2])


def test_similarity_is_the_mean_over_words_of_one_minus_the_cosine() -> None:
    maps = matrix([0.3, 0.4], [0.2, 0.2])
    priors = matrix([1.0, 0.0], [1.0, 1.0])
    # cos = 0.6 and 1
    assert similarity_loss(maps, priors).item() == pytest.approx(0.2)


def test_overlap_is_the_mean_over_words_of_the_attention_outside_not_the_share_of_all_attention() -> None:
    maps = matrix([0.6, 0.2], [0.2, 0.2])
    priors = matrix([1.0, 0.0], [0.5, 0.0])
    # 1 − 0.6/0.8 = 0.25 and 1 − 0.1/0.4 = 0.75; pooled it would be 1 − 0.7/1.2.
    assert overlap_loss(maps, priors).item() == pytest.approx(0.5)


def test_binding_is_the_mean_over_pairs_of_one_minus_the_cosine() -> None:
    nouns = matrix([0.3, 0.4], [0.0, 0.7])
    adjectives = matrix([0.4, 0.3], [0.5, 0.0])
    # cos = 0.24/0.25 and 0
    assert binding_loss(nouns, adjectives).item() == pytest.approx(0.52)


@pytest.mark.parametrize("loss", [similarity_loss, overlap_loss, binding_loss])
def test_gradients_agree_with_finite_differences(loss) -> None:
    others = random(3, 7, seed=1).detach()
    assert torch.autograd.gradcheck(lambda maps: loss(maps, others), random(3, 7))


def test_the_objective_s_gradient_agrees_with_finite_differences() -> None:
    objective = LocInvObjective(
        [(2,), (4, 5)], random(2, 6, seed=1).detach().clamp(max=1), SEGMENT.with_binding(), [((4, 5), (3,))]
    )
    assert torch.autograd.gradcheck(lambda maps: objective(maps.softmax(-1), 3).total, random(6, 8))


@given(scale=st.floats(1e-4, 1e3), seed=st.integers(0, 50))
def test_losses_lie_between_0_and_1_and_do_not_depend_on_how_strong_the_attention_is(scale, seed) -> None:
    maps, priors = random(2, 9, seed=seed).detach(), random(2, 9, seed=seed + 100).detach().round()
    for loss in (similarity_loss, overlap_loss):
        value = loss(maps, priors).item()
        assert -1e-9 <= value <= 1 + 1e-9
        assert loss(maps * scale, priors).item() == pytest.approx(value)


@pytest.mark.parametrize("loss", [similarity_loss, overlap_loss, binding_loss])
def test_a_map_without_attention_gives_the_worst_loss_and_finite_gradients(loss) -> None:
    maps = torch.zeros(1, 4, requires_grad=True)
    value = loss(maps, torch.ones(1, 4))
    value.backward()
    assert value.item() == 1.0
    assert maps.grad is not None and bool(torch.isfinite(maps.grad).all())


@pytest.mark.parametrize(
    ("term", "step", "expected"),
    [
        (SEGMENT.similarity, 0, 0.7),
        (SEGMENT.similarity, 50, 0.7 / E),
        (SEGMENT.overlap, 0, 0.7),
        (SEGMENT.overlap, 10, 0.7 / E),
        (SEGMENT.overlap, 20, 0.7 / E**2),
        (DETECTION.similarity, 0, 0.5),
        (DETECTION.similarity, 25, 0.5 / E),
        (DETECTION.overlap, 0, 0.3),
        (DETECTION.overlap, 25, 0.3 / E),
        (BINDING, 0, 0.1),
        (BINDING, 50, 0.1 / E),
    ],
)
def test_thresholds_decay_from_the_paper_s_beta_by_its_alpha(term, step, expected) -> None:
    assert term.threshold(step) == pytest.approx(expected)


def test_weights_are_the_paper_s() -> None:
    assert (SEGMENT.similarity.weight, SEGMENT.overlap.weight) == (1.0, 1.0)
    assert (DETECTION.similarity.weight, DETECTION.overlap.weight) == (0.1, 1.0)
    assert SEGMENT.binding is None and DETECTION.binding is None
    assert SEGMENT.with_binding().binding == LossTerm(2.0, 50.0, 0.1)


def test_a_preset_is_chosen_by_the_kind_of_prior() -> None:
    assert preset_for("segment") is SEGMENT
    assert preset_for("detection") is DETECTION
    with pytest.raises(ValueError, match="'outline', requires one of segment, detection"):
        preset_for("outline")  # type: ignore[arg-type]


def two_cells(*columns: tuple[float, float]) -> Tensor:
    """Maps (2, L) of two cells; column 0 begins the text."""
    return torch.tensor([(0.0, 0.0), *columns]).T.contiguous()


def test_the_total_is_the_weighted_sum_and_the_terms_are_unweighted() -> None:
    # The word's map is (3, 4)/10: similarity 1 − 0.6, overlap 1 − 3/7.
    # The adjective's is (0, 1): binding 1 − 0.8.
    maps = two_cells((0.3, 0.4), (0.0, 1.0))
    preset = LossPreset(LossTerm(0.5, 10, 0.9), LossTerm(3.0, 10, 0.9), LossTerm(2.0, 10, 0.9))
    result = LocInvObjective([(1,)], matrix([1.0, 0.0]), preset, [((1,), (2,))])(maps, 0)
    assert {name: value.item() for name, value in result.terms.items()} == pytest.approx(
        {"similarity": 0.4, "overlap": 4 / 7, "binding": 0.2}
    )
    assert result.total.item() == pytest.approx(0.5 * 0.4 + 3 * 4 / 7 + 2 * 0.2)


def test_binding_is_left_out_without_pairs() -> None:
    maps = two_cells((0.3, 0.4))
    with_it = LocInvObjective([(1,)], matrix([1.0, 0.0]), SEGMENT.with_binding())(maps, 0)
    assert set(with_it.terms) == {"similarity", "overlap"}
    assert with_it.total.item() == pytest.approx(0.4 + 4 / 7)


@pytest.mark.parametrize(
    ("similarity_beta", "overlap_beta", "binding_beta", "satisfied"),
    [
        (0.41, 0.58, 0.21, True),
        (0.39, 0.58, 0.21, False),
        (0.41, 0.56, 0.21, False),
        (0.41, 0.58, 0.19, False),
    ],
)
def test_it_is_satisfied_only_if_every_loss_is_under_its_threshold(
    similarity_beta, overlap_beta, binding_beta, satisfied
) -> None:
    maps = two_cells((0.3, 0.4), (0.0, 1.0))  # the losses of the test above: 0.4, 0.571, 0.2
    preset = LossPreset(LossTerm(1, 10, similarity_beta), LossTerm(1, 10, overlap_beta), LossTerm(1, 10, binding_beta))
    objective = LocInvObjective([(1,)], matrix([1.0, 0.0]), preset, [((1,), (2,))])
    assert objective(maps, 0).satisfied is satisfied


def test_a_loss_of_weight_0_neither_counts_nor_has_a_threshold() -> None:
    maps = two_cells((0.3, 0.4))
    preset = LossPreset(LossTerm(1, 10, 0.41), LossTerm(0, 10, 0.01))
    result = LocInvObjective([(1,)], matrix([1.0, 0.0]), preset)(maps, 0)
    assert result.satisfied
    assert set(result.terms) == {"similarity"}
    assert result.total.item() == pytest.approx(0.4)


def test_what_satisfies_an_early_step_may_not_satisfy_a_later_one() -> None:
    maps = two_cells((0.3, 0.4))
    objective = LocInvObjective([(1,)], matrix([1.0, 0.0]), LossPreset(LossTerm(1, 10, 0.8), OFF))
    # 0.8·exp(−i/10) falls below 0.4 at i = 10·ln 2 = 6.93.
    assert objective(maps, 6).satisfied
    assert not objective(maps, 7).satisfied


def test_a_loss_at_its_threshold_is_not_yet_under_it() -> None:
    maps = two_cells((1.0, 1.0), (1.0, 1.0))
    preset = LossPreset(OFF, LossTerm(1.0, 10.0, 0.5))
    assert not LocInvObjective([(1,)], matrix([1.0, 0.0]), preset)(maps, 0).satisfied  # ΣA·S/ΣA is a half


def test_thresholds_are_held_against_the_mean_over_words() -> None:
    maps = two_cells((1.0, 0.0), (1.0, 0.0))
    priors = matrix([1.0, 0.0], [0.0, 1.0])  # overlap losses 0 and 1
    assert LocInvObjective([(1,), (2,)], priors, LossPreset(OFF, LossTerm(1, 10, 0.51)))(maps, 0).satisfied
    assert not LocInvObjective([(1,), (2,)], priors, LossPreset(OFF, LossTerm(1, 10, 0.49)))(maps, 0).satisfied


def test_a_word_without_a_prior_gets_no_gradient() -> None:
    maps = random(4, 5)
    LocInvObjective([(2,)], torch.tensor([[1.0, 1.0, 0.0, 0.0]]), SEGMENT)(maps, 0).total.backward()
    assert maps.grad is not None
    assert maps.grad[:, 2].abs().sum() > 0
    assert maps.grad[:, [0, 1, 3, 4]].abs().sum() == 0


def test_priors_made_inside_inference_mode_still_give_a_gradient() -> None:
    with torch.inference_mode():
        priors = matrix([1.0, 1.0, 0.0, 0.0])
    maps = torch.zeros(4, 3)
    maps[:, 1] = torch.tensor([0.1, 0.3, 0.4, 0.2])
    maps.requires_grad_()
    LocInvObjective([(1,)], priors, LossPreset(OFF, LossTerm(1, 10, 0.5)))(maps, 0).total.backward()
    assert maps.grad is not None
    # 1 − ΣAS/ΣA with ΣA = 1 and ΣAS = 0.4: its gradient is 0.4 − S.
    torch.testing.assert_close(maps.grad[:, 1], torch.tensor([-0.6, -0.6, 0.4, 0.4]))


def test_a_step_down_the_gradient_brings_the_attention_into_the_prior() -> None:
    scores = torch.zeros(16, 6, requires_grad=True)
    prior = torch.zeros(1, 16)
    prior[0, :4] = 1
    objective = LocInvObjective([(3,)], prior, SEGMENT)
    optimizer = torch.optim.Adam([scores], lr=0.2)
    for _ in range(60):
        optimizer.zero_grad()
        result = objective(scores.softmax(-1), 0)
        result.total.backward()
        optimizer.step()
    final = scores.detach().softmax(-1)[:, 3]
    assert result.satisfied
    assert (final[:4].sum() / final.sum()).item() > 0.9  # it was a quarter


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ((-1.0, 1, 1), "weight"),
        ((math.nan, 1, 1), "weight"),
        ((1, 0, 1), "alpha"),
        ((1, math.inf, 1), "alpha"),
        ((1, 1, 0), "beta"),
        ((1, 1, math.nan), "beta"),
    ],
)
def test_a_term_out_of_bounds_is_refused(values, name) -> None:
    with pytest.raises(ValueError, match=name):
        LossTerm(*values)


def test_a_preset_with_every_weight_0_is_refused() -> None:
    with pytest.raises(ValueError, match="every weight is 0"):
        LossPreset(OFF, OFF, OFF)


@pytest.mark.parametrize("groups", [[], [()], [(0,)], [(1,), (-1,)]])
def test_words_without_tokens_or_on_the_token_that_begins_the_text_are_refused(groups) -> None:
    with pytest.raises(ValueError, match="token groups"):
        word_maps(torch.rand(4, 5), groups)


def test_a_token_beyond_the_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="got the position 5, requires one below 5"):
        word_maps(torch.rand(4, 5), [(1, 5)])


@pytest.mark.parametrize("loss", [similarity_loss, overlap_loss, binding_loss])
def test_maps_and_priors_of_different_shapes_are_refused(loss) -> None:
    with pytest.raises(ValueError, match=r"\(2, 5\) for maps of \(2, 4\)"):
        loss(torch.rand(2, 4), torch.rand(2, 5))


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        (torch.ones(2, 4), "requires .* W = 1"),
        (torch.ones(4), "requires .* W = 1"),
        (torch.zeros(1, 4), "empty"),
        (torch.full((1, 4), 255.0), "outside 0 to 1"),
        (torch.tensor([[0.0, math.nan, 1.0, 1.0]]), "outside 0 to 1"),
    ],
)
def test_priors_that_do_not_fit_are_refused(priors, message) -> None:
    with pytest.raises(ValueError, match=message):
        LocInvObjective([(1,)], priors, SEGMENT)


def test_pairs_to_bind_without_a_binding_term_are_refused() -> None:
    with pytest.raises(ValueError, match="with_binding"):
        LocInvObjective([(1,)], torch.ones(1, 4), SEGMENT, [((1,), (2,))])


def test_a_preset_that_only_binds_requires_pairs() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        LocInvObjective([(1,)], torch.ones(1, 4), LossPreset(OFF, OFF, BINDING))
