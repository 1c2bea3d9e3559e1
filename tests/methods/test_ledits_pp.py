"""LEDITS++: against diffusers' pipeline, and what its inversion and its masks promise."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, LEditsPPPipelineStableDiffusion

from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.methods import ledits_pp as ledits
from pinpoint.methods.ledits_pp import Concept, LeditsSettings, concepts_between
from pinpoint.tests.fixtures.tiny_models import tiny_unet


@pytest.fixture(name="latents", scope="module")
def _latents():
    return torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture(name="concepts")
def _concepts(parse):
    return (Concept(parse("a red cat"), removed=True), Concept(parse("a fox")))


def three_levels(like: EditModel) -> EditModel:
    """A model whose maps are read at a quarter of the latents, as diffusers' pipeline takes for granted."""
    unet = tiny_unet(
        2,
        sample_size=64,
        block_out_channels=(16, 16, 32),
        down_block_types=("CrossAttnDownBlock2D",) * 3,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
    )
    # As drawn, texts differ so little that the quantiles would hang on rounding.
    for name, weight in unet.named_parameters():
        if "attn2" in name and weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.3)
    return EditModel(unet, like.vae, like.text_encoder, like.tokenizer, like.schedule, "three levels")


def counting(tokenizer: Any) -> Any:
    """The tokenizer, whose `length` leaves out padding, as the pipeline believes (a fast one's counts it)."""
    kind = type(tokenizer)

    def call(self: Any, *texts: Any, **options: Any) -> Any:
        encoded = kind.__call__(self, *texts, **options)
        if options.get("return_length"):
            encoded["length"] = encoded["attention_mask"].sum(dim=1)
        return encoded

    counted = copy.copy(tokenizer)
    counted.__class__ = type("Counting", (kind,), {"__call__": call})
    return counted


def test_it_is_diffusers_pipeline(tiny_model, parse, concepts):
    model = three_levels(tiny_model)
    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    pipeline = LEditsPPPipelineStableDiffusion(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=counting(model.tokenizer),
        unet=three_levels(tiny_model).unet,
        scheduler=DPMSolverMultistepScheduler.from_config(
            dict(model.schedule.config),
            algorithm_type="sde-dpmsolver++",
            solver_order=2,
            timestep_spacing="leading",
            lower_order_final=False,
            final_sigmas_type="sigma_min",
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.invert(
        image=image,
        num_inversion_steps=5,
        skip=0.25,
        generator=torch.Generator().manual_seed(4),
    )
    theirs = pipeline(
        editing_prompt=["a red cat", "a fox"],
        reverse_editing_direction=[True, False],
        edit_guidance_scale=3.0,
        edit_threshold=0.7,
        output_type="latent",
    ).images
    settings = LeditsSettings(steps=5, skip=0.25, guidance=3.0, threshold=0.7)
    inversion = ledits.invert(model, model.encode(image), settings, seed=4)
    torch.testing.assert_close(inversion.noises, pipeline.zs[:, 0], atol=2e-3, rtol=1e-3)
    ours = ledits.edit(model, inversion, concepts, settings).latents
    torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-3)
    # And the concepts did something that could have gone wrong.
    assert (ours - ledits.edit(model, inversion, (), settings).latents).abs().max() > 0.05


@pytest.mark.parametrize("steps", [1, 5, 16])
def test_without_a_concept_the_image_comes_back(model, latents, steps):
    settings = LeditsSettings(steps=steps)
    inversion = ledits.invert(model, latents, settings)
    back = ledits.edit(model, inversion, (), settings).latents
    torch.testing.assert_close(back, latents, atol=1e-3, rtol=0)


def test_concepts_of_no_scale_change_nothing_and_of_some_scale_something(tiny_model, latents, concepts):
    inversion = ledits.invert(tiny_model, latents, LeditsSettings(steps=4))
    none, some = (
        ledits.edit(tiny_model, inversion, concepts, LeditsSettings(steps=4, guidance=scale)).latents
        for scale in (0.0, 8.0)
    )
    torch.testing.assert_close(none, latents, atol=1e-3, rtol=0)
    assert (some - latents).abs().max() > 0.01


def test_in_its_last_step_an_edit_stays_inside_the_place(tiny_model, latents, concepts):
    """With one step nothing has spread yet: what is outside is the image itself."""
    settings = LeditsSettings(steps=1, guidance=50.0, threshold=0.0)
    inversion = ledits.invert(tiny_model, latents, settings)
    place = torch.zeros(16, 16)
    place[4:10, 2:9] = 1
    edited = ledits.edit(tiny_model, inversion, concepts, settings, place=place)
    change = (edited.latents - latents).abs().amax(dim=(0, 1))
    assert change[place == 0].max() < 1e-3 < change[place == 1].min()
    assert torch.equal(edited.masks, place.expand(2, -1, -1))


def test_a_concept_acts_where_both_its_map_and_its_guidance_are_above_the_quantile(tiny_model, latents, parse):
    """By hand for the one step of a schedule of one: both masks from a pass of the bare UNet."""
    settings = LeditsSettings(steps=1, threshold=0.8, skip=0.0, guidance=2.0)
    inversion = ledits.invert(tiny_model, latents, settings)
    assert inversion.timesteps[0] <= 800
    concept = Concept(parse("a fox"))
    edited = ledits.edit(tiny_model, inversion, (concept,), settings)
    with torch.no_grad():
        outputs = [
            tiny_model.unet(
                inversion.start,
                inversion.timesteps[0],
                encoder_hidden_states=tiny_model.text_encoder(torch.tensor([ids]))[0],
            ).sample
            for ids in (parse("a fox").token_ids, [49406] + [49407] * 76)
        ]
    size = (outputs[0] - outputs[1]).abs().sum(dim=1)[0]
    of_noise = size >= torch.quantile(size, 0.8)
    acted = edited.masks[0].bool()
    assert 0 < int(acted.sum()) <= int(of_noise.sum())
    assert not bool((acted & ~of_noise).any())
    wide = ledits.edit(tiny_model, inversion, (concept,), LeditsSettings(steps=1, skip=0.0, threshold=0.0))
    assert bool(wide.masks.bool().all())


def test_what_is_added_and_what_is_taken_away_pull_in_opposite_directions(tiny_model, latents, parse):
    settings = LeditsSettings(steps=1, threshold=0.0)
    inversion = ledits.invert(tiny_model, latents, settings)
    added, removed = (
        ledits.edit(tiny_model, inversion, (Concept(parse("a fox"), removed=sign),), settings).latents - latents
        for sign in (False, True)
    )
    assert added.abs().max() > 0.01
    torch.testing.assert_close(added, -removed, atol=1e-3, rtol=0)


def test_inverting_costs_a_pass_a_step_and_editing_one_more_for_each_concept(tiny_model, latents, concepts):
    tracker, settings = CostTracker(), LeditsSettings(steps=5)
    inversion = ledits.invert(tiny_model, latents, settings, tracker=tracker)
    ledits.edit(tiny_model, inversion, concepts, settings, tracker=tracker)
    assert tracker.forward_equivalents == {"inversion": 5, "edit": 15}


@pytest.mark.parametrize(
    ("source", "target", "removed", "added"),
    [
        ("a red cat and a dog", "a red fox and a dog", ["red cat"], ["red fox"]),
        ("a red cat and a dog", "a blue cat and a dog", ["red cat"], ["blue cat"]),
        ("a cat", "a cat and a dog", [], ["dog"]),
        ("a cat and a dog", "a cat", ["dog"], []),
        ("a cat", "a cat", [], []),
    ],
)
def test_concepts_are_the_objects_that_differ(tiny_model, parse, source, target, removed, added):
    found = concepts_between(parse(source), parse(target), tiny_model.tokenizer)
    assert [concept.prompt.text for concept in found if concept.removed] == removed
    assert [concept.prompt.text for concept in found if not concept.removed] == added


def test_settings_out_of_bounds_are_refused():
    for settings in ({"steps": 0}, {"guidance": -1}, {"threshold": 1.5}, {"skip": 2}):
        with pytest.raises(ValueError, match=f"^{next(iter(settings))}: got"):
            LeditsSettings(**settings)
