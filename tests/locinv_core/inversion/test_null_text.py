"""Null-text optimisation against a plain, slow version, and its cost against a hand count."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from diffusers import DDIMScheduler

from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.inversion.ddim_inversion import ddim_invert
from pinpoint.locinv_core.inversion.null_text import (
    NullTextOptimizer,
    NullTextSettings,
    optimize_null_text,
    reconstruct_by,
)
from pinpoint.locinv_core.localization.algorithm1 import LocInvSettings, locinv
from pinpoint.locinv_core.localization.losses import Objective
from pinpoint.locinv_core.localization.plan import TuningPlan
from pinpoint.locinv_core.localization.token_optimizer import TokenOptimizer
from pinpoint.locinv_core.text.prompt import empty_prompt, parse_prompt

STEPS, GUIDANCE = 4, 5.0


@pytest.fixture(name="inversion", scope="module")
def _inversion(tiny_model):
    prompt = parse_prompt("a red cat and a dog", tiny_model.tokenizer)
    z = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    return ddim_invert(tiny_model, z, prompt, STEPS)


def plain_null_text(model, inversion, inner_steps, learning_rate, tolerance, slope):
    """Null-text inversion as the paper tells it: both branches at every inner step, nothing shared."""
    scheduler = DDIMScheduler(**model.schedule.config)
    scheduler.set_timesteps(inversion.steps)
    with torch.no_grad():
        conditional = model.text_encoder(torch.tensor([inversion.prompt.token_ids]))[0]
        null = model.text_encoder(torch.tensor([empty_prompt(model.tokenizer).token_ids]))[0]
    z, nulls, path = inversion.latents[-1:], [], [inversion.latents[-1:]]
    for i, timestep in enumerate(scheduler.timesteps):
        null = null.detach().clone().requires_grad_(True)
        optimizer = torch.optim.Adam([null], lr=learning_rate * (1 - i / 100))

        def sample(null=null, z=z, timestep=timestep):
            e_c = model.unet(z, timestep, encoder_hidden_states=conditional).sample
            e_u = model.unet(z, timestep, encoder_hidden_states=null).sample
            return scheduler.step(e_u + GUIDANCE * (e_c - e_u), timestep, z).prev_sample

        for _ in range(inner_steps):
            loss = torch.nn.functional.mse_loss(sample(), inversion.latents[inversion.steps - i - 1][None])
            if loss < tolerance + i * slope:
                break
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            z = sample()
        nulls.append(null.detach())
        path.append(z)
    return torch.cat(nulls), torch.cat(path[::-1])


def test_null_text_agrees_with_a_plain_slow_version(tiny_model, inversion):
    settings = NullTextSettings(inner_steps=3)
    ours = optimize_null_text(tiny_model, inversion, GUIDANCE, settings)
    nulls, path = plain_null_text(tiny_model, inversion, 3, 1e-2, 1e-5, 2e-5)
    torch.testing.assert_close(ours.trajectory, path, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(ours.null_text, nulls, rtol=1e-2, atol=2e-3)


def test_null_text_brings_the_source_branch_nearer_to_the_pivots(tiny_model, inversion):
    far = optimize_null_text(tiny_model, inversion, GUIDANCE, NullTextSettings(inner_steps=1, learning_rate=1e-9))
    near = optimize_null_text(tiny_model, inversion, GUIDANCE, NullTextSettings(inner_steps=30))

    def distance(done):
        return float((done.trajectory - inversion.latents).square().mean())

    assert distance(near) < 0.5 * distance(far)


def test_null_text_that_never_stops_costs_what_a_hand_count_says(tiny_model, inversion):
    tracker = CostTracker()
    settings = NullTextSettings(inner_steps=3, tolerance=0.0, tolerance_slope=0.0)
    optimize_null_text(tiny_model, inversion, GUIDANCE, settings, tracker=tracker)
    # a step: one conditional pass, three times forward (1) and backward (2), one last unconditional pass
    assert tracker.forward_equivalents["null-text"] == pytest.approx(STEPS * (1 + 3 * 3 + 1))


def test_a_step_whose_rate_is_0_costs_two_passes_and_keeps_its_null_text(tiny_model, inversion):
    tracker, settings = CostTracker(), NullTextSettings(tolerance=0.0, tolerance_slope=0.0)
    context = tiny_model.encode_prompt(inversion.prompt)
    null = tiny_model.encode_prompt(empty_prompt(tiny_model.tokenizer))
    optimizer = NullTextOptimizer(tiny_model, GUIDANCE, settings, tracker)
    step = (100, *inversion.timesteps[:2])
    found, _ = optimizer.optimize(step, inversion.pivot(0), context, null, inversion.pivot(1))
    assert torch.equal(found, null)
    assert tracker.total == pytest.approx(2)  # the conditional and the unconditional pass; 1e-2·(1 − 100/100) = 0


def test_null_text_that_is_done_at_once_costs_two_passes_a_step(tiny_model, inversion):
    tracker = CostTracker()
    optimize_null_text(tiny_model, inversion, GUIDANCE, NullTextSettings(tolerance=1e9), tracker=tracker)
    assert tracker.forward_equivalents["null-text"] == pytest.approx(STEPS * 2)


def test_published_rates_and_tolerances():
    settings = NullTextSettings()
    assert settings.rate(0) == pytest.approx(0.01)
    assert settings.rate(25) == pytest.approx(0.0075)
    assert settings.enough(10) == pytest.approx(1e-5 + 10 * 2e-5)


def test_null_text_works_inside_inference_mode(tiny_model, inversion):
    with torch.inference_mode():
        done = optimize_null_text(tiny_model, inversion, GUIDANCE, NullTextSettings(inner_steps=1))
    assert done.null_text.shape == (STEPS, 77, 32)


def test_a_cancel_passes_through_and_leaves_the_model_as_it_was(tiny_model, inversion):
    before = {name: p.clone() for name, p in tiny_model.unet.named_parameters()}
    processors = dict(tiny_model.unet.attn_processors)

    def cancel(stage, step, steps, preview):
        raise InterruptedError

    with pytest.raises(InterruptedError):
        optimize_null_text(tiny_model, inversion, GUIDANCE, tracker=CostTracker(cancel))
    assert all(torch.equal(before[name], p) for name, p in tiny_model.unet.named_parameters())
    assert tiny_model.unet.attn_processors == processors


def linear_unet(schedule, dtype):
    """What stands in for a model: a UNet that is one product in this precision, of latents of 4x64x64."""
    weights = torch.randn(32, 4 * 64 * 64, generator=torch.Generator().manual_seed(1)) / 32**0.5

    def predict_noise(latents, timestep, context, **options):
        return (context.to(dtype).mean(dim=1) @ weights.to(dtype)).float().view_as(latents)

    return SimpleNamespace(schedule=schedule, predict_noise=predict_noise)


def test_null_text_moves_in_half_precision_as_in_full(tiny_model):
    """The gradient of a mean over 16384 latents is under what float16 can hold."""
    z = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(2))
    context, null, goal = torch.randn(3, 1, 77, 32, generator=torch.Generator().manual_seed(3))
    goal = null + 0.02 * goal
    settings, pair = NullTextSettings(inner_steps=4, tolerance=0.0, tolerance_slope=0.0), (21, 1)
    moves = []
    for dtype in (torch.float32, torch.float16):
        model = linear_unet(tiny_model.schedule, dtype)
        conditional, wanted = (model.predict_noise(z, 21, c) for c in (context, goal))
        noise = wanted + GUIDANCE * (conditional - wanted)
        target = tiny_model.schedule.ddim_step(z, noise, *pair)
        optimizer = NullTextOptimizer(model, GUIDANCE, settings)
        found, _ = optimizer.optimize((0, *pair), z, context, null, target)
        moves.append((found - null).flatten())
    assert torch.nn.functional.cosine_similarity(*moves, dim=0) > 0.95


def test_an_inversion_that_lies_elsewhere_is_brought_to_the_model(tiny_model, inversion, monkeypatch):
    """One opened from a file is on the CPU, and the model on a graphics card; `meta` stands in for that."""
    card = torch.device("meta")

    def predict_noise(self, latents, *others, **options):
        return torch.zeros(latents.shape, device=card)

    monkeypatch.setattr(EditModel, "device", card)
    monkeypatch.setattr(EditModel, "predict_noise", predict_noise)
    monkeypatch.setattr(EditModel, "encode_prompt", lambda self, *_: torch.zeros(1, 77, 32, device=card))
    monkeypatch.setattr(TokenOptimizer, "attention_maps", lambda self: None)
    settings = NullTextSettings(inner_steps=0)
    alone = optimize_null_text(tiny_model, inversion, GUIDANCE, settings)
    plan = TuningPlan((3,), lambda maps, step: Objective(torch.zeros(()), {}, satisfied=True))
    in_turn = locinv(tiny_model, inversion, plan, LocInvSettings(null_method="null-text", null_text=settings))
    assert alone.trajectory.device == in_turn.trajectory.device == card


@pytest.mark.parametrize("guidance", [float("nan"), -1.0, 1000.0])
def test_guidance_out_of_bounds_is_refused(tiny_model, inversion, guidance):
    with pytest.raises(ValueError, match="guidance: got"):
        reconstruct_by("direct", tiny_model, inversion, guidance)


def test_an_unknown_method_is_refused_with_the_ones_there_are(tiny_model, inversion):
    with pytest.raises(ValueError, match="direct, null-text, negative-prompt, proximal, none"):
        reconstruct_by("magic", tiny_model, inversion, 7.5)
