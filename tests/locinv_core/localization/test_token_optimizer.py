"""Token tuning: its gradient, its two solvers, its cost, and Algorithm 1 in both orders."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from pinpoint.locinv_core.backbones.attention import MapReader, QueryReader
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.inversion.ddim_inversion import ddim_invert
from pinpoint.locinv_core.inversion.null_text import NullTextSettings
from pinpoint.locinv_core.localization.algorithm1 import LocInvSettings, locinv
from pinpoint.locinv_core.localization.attention_maps import maps_before_and_after
from pinpoint.locinv_core.localization.losses import Objective
from pinpoint.locinv_core.localization.plan import TuningPlan, bindings_of_edit, placed_bindings, plan_tuning
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.localization.token_optimizer import TokenOptimizer, TuningSettings, maps_from_queries
from pinpoint.locinv_core.pipeline import EditRequest, localized_edit
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.locinv_core.text.word_alignment import align
from pinpoint.methods.registry import recipe_named

STEPS = 4


class NeverSatisfied:
    """An objective that requires the attention of one token at one cell, and more of it always."""

    def __init__(self, token, cell):
        self.token, self.cell = token, cell

    def __call__(self, maps, step):
        loss = 1 - maps[self.cell, self.token]
        return Objective(loss, {"cell": loss.detach()}, False)


class SatisfiedAtOnce:
    def __call__(self, maps, step):
        return Objective(maps.sum(), {}, True)


@pytest.fixture(name="prompt", scope="module")
def _prompt(tiny_model):
    return parse_prompt("a red cat and a dog", tiny_model.tokenizer)


@pytest.fixture(name="inversion", scope="module")
def _inversion(tiny_model, prompt):
    z = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    return ddim_invert(tiny_model, z, prompt, STEPS)


@pytest.fixture(name="share", scope="module")
def _share(tiny_model):
    return tiny_model.share(tiny_model.map_layers[-1], 32, 32)


def optimized(model, inversion, plan, settings=None, tracker=None):
    """The inversion with its tokens optimized, and nothing else."""
    settings = LocInvSettings(null_method="none", tokens=settings or TuningSettings())
    return locinv(model, inversion, plan, settings, tracker=tracker)


CAT_AT_A_CELL = TuningPlan((3,), NeverSatisfied(3, 40))


def cat_prior():
    return from_boxes({"cat": (16, 16, 64, 64)}, (128, 128))


def test_exact_tuning_costs_one_stopped_forward_and_its_backward_an_inner_step(tiny_model, inversion, prompt, share):
    tracker = CostTracker()
    settings = TuningSettings("exact", inner_steps=3)
    optimized(tiny_model, inversion, CAT_AT_A_CELL, settings, tracker)
    assert 0 < share < 1
    assert tracker.forward_equivalents["tokens"] == pytest.approx(STEPS * 3 * 3 * share)


def test_fast_tuning_costs_one_stopped_forward_a_timestep(tiny_model, inversion, share):
    tracker = CostTracker()
    settings = TuningSettings("fast", inner_steps=7)
    optimized(tiny_model, inversion, CAT_AT_A_CELL, settings, tracker)
    assert tracker.forward_equivalents["tokens"] == pytest.approx(STEPS * share)


@pytest.mark.parametrize(("inner_steps", "refreshes"), [(6, 2), (10, 5), (7, 6)])
def test_each_refresh_of_the_queries_costs_one_stopped_forward_more(
    tiny_model, inversion, share, inner_steps, refreshes
):
    tracker = CostTracker()
    settings = TuningSettings("fast", inner_steps=inner_steps, refreshes=refreshes)
    optimized(tiny_model, inversion, CAT_AT_A_CELL, settings, tracker)
    assert tracker.forward_equivalents["tokens"] == pytest.approx(STEPS * (1 + refreshes) * share)


def test_a_satisfied_objective_leaves_the_vectors_alone(tiny_model, inversion, prompt):
    tuned = optimized(tiny_model, inversion, TuningPlan((3, 6), SatisfiedAtOnce()))
    table = tiny_model.text_encoder.get_input_embeddings().weight
    expected = table[[prompt.token_ids[3], prompt.token_ids[6]]]
    assert torch.equal(tuned.token_vectors, expected.expand(STEPS, 2, -1))


class Scripted:
    """An objective whose values are told beforehand: what it was given is kept, to look at afterwards."""

    def __init__(self, values):
        self.values, self.calls = values, 0

    def __call__(self, maps, step):
        value = self.values[self.calls]
        self.calls += 1
        return Objective(maps.sum() * 0 + value + (maps - maps.detach()).max(), {}, False)


@pytest.mark.parametrize(
    ("values", "kept"),
    [((5.0, 2.0, 3.0, 4.0), 1), ((1.0, 2.0, 3.0, 4.0), 0), ((5.0, 4.0, 3.0, 2.0), 3)],
)
def test_fast_tuning_keeps_the_vectors_of_the_least_loss(tiny_model, inversion, prompt, values, kept):
    """Long steps overshoot. Three inner steps go through four sets of vectors, the last one judged too."""

    first = replace(inversion, latents=inversion.latents[-2:], timesteps=inversion.timesteps[:1])
    start = tiny_model.token_vectors([prompt.token_ids[3]])

    def tuned(inner_steps, script):
        settings = TuningSettings("fast", inner_steps=inner_steps, learning_rate=5.0, anneal=False)
        return optimized(tiny_model, first, TuningPlan((3,), Scripted(script)), settings).token_vectors[0]

    found = tuned(3, values)
    # What so many inner steps come to, each one better than the last.
    expected = tuned(kept, range(kept + 1, 0, -1)) if kept else start
    torch.testing.assert_close(found, expected)
    assert kept == 0 or not torch.equal(found, start)


@pytest.mark.parametrize(("anneal", "shares"), [(True, (1.0, 0.75, 0.25)), (False, (1.0, 1.0, 1.0))])
def test_steps_grow_shorter_along_half_a_cosine(tiny_model, inversion, prompt, anneal, shares):
    """Of three inner steps: cos 0, cos 60° and cos 120° are 1, 1/2 and −1/2. Adam under a constant slope
    moves every coordinate by the rate itself."""
    settings = TuningSettings("fast", inner_steps=3, learning_rate=2.0, anneal=anneal)
    tokens = TokenOptimizer(tiny_model, prompt, (3,), settings)
    tokens.start_timestep(inversion.pivot(0), inversion.timesteps[0])
    values = [tokens.vectors.detach().clone()]
    for _ in range(3):
        tokens.descend(tokens.vectors.sum())
        values.append(tokens.vectors.detach().clone())
    steps = [float((before - after).mean()) for before, after in pairwise(values)]
    assert steps == pytest.approx([2.0 * tiny_model.embedding_scale * share for share in shares], rel=1e-4)


def test_only_the_first_share_of_the_timesteps_is_tuned(tiny_model, inversion):
    settings = TuningSettings("fast", inner_steps=2, share=0.5)
    vectors = optimized(tiny_model, inversion, CAT_AT_A_CELL, settings).token_vectors
    assert not torch.equal(vectors[0], vectors[1])
    assert torch.equal(vectors[1], vectors[2]) and torch.equal(vectors[2], vectors[3])


def test_the_gradient_through_the_unet_is_that_of_finite_differences(tiny_model, inversion, prompt):
    objective = NeverSatisfied(3, 40)
    tokens = TokenOptimizer(tiny_model, prompt, (3,), TuningSettings("exact"))
    tokens.start_timestep(inversion.pivot(1), inversion.timesteps[1])

    def loss(vectors):
        tokens.vectors = vectors
        return objective(tokens.attention_maps(), 0).total

    vectors = tokens.vectors
    (gradient,) = torch.autograd.grad(loss(vectors), vectors)
    direction = torch.nn.functional.normalize(gradient, dim=-1)
    step = 0.05
    with torch.no_grad():
        slope = (loss(vectors + step * direction) - loss(vectors - step * direction)) / (2 * step)
    assert float(slope) == pytest.approx(float((gradient * direction).sum()), rel=0.02)


def test_maps_from_frozen_queries_are_the_maps_of_the_pass_that_they_come_from(tiny_model, inversion, prompt):
    context = tiny_model.encode_prompt(prompt)
    maps, queries = MapReader(tiny_model.map_layers), QueryReader(tiny_model.map_layers)
    with torch.no_grad():
        for reader in (maps, queries):
            tiny_model.capture(inversion.pivot(0), inversion.timesteps[0], context, reader)
        torch.testing.assert_close(maps_from_queries(tiny_model, queries.queries, context), maps.mean())


@pytest.mark.parametrize("solver", ["exact", "fast"])
def test_tuning_moves_attention_into_the_prior(tiny_model, inversion, prompt, solver):
    prior = cat_prior()
    plan = plan_tuning(prompt, prior, (16, 16))
    assert plan.positions == (3,)
    settings = TuningSettings(solver, inner_steps=10, learning_rate=0.5)
    tuned = optimized(tiny_model, inversion, plan, settings)
    before, after = maps_before_and_after(tiny_model, tuned, ["cat"])
    place = prior.resample("cat", (16, 16))

    def inside(word_map):
        return float((word_map * place).sum() / word_map.sum())

    # a random UNet hardly looks at its prompt: a flat map has 0.14 inside, and the best there is is near 0.15
    assert inside(after["cat"]) > 1.03 * inside(before["cat"])


def test_tuning_leaves_the_model_bit_for_bit_and_works_inside_inference_mode(tiny_model, inversion, prompt):
    parts = (tiny_model.unet, tiny_model.text_encoder)
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]
    plan = plan_tuning(prompt, cat_prior(), (16, 16))
    with torch.inference_mode():
        optimized(tiny_model, inversion, plan, TuningSettings("exact", 2))
    for part, weights in zip(parts, before, strict=True):
        assert all(torch.equal(weights[k], v) for k, v in part.state_dict().items())


@pytest.mark.parametrize("name", ["locinv", "dpl"])
def test_a_whole_edit_inside_inference_mode_is_the_edit_outside_of_it(tiny_model, name):
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(4))
    request = EditRequest(
        image,
        "a red cat and a dog",
        "a red fox and a dog",
        from_boxes({"cat": (0, 0, 32, 40)}, (64, 64)),
        recipe=recipe_named(name),
        steps=2,
        tuning=TuningSettings("exact", 2),
        null_text=NullTextSettings(inner_steps=1),
    )
    outside = localized_edit(tiny_model, request)
    with torch.inference_mode():
        inside = localized_edit(tiny_model, request)
    torch.testing.assert_close(inside.edited.clone(), outside.edited)


def test_with_a_cheap_null_method_both_orders_of_algorithm_1_are_the_same(tiny_model, inversion, prompt):
    plan = plan_tuning(prompt, cat_prior(), (16, 16))
    one, other = (
        locinv(tiny_model, inversion, plan, LocInvSettings(interleaved=order, tokens=TuningSettings("fast", 3)))
        for order in (True, False)
    )
    assert one.token_vectors is not None and other.token_vectors is not None
    assert torch.equal(one.token_vectors, other.token_vectors)


def test_the_two_orders_differ_as_far_as_null_text_leaves_the_pivots(tiny_model, inversion, prompt):
    """The first step is at z_T in both; from then on one tunes at z̄_t and the other at z_t."""
    plan = plan_tuning(prompt, cat_prior(), (16, 16))
    context = tiny_model.encode_prompt(prompt)

    def drift_and_difference(guidance):
        results = [
            locinv(
                tiny_model,
                inversion,
                plan,
                LocInvSettings(
                    guidance,
                    "null-text",
                    order,
                    TuningSettings("fast", 3),
                    NullTextSettings(inner_steps=1, learning_rate=1e-9, tolerance=0.0),
                ),
            )
            for order in (True, False)
        ]
        interleaved, along_pivots = results
        assert torch.equal(interleaved.token_vectors[0], along_pivots.token_vectors[0])
        contexts = [result.context(tiny_model, STEPS - 1) for result in results]
        difference = (contexts[0] - contexts[1]).abs().max() / (contexts[1] - context).abs().max()
        return float((interleaved.trajectory - inversion.latents).square().mean().sqrt()), float(difference)

    near, far = drift_and_difference(1.0), drift_and_difference(8.0)
    assert near[0] < far[0]
    assert 0 < near[1] < far[1]


def test_an_attribute_edit_binds_its_adjective_and_a_word_swap_does_not(tiny_model, prompt):
    prior = cat_prior()
    attribute = parse_prompt("a blue cat and a dog", tiny_model.tokenizer)
    swap = parse_prompt("a red fox and a dog", tiny_model.tokenizer)
    assert bindings_of_edit(prompt, align(prompt, attribute), prior) == (("red", "cat"),)
    assert bindings_of_edit(prompt, align(prompt, swap), prior) == ()
    assert bindings_of_edit(prompt, align(prompt, attribute), None) == ()


def test_a_noun_that_has_its_place_as_part_of_a_phrase_is_bound_too(tiny_model):
    prompt = parse_prompt(
        "a red mountain lion and a black dog",
        tiny_model.tokenizer,
        nouns=["lion", "dog"],
        bindings=[("red", "mountain lion"), ("black", "dog")],
    )
    prior = from_boxes({"mountain lion": (16, 16, 64, 64)}, (128, 128))
    assert placed_bindings(prompt, prior) == (("red", "lion"),)


def test_a_bound_adjective_is_tuned_along_with_its_noun(prompt):
    plan = plan_tuning(prompt, cat_prior(), (16, 16), [("red", "cat")])
    assert plan.positions == (2, 3)


@pytest.mark.parametrize(
    "bad",
    [
        {"solver": "slow"},
        {"inner_steps": 0},
        {"learning_rate": 0.0},
        {"inner_steps": 32},
        {"refreshes": 16},
        {"share": 0.0},
    ],
)
def test_settings_out_of_bounds_are_refused(bad):
    with pytest.raises(ValueError, match="got"):
        TuningSettings(**bad)
