"""Imagic: what each of its parts works towards, what it costs, and that the model given stays as it was."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.methods import imagic
from pinpoint.methods.imagic import ImagicSettings
from pinpoint.tests.fixtures.tiny_models import tiny_model

FEW = ImagicSettings(steps=2, embedding_steps=2, tuning_steps=2)


@pytest.fixture(name="latents", scope="module")
def _latents():
    return torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(3))


def drawn_by_diffusers(model, unet, embedding, start, guidance, steps):
    """diffusers' own text-to-image sampling from the same noise and the same embedding."""
    pipeline = StableDiffusionPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=unet,
        scheduler=DDIMScheduler.from_config(dict(model.schedule.config)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt_embeds=embedding,
        negative_prompt="" if guidance == 1 else None,
        height=32,
        width=32,
        num_inference_steps=steps,
        guidance_scale=guidance,
        latents=start,
        output_type="latent",
    ).images


def mean_error(model, latents, context):
    """The loss over the same eight timesteps and noises each time, written out."""
    total = 0.0
    for number, t in enumerate(range(60, 1000, 120)):
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(number))
        alpha = model.schedule.alphas_cumprod[t]
        noised = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
        with torch.no_grad():
            predicted = model.unet(noised, t, encoder_hidden_states=context).sample
        total += float((predicted - noise).square().mean())
    return total / 8


def test_at_eta_0_it_draws_from_the_optimised_embedding_and_at_1_from_the_targets(tiny_model, parse, latents):
    target = parse("a fox")
    context = tiny_model.text_encoder(torch.tensor([target.token_ids]))[0].detach()
    # What the seed leaves for the drawing: the noises of two steps of each optimisation come first.
    generator = torch.Generator().manual_seed(7)
    for _ in range(4):
        torch.randint(1000, (1,), generator=generator)
        torch.randn(latents.shape, generator=generator)
    start = torch.randn(latents.shape, generator=generator)
    for eta, guidance in ((0.0, 7.5), (1.0, 7.5), (1.0, 1.0)):
        settings = dataclasses.replace(FEW, interpolation=eta, guidance=guidance, tuning_rate=0.0, embedding_rate=0.3)
        outcome = imagic.edit(tiny_model, latents, target, settings, seed=7)
        assert (outcome.optimised - context).abs().max() > 0.1
        torch.testing.assert_close(outcome.target, context)
        embedding = outcome.optimised if eta == 0 else context
        theirs = drawn_by_diffusers(tiny_model, tiny_model.unet, embedding, start, guidance, 2)
        torch.testing.assert_close(outcome.latents, theirs, atol=2e-4, rtol=0)


def test_between_the_two_lies_the_line_that_joins_them():
    optimised, target = torch.tensor([[[2.0, -4.0]]]), torch.tensor([[[4.0, 0.0]]])
    assert imagic.interpolated(optimised, target, 0.25).tolist() == [[[2.5, -3.0]]]
    assert imagic.interpolated(optimised, target, 1.5).tolist() == [[[5.0, 2.0]]]


def test_the_embedding_comes_to_stand_for_the_image(tiny_model, parse, latents):
    context = tiny_model.encode_prompt(parse("a fox"))
    settings = ImagicSettings(embedding_steps=25, embedding_rate=0.15)
    generator = torch.Generator().manual_seed(0)
    found = imagic.optimised_embedding(tiny_model, latents, context, settings, generator)
    assert mean_error(tiny_model, latents, found) < 0.99 * mean_error(tiny_model, latents, context)


def test_the_tuned_copy_knows_the_image_and_draws_what_is_nearer_to_it(tiny_model, parse, latents):
    context = tiny_model.encode_prompt(parse("a fox"))
    work = imagic.copied(tiny_model)
    settings = ImagicSettings(tuning_steps=40, tuning_rate=3e-3)
    start = torch.randn(latents.shape, generator=torch.Generator().manual_seed(9))
    before = imagic.draw(work, start, context, 6, 1.0)
    error = mean_error(work, latents, context)
    imagic.tune_to(work, latents, context, settings, torch.Generator().manual_seed(0))
    assert mean_error(work, latents, context) < 0.7 * error
    after = imagic.draw(work, start, context, 6, 1.0)
    assert (after - latents).norm() < 0.8 * (before - latents).norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_the_model_given_is_unchanged_bit_for_bit_and_requires_no_gradient(parse, latents, dtype, monkeypatch):
    model = tiny_model()
    model.unet.to(dtype)
    parts = (model.unet, model.vae, model.text_encoder)
    before = [{k: v.clone() for k, v in part.state_dict().items()} for part in parts]
    copies = []
    plain = imagic.copied
    monkeypatch.setattr(imagic, "copied", lambda given: copies.append(plain(given)) or copies[-1])
    settings = dataclasses.replace(FEW, tuning_rate=0.01)
    outcome = imagic.edit(model, latents, parse("a fox"), settings)
    assert bool(outcome.latents.isfinite().all())
    for part, weights in zip(parts, before, strict=True):
        assert all(torch.equal(value, weights[name]) for name, value in part.state_dict().items())
        assert not any(weight.requires_grad or weight.grad is not None for weight in part.parameters())
    assert model.unet.dtype == dtype
    # It is the copy that moved.
    assert any(not torch.equal(value, before[0][name].float()) for name, value in copies[0].unet.state_dict().items())


def test_a_cancel_in_the_tuning_leaves_the_model_as_it_was(tiny_model, parse, latents):
    def cancel(stage, step, steps, preview):
        if stage == imagic.TUNING_STAGE:
            raise KeyboardInterrupt

    weights = {name: value.clone() for name, value in tiny_model.unet.state_dict().items()}
    with pytest.raises(KeyboardInterrupt):
        imagic.edit(tiny_model, latents, parse("a fox"), FEW, tracker=CostTracker(cancel))
    assert all(torch.equal(value, weights[name]) for name, value in tiny_model.unet.state_dict().items())
    assert not any(weight.requires_grad for weight in tiny_model.unet.parameters())


def test_a_step_of_adam_costs_three_passes_and_one_of_drawing_two(tiny_model, parse, latents):
    tracker = CostTracker()
    settings = ImagicSettings(steps=4, embedding_steps=3, tuning_steps=2)
    imagic.edit(tiny_model, latents, parse("a fox"), settings, tracker=tracker)
    assert tracker.forward_equivalents == {imagic.EMBEDDING_STAGE: 9, imagic.TUNING_STAGE: 6, "edit": 8}


def test_it_works_inside_inference_mode_and_a_seed_decides_the_edit(tiny_model, parse, latents):
    target = parse("a fox")
    with torch.inference_mode():
        first = imagic.edit(tiny_model, latents.clone(), target, FEW, seed=1).latents
    again, other = (imagic.edit(tiny_model, latents, target, FEW, seed=seed).latents for seed in (1, 2))
    torch.testing.assert_close(first.clone(), again)
    assert (again - other).abs().max() > 0.01


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interpolation": 2.5}, "interpolation: got 2.5, requires a number from 0 to 2"),
        ({"embedding_steps": -1}, "embedding_steps: got -1, requires a whole number, 0 or more"),
        ({"tuning_rate": float("nan")}, "tuning_rate: got nan"),
        ({"steps": 0}, "steps: got 0"),
        ({"guidance": -1}, "guidance: got -1"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        ImagicSettings(**settings)
