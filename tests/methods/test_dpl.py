"""DPL's losses by hand and against SciPy's filters, and its background against planted objects."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import scipy.ndimage
import scipy.special
import torch
from torch import Tensor

from pinpoint.locinv_core.backbones.attention import AttentionControl
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion
from pinpoint.locinv_core.localization.losses import LossTerm
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.methods import dpl
from pinpoint.methods.dpl import (
    DPL,
    DPLObjective,
    DPLPreset,
    background_loss,
    background_mask,
    balance_loss,
    collect_background,
    disjoint_loss,
)

E = 2.718281828459045
OFF = LossTerm(0.0, 1.0, 1.0)
SIDE = 8
CELLS = SIDE * SIDE


def random_maps(cells: int, length: int, seed: int = 0) -> Tensor:
    """Rows of float64 probabilities."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(cells, length, generator=generator, dtype=torch.float64).softmax(-1)


def test_disjoint_is_the_mean_cosine_of_all_pairs() -> None:
    maps = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])
    # 1/√2, 0 and 1/√2
    assert disjoint_loss(maps).item() == pytest.approx(2 * 0.5**0.5 / 3)


def test_background_is_the_mean_cosine_with_the_mask() -> None:
    maps = torch.tensor([[0.3, 0.4], [0.0, 0.2]])
    assert background_loss(maps, torch.tensor([1.0, 0.0])).item() == pytest.approx(0.3)  # 0.6 and 0


def test_attention_without_preference_leaves_each_word_one_share_among_those_that_count() -> None:
    # Six tokens, of which the first and the last take no part.
    maps = torch.full((9, 6), 1 / 6)
    assert balance_loss(maps, [(1,), (3,)], (3, 3)).item() == pytest.approx(1 - 1 / 4)


def test_balance_agrees_with_scipy_s_softmax_and_gaussian_filter() -> None:
    rows, columns, length = 5, 7, 9
    groups = [(1,), (3, 4), (6,)]
    maps = random_maps(rows * columns, length) / 20  # so that sharpening does not saturate
    tokens = scipy.special.softmax(100 * maps.numpy()[:, 1:-1], axis=-1)
    peaks = []
    for group in groups:
        image = np.mean([tokens[:, position - 1] for position in group], axis=0).reshape(rows, columns)
        smooth = scipy.ndimage.gaussian_filter(image, sigma=0.5**0.5, radius=1, mode="mirror")
        peaks.append(smooth.max())
    assert balance_loss(maps, groups, (rows, columns)).item() == pytest.approx(1 - min(peaks), abs=1e-9)


def test_balance_is_that_of_the_word_with_the_lowest_peak() -> None:
    maps = torch.zeros(9, 5)
    maps[4, 1] = 1.0  # the first word looks at the middle, the second nowhere in particular
    first, second = (balance_loss(maps, [(position,)], (3, 3)).item() for position in (1, 2))
    assert first < second
    assert balance_loss(maps, [(1,), (2,)], (3, 3)).item() == pytest.approx(second)


@pytest.mark.parametrize("name", ["disjoint", "background", "balance", "objective"])
def test_gradients_agree_with_finite_differences(name) -> None:
    background = torch.tensor([1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    groups = [(1,), (3, 4)]
    objective = DPLObjective(groups, (3, 3), background)
    losses = {
        "disjoint": lambda maps: disjoint_loss(maps.T),
        "background": lambda maps: background_loss(maps.T, background),
        "balance": lambda maps: balance_loss(maps, groups, (3, 3)),
        "objective": lambda maps: objective(maps, 0).total,
    }
    maps = (random_maps(9, 7) / 20).requires_grad_()
    assert torch.autograd.gradcheck(losses[name], maps)


def test_maps_without_attention_give_finite_losses_and_gradients() -> None:
    maps = torch.zeros(9, 6, requires_grad=True)
    result = DPLObjective([(1,), (2,)], (3, 3), torch.tensor([1.0] * 4 + [0.0] * 5))(maps, 0)
    result.total.backward()
    assert bool(torch.isfinite(result.total))
    assert maps.grad is not None and bool(torch.isfinite(maps.grad).all())


@pytest.mark.parametrize(
    ("term", "step", "expected"),
    [
        (DPL.balance, 0, 0.3),
        (DPL.balance, 25, 0.3 / E),
        (DPL.background, 0, 0.7),
        (DPL.background, 50, 0.7 / E),
        (DPL.disjoint, 0, 0.9),
        (DPL.disjoint, 25, 0.9 / E),
    ],
)
def test_thresholds_are_the_authors(term, step, expected) -> None:
    assert term.threshold(step) == pytest.approx(expected)


def test_weights_are_the_authors() -> None:
    assert (DPL.balance.weight, DPL.background.weight, DPL.disjoint.weight) == (1.0, 0.05, 0.05)


def hand_maps() -> Tensor:
    """Four cells and five tokens; the words at 1 and 2 have the maps (.3, .4, 0, 0) and (0, .5, 0, 0)."""
    maps = torch.zeros(4, 5)
    maps[:, 1] = torch.tensor([0.3, 0.4, 0.0, 0.0])
    maps[:, 2] = torch.tensor([0.0, 0.5, 0.0, 0.0])
    return maps


def test_the_total_is_the_weighted_sum_of_the_three() -> None:
    preset = DPLPreset(LossTerm(1, 10, 0.9), LossTerm(10, 10, 0.9), LossTerm(100, 10, 0.9))
    maps = hand_maps()
    result = DPLObjective([(1,), (2,)], (2, 2), torch.tensor([1.0, 0.0, 0.0, 0.0]), preset)(maps, 0)
    balance = balance_loss(maps, [(1,), (2,)], (2, 2)).item()
    # disjoint: 0.2/(0.5·0.5) = 0.8; background: (0.6 + 0)/2 = 0.3
    assert result.terms["disjoint"].item() == pytest.approx(0.8)
    assert result.terms["background"].item() == pytest.approx(0.3)
    assert result.total.item() == pytest.approx(balance + 10 * 0.3 + 100 * 0.8)


@pytest.mark.parametrize(
    ("background_beta", "disjoint_beta", "satisfied"),
    [(0.31, 0.81, True), (0.29, 0.81, False), (0.31, 0.79, False)],
)
def test_it_is_satisfied_only_if_every_loss_is_under_its_threshold(background_beta, disjoint_beta, satisfied) -> None:
    preset = DPLPreset(LossTerm(1, 10, 2), LossTerm(1, 10, background_beta), LossTerm(1, 10, disjoint_beta))
    objective = DPLObjective([(1,), (2,)], (2, 2), torch.tensor([1.0, 0.0, 0.0, 0.0]), preset)
    assert objective(hand_maps(), 0).satisfied is satisfied


def test_a_single_noun_has_nothing_to_be_disjoint_from() -> None:
    result = DPLObjective([(1,)], (2, 2), torch.tensor([1.0, 0.0, 0.0, 0.0]))(hand_maps(), 0)
    assert set(result.terms) == {"balance", "background"}


def test_a_background_found_inside_inference_mode_still_gives_a_gradient() -> None:
    with torch.inference_mode():
        background = torch.tensor([1.0, 0.0, 0.0, 0.0])
    maps = hand_maps().requires_grad_()
    preset = DPLPreset(OFF, LossTerm(1, 10, 0.9), OFF)
    DPLObjective([(1,)], (2, 2), background, preset)(maps, 0).total.backward()
    assert maps.grad is not None
    # cos = 0.6 and |A| = 0.5: b/|A| − cos·A/|A|² = (2 − 0.72, −0.96)
    torch.testing.assert_close(maps.grad[:, 1], torch.tensor([1.28, -0.96, 0.0, 0.0]))


@pytest.mark.parametrize("background", [None, torch.zeros(4), torch.ones(4)])
def test_a_background_of_nothing_or_of_everything_is_left_out(background) -> None:
    result = DPLObjective([(1,), (2,)], (2, 2), background)(hand_maps(), 0)
    assert set(result.terms) == {"balance", "disjoint"}


def planted() -> tuple[dict[str, Tensor], Tensor]:
    """Regions of an 8×8 image by name, and a self-attention (N, N) that stays mostly within them."""
    index = torch.full((SIDE, SIDE), 0)  # sky
    index[5:] = 1  # ground
    index[1:4, 1:4] = 2  # cat
    index[4:7, 5:8] = 3  # boat
    flat = index.flatten()
    generator = torch.Generator().manual_seed(3)
    scores = 4.0 * (flat[:, None] == flat[None, :]) + 0.3 * torch.randn(CELLS, CELLS, generator=generator)
    regions = {name: (flat == k).float() for k, name in enumerate(["sky", "ground", "cat", "boat"])}
    return regions, scores.softmax(-1)


def test_the_background_is_what_no_noun_attends_to() -> None:
    regions, self_attention = planted()
    nouns = torch.stack([regions["cat"], regions["boat"]]) * 0.3 + 0.02 + 0.02 * torch.rand(2, CELLS)
    expected = regions["sky"] + regions["ground"]
    torch.testing.assert_close(background_mask(self_attention, nouns, clusters=4), expected)


def test_more_clusters_than_regions_still_find_the_planted_background() -> None:
    regions, self_attention = planted()
    nouns = torch.stack([regions["cat"], regions["boat"]]) * 0.3 + 0.02
    expected = regions["sky"] + regions["ground"]
    torch.testing.assert_close(background_mask(self_attention, nouns, clusters=7), expected)


def test_a_region_that_only_one_noun_attends_to_is_no_background() -> None:
    regions, self_attention = planted()
    nouns = torch.stack([regions["cat"], regions["ground"]])
    expected = regions["sky"] + regions["boat"]
    torch.testing.assert_close(background_mask(self_attention, nouns, clusters=4), expected)


def test_the_threshold_is_on_the_mean_of_the_map_between_its_lowest_and_its_highest() -> None:
    regions, self_attention = planted()
    # On the ground (0.4 − 0.1)/0.5 = 0.6, on the cat (0.5 − 0.1)/0.5 = 0.8, elsewhere 0.
    nouns = (0.1 + 0.3 * regions["ground"] + 0.4 * regions["cat"])[None]
    below = background_mask(self_attention, nouns, clusters=4, threshold=0.59)
    above = background_mask(self_attention, nouns, clusters=4, threshold=0.61)
    torch.testing.assert_close(below, regions["sky"] + regions["boat"])
    torch.testing.assert_close(above, regions["sky"] + regions["boat"] + regions["ground"])


def test_the_background_is_the_same_every_time() -> None:
    generator = torch.Generator().manual_seed(0)
    self_attention = torch.rand(CELLS, CELLS, generator=generator).softmax(-1)
    nouns = torch.rand(2, CELLS, generator=generator)
    first = background_mask(self_attention, nouns, threshold=0.5)
    assert bool(((first == 0) | (first == 1)).all())
    assert torch.equal(first, background_mask(self_attention, nouns, threshold=0.5))


def test_nouns_without_attention_leave_everything_to_the_background() -> None:
    _, self_attention = planted()
    assert bool((background_mask(self_attention, torch.zeros(2, CELLS)) == 1).all())


STEPS = 10
GROUPS = [(2,), (4, 5)]


@pytest.fixture(name="inversion")
def _inversion(tiny_model: EditModel) -> Inversion:
    """Random pivots on latents of 16×24, in ten steps."""
    generator = torch.Generator().manual_seed(0)
    return Inversion(
        latents=torch.randn(STEPS + 1, 4, 16, 24, generator=generator),
        timesteps=tiny_model.schedule.timesteps(STEPS),
        prompt=parse_prompt("a cat beside a boat", tiny_model.tokenizer, nouns=["cat", "boat"]),
        fingerprint=tiny_model.fingerprint,
    )


class Everything(AttentionControl):
    """Keeps every layer's probabilities by the layer's name."""

    def __init__(self) -> None:
        self.seen: dict[str, Tensor] = {}

    def needs_probabilities(self, layer) -> bool:
        return True

    def probabilities(self, layer, probabilities):
        self.seen[layer.name] = probabilities
        return probabilities


def test_the_background_is_collected_from_full_passes_worth_of_attention(tiny_model, inversion, monkeypatch) -> None:
    given: list[Tensor] = []

    def keep(self_attention: Tensor, noun_maps: Tensor) -> Tensor:
        given.extend([self_attention, noun_maps])
        return noun_maps[0]

    monkeypatch.setattr(dpl, "background_mask", keep)
    collect_background(tiny_model, inversion, GROUPS, passes=2)

    # The middle of each half of ten steps, in passes that nothing stops.
    rows, columns = tiny_model.map_layers[0].grid(16, 24)
    self_maps: list[Tensor] = []
    cross_maps: list[Tensor] = []
    for step in (2, 7):
        control = Everything()
        context = tiny_model.encode_prompt(inversion.prompt)
        with torch.no_grad():
            tiny_model.predict_noise(inversion.pivot(step), inversion.timesteps[step], context, control=control)
        for name, seen in control.seen.items():
            if seen.shape[2] == rows * columns and "mid_block" not in name:
                (self_maps if "attn1" in name else cross_maps).append(seen[0].mean(dim=0))
    cross = torch.stack(cross_maps).mean(dim=0)
    nouns = torch.stack([cross[:, 2], cross[:, 4:6].mean(dim=1)])
    torch.testing.assert_close(given[0], torch.stack(self_maps).mean(dim=0))
    torch.testing.assert_close(given[1], nouns)


def test_collecting_counts_its_early_stopped_passes_under_its_own_stage(tiny_model, inversion) -> None:
    reports: list[tuple[str, int, int]] = []
    tracker = CostTracker(progress=lambda stage, step, steps, preview: reports.append((stage, step, steps)))
    mask = collect_background(tiny_model, inversion, GROUPS, passes=3, tracker=tracker)
    rows, columns = tiny_model.map_layers[0].grid(16, 24)
    assert mask.shape == (rows * columns,)
    assert bool(((mask == 0) | (mask == 1)).all())
    share = tiny_model.share(tiny_model.map_layers[-1], 16, 24)
    assert 0 < share < 1
    assert tracker.forward_equivalents == pytest.approx({"background": 3 * share})
    assert reports == [("background", 1, 3), ("background", 2, 3), ("background", 3, 3)]


def test_more_passes_than_steps_are_one_a_step(tiny_model, inversion) -> None:
    seen: list[Tensor] = []
    tracker = CostTracker(progress=lambda stage, step, steps, preview: seen.append(preview))
    collect_background(tiny_model, inversion, GROUPS, passes=50, tracker=tracker)
    assert len(seen) == STEPS
    assert all(not torch.equal(a, b) for a, b in pairwise(seen))


def test_an_inversion_of_another_model_is_refused(tiny_model, tiny_v_model, inversion) -> None:
    with pytest.raises(ValueError, match="fingerprint"):
        collect_background(tiny_v_model, inversion, GROUPS)


def test_no_passes_or_no_nouns_are_refused(tiny_model, inversion) -> None:
    with pytest.raises(ValueError, match="passes: got 0"):
        collect_background(tiny_model, inversion, GROUPS, passes=0)
    with pytest.raises(ValueError, match="token groups: got none"):
        collect_background(tiny_model, inversion, [])


def test_a_preset_with_every_weight_0_is_refused() -> None:
    with pytest.raises(ValueError, match="every weight is 0"):
        DPLPreset(OFF, OFF, OFF)


def test_disjoint_alone_requires_two_nouns() -> None:
    objective = DPLObjective([(1,)], (2, 2), preset=DPLPreset(OFF, OFF, LossTerm(1, 1, 1)))
    with pytest.raises(ValueError, match="requires at least one"):
        objective(hand_maps(), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], (3, 3)), "token groups"),
        (([(0,)], (3, 3)), "token groups"),
        (([(1,)], (1, 9)), "grid: got 1x9"),
        (([(1,)], (3, 3), torch.ones(3, 3)), r"background: .* requires \(9,\)"),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(arguments, message) -> None:
    with pytest.raises(ValueError, match=message):
        DPLObjective(*arguments)


def test_losses_refuse_maps_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="at least two words"):
        disjoint_loss(torch.rand(1, 4))
    with pytest.raises(ValueError, match="background"):
        background_loss(torch.rand(2, 4), torch.rand(5))
    with pytest.raises(ValueError, match="grid: got 3x3"):
        balance_loss(torch.rand(8, 5), [(1,)], (3, 3))
    with pytest.raises(ValueError, match="from 4 on"):
        balance_loss(torch.rand(9, 5), [(4,)], (3, 3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"self_attention": torch.rand(4, 5)}, "self-attention"),
        ({"noun_maps": torch.rand(2, 5)}, "noun maps"),
        ({"noun_maps": torch.rand(0, 4)}, "noun maps"),
        ({"clusters": 1}, "clusters: got 1, requires 2 to 4"),
        ({"clusters": 5}, "clusters: got 5, requires 2 to 4"),
        ({"threshold": 1.0}, "threshold"),
    ],
)
def test_background_mask_refuses_what_does_not_fit(changes, message) -> None:
    arguments = {
        "self_attention": torch.rand(4, 4),
        "noun_maps": torch.rand(2, 4),
        "clusters": 2,
        "threshold": 0.2,
    }
    with pytest.raises(ValueError, match=message):
        background_mask(**{**arguments, **changes})
