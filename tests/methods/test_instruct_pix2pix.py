"""InstructPix2Pix: against diffusers' pipeline, by Eq. 3 written out, and opened from its folder."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInstructPix2PixPipeline

from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.ddim import schedule_from_config
from pinpoint.methods.instruct_pix2pix import (
    InstructPix2PixSettings,
    edit,
    instruction_between,
    load_instruct_model,
    weights,
)
from pinpoint.tests.fixtures.tiny_models import (
    tiny_scheduler,
    tiny_text_encoder,
    tiny_unet,
    tiny_vae,
    write_tiny_folder,
)


def reading_model(like: EditModel) -> EditModel:
    """A model like this one whose UNet reads eight channels."""
    unet = tiny_unet(4, in_channels=8, out_channels=4)
    return EditModel(unet, like.vae, like.text_encoder, like.tokenizer, like.schedule, "instruct")


@pytest.fixture(name="instruct")
def _instruct(model):
    return reading_model(model)


@pytest.fixture(name="latents", scope="module")
def _latents():
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))


def noise_of(seed: int) -> torch.Tensor:
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("guidance", "image_guidance"), [(7.5, 1.5), (3.0, 1.0), (1.0, 1.0)])
def test_it_is_diffusers_pipeline(instruct, parse, latents, guidance, image_guidance):
    pipeline = StableDiffusionInstructPix2PixPipeline(
        vae=instruct.vae,
        text_encoder=instruct.text_encoder,
        tokenizer=instruct.tokenizer,
        unet=instruct.unet,
        scheduler=DDIMScheduler.from_config(dict(instruct.schedule.config)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    # The pipeline takes latents of an image as they come from the encoder, unscaled.
    theirs = pipeline(
        "make the cat a fox",
        image=latents / instruct.vae.config.scaling_factor,
        num_inference_steps=4,
        guidance_scale=guidance,
        image_guidance_scale=image_guidance,
        latents=noise_of(5),
        output_type="latent",
    ).images
    settings = InstructPix2PixSettings(4, guidance, image_guidance)
    ours = edit(instruct, latents, parse("make the cat a fox"), settings, seed=5)
    torch.testing.assert_close(ours, theirs, atol=3e-4, rtol=0)


def test_the_scales_combine_three_predictions_as_equation_3_says(tiny_model, parse, latents):
    """One step, by hand: ε̃ = ε₀ + s_I·(ε_I − ε₀) + s_T·(ε_IT − ε_I), then z_0 from ε̃ and ᾱ."""
    instruct, prompt = reading_model(tiny_model), parse("make the cat a fox")
    z = noise_of(2)
    scheduler = DDIMScheduler.from_config(dict(instruct.schedule.config))
    scheduler.set_timesteps(1)
    (t,) = scheduler.timesteps
    full, empty = (
        instruct.text_encoder(instruct.tokenizer(text, padding="max_length", return_tensors="pt").input_ids)[0]
        for text in ("make the cat a fox", "")
    )
    picture = latents / instruct.vae.config.scaling_factor
    with torch.no_grad():
        nothing, of_image, of_both = (
            instruct.unet(torch.cat([z, beside], dim=1), t, encoder_hidden_states=context).sample
            for beside, context in ((0 * picture, empty), (picture, empty), (picture, full))
        )
    for s_text, s_image in ((7.5, 1.5), (2.0, 0.5), (0.0, 3.0)):
        mixed = nothing + s_image * (of_image - nothing) + s_text * (of_both - of_image)
        expected = scheduler.step(mixed, t, z).prev_sample
        ours = edit(instruct, latents, prompt, InstructPix2PixSettings(1, s_text, s_image), seed=2)
        torch.testing.assert_close(ours, expected, atol=2e-4, rtol=1e-4)


def test_the_three_shares_are_those_of_equation_3_and_always_make_one():
    assert weights(7.5, 1.5) == (-0.5, -6.0, 7.5)
    assert weights(1.0, 1.0) == (0.0, 0.0, 1.0)
    assert sum(weights(3.25, 0.5)) == 1


@pytest.mark.parametrize(
    ("guidance", "image_guidance", "passes"),
    [(7.5, 1.5, 3), (1.0, 1.0, 1), (7.5, 1.0, 2), (2.0, 2.0, 2), (0.0, 1.0, 1)],
)
def test_a_step_costs_three_passes_less_those_that_have_no_weight(
    tiny_model, parse, latents, guidance, image_guidance, passes
):
    tracker = CostTracker()
    settings = InstructPix2PixSettings(3, guidance, image_guidance)
    edit(reading_model(tiny_model), latents, parse("a fox"), settings, tracker=tracker)
    assert tracker.forward_equivalents == {"edit": 3 * passes}


@pytest.mark.parametrize(
    ("source", "target", "order"),
    [
        ("a red cat and a dog", "a red owl and a dog", "turn the red cat into a red owl"),
        ("a red cat and a dog", "an orange cat and a dog", "turn the red cat into an orange cat"),
        ("a cat and a dog", "a fox and an owl", "turn the cat into a fox and turn the dog into an owl"),
        ("a cat", "a cat and a dog", "add a dog"),
        ("a cat and a dog", "a cat", "remove the dog"),
        ("a cat", "a cat", "make it a cat"),
    ],
)
def test_two_prompts_make_an_order(parse, source, target, order):
    assert instruction_between(parse(source), parse(target)) == order


def test_a_plain_unet_is_refused_before_any_pass(tiny_model, parse, latents):
    tracker = CostTracker()
    with pytest.raises(ValueError, match=r"reads 4 channels, requires 8 \(an InstructPix2Pix model\)"):
        edit(tiny_model, latents, parse("a fox"), tracker=tracker)
    assert tracker.total == 0


def test_a_folder_opens_as_what_was_saved_and_a_plain_one_is_refused(tmp_path, parse, latents):
    folder = write_tiny_folder(tmp_path / "model")
    with pytest.raises(ValueError, match=r"reads 4 channels, requires 8") as caught:
        load_instruct_model(folder, device="cpu")
    assert "\n" not in str(caught.value)
    tiny_unet(4, in_channels=8, out_channels=4).save_pretrained(folder / "unet")
    opened = load_instruct_model(folder, device="cpu")
    saved = EditModel(
        tiny_unet(4, in_channels=8, out_channels=4),
        tiny_vae(),
        tiny_text_encoder(),
        opened.tokenizer,
        schedule_from_config(tiny_scheduler().config),
        "saved",
    )
    settings = InstructPix2PixSettings(steps=2)
    first, second = (edit(model, latents, parse("a fox"), settings, seed=1) for model in (opened, saved))
    torch.testing.assert_close(first, second)


@pytest.mark.parametrize(
    ("name", "message"),
    [("embedded", "does not read an image"), ("nowhere", "no such folder"), ("", "no such folder")],
)
def test_what_is_no_such_folder_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        load_instruct_model(name, device="cpu")


def test_settings_out_of_bounds_are_refused():
    for settings in ({"steps": 0}, {"guidance": 101}, {"image_guidance": -0.5}):
        with pytest.raises(ValueError, match=f"^{next(iter(settings))}: got"):
            InstructPix2PixSettings(**settings)
