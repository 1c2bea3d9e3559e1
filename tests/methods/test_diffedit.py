"""DiffEdit: where its mask lies, and that nothing moves outside of it."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMScheduler

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.methods.diffedit import DiffEditSettings, binary_masks, edit, noise_differences
from pinpoint.tests.methods.plain_sampling import sampled

STEPS = 4
SIDE = 16
ROWS, COLUMNS = slice(3, 8), slice(5, 9)


@pytest.fixture(name="plant")
def _plant(parse):
    """plant(model, strengths): prompts change the UNet's output in one rectangle, and there alone.

    What the UNet puts out is that of the source prompt for every row, plus a prompt's strength inside.
    """
    handles = []

    def make(model, strengths: dict[str, float]) -> None:
        contexts = {text: model.encode_prompt(parse(text))[0].detach() for text in strengths}
        source = model.encode_prompt(parse("a cat and a dog"))

        def before(module, args, kwargs):
            given.append(kwargs["encoder_hidden_states"])
            return args, {**kwargs, "encoder_hidden_states": source.expand(len(args[0]), -1, -1)}

        def after(module, args, kwargs, output):
            for row, context in enumerate(given.pop()):
                for text, strength in strengths.items():
                    if torch.equal(context, contexts[text]):
                        output.sample[row, :, ROWS, COLUMNS] += strength
            return output

        given: list = []
        handles.append(model.unet.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(model.unet.register_forward_hook(after, with_kwargs=True))

    yield make
    for handle in handles:
        handle.remove()


def rectangle() -> torch.Tensor:
    mask = torch.zeros(SIDE, SIDE)
    mask[ROWS, COLUMNS] = 1
    return mask


def test_the_mask_is_the_planted_change_and_nothing_outside_it_moves(model, parse, invert, plant):
    inversion = invert(model)
    plant(model, {"a fox": 0.3, "a boat": -2.0})
    result = edit(model, inversion, [parse("a fox"), parse("a boat")])
    assert torch.equal(result.blend_masks, rectangle().expand(2, -1, -1))
    outside = rectangle() == 0
    assert torch.equal(result.latents[..., outside], inversion.latents[:1][..., outside].expand(2, -1, -1))
    moved = (result.latents - inversion.latents[:1])[..., ~outside]
    assert bool((moved.abs().amax(dim=1) > 1e-2).all())


def test_prompts_that_say_the_same_edit_nothing(tiny_model, invert):
    inversion = invert(tiny_model)
    result = edit(tiny_model, inversion, [inversion.prompt])
    assert torch.equal(result.latents, inversion.latents[:1])
    assert not result.blend_masks.any()


def test_differences_are_means_over_noises_and_channels_of_the_bare_unets_estimates(model, parse):
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    prompts = [parse("a cat"), parse("a fox"), parse("two boats")]
    timestep, noises, seed = 500, 3, 7
    scheduler = DDIMScheduler.from_config(dict(model.schedule.config))
    alpha = scheduler.alphas_cumprod[timestep]
    generator = torch.Generator().manual_seed(seed)
    expected = torch.zeros(2, 8, 8)
    with torch.no_grad():
        contexts = [model.text_encoder(torch.tensor([prompt.token_ids]))[0] for prompt in prompts]
        for _ in range(noises):
            noise = torch.randn(1, 4, 8, 8, generator=generator)
            noised = scheduler.add_noise(latents, noise, torch.tensor([timestep]))
            outputs = [model.unet(noised, timestep, encoder_hidden_states=c).sample[0] for c in contexts]
            if model.schedule.prediction_type == "v_prediction":
                outputs = [alpha**0.5 * v + (1 - alpha) ** 0.5 * noised[0] for v in outputs]
            for k in (0, 1):
                expected[k] += (outputs[k + 1] - outputs[0]).abs().mean(dim=0) / noises
    tracker = CostTracker()
    source, targets = contexts[0], torch.cat(contexts[1:])
    found = noise_differences(model, latents, timestep, source, targets, noises=noises, seed=seed, tracker=tracker)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-5)
    assert tracker.total == noises * 3


def test_a_cell_is_edited_above_half_of_three_times_the_mean():
    # Means 1 and 0.5: cells above 1.5 and above 0.75.
    differences = torch.tensor([[[0.0, 1.4], [1.6, 1.0]], [[0.0, 0.0], [0.0, 2.0]]])
    expected = torch.tensor([[[False, False], [True, False]], [[False, False], [False, True]]])
    assert torch.equal(binary_masks(differences), expected)
    assert binary_masks(differences, ceiling=1.0).sum() == 4  # above 0.5 and above 0.25
    assert binary_masks(differences, threshold=0.1).sum() == 4  # above 0.3 and above 0.15
    assert not binary_masks(torch.zeros(1, 2, 2)).any()


def test_where_the_mask_is_everything_it_is_guided_sampling_from_the_encoding(model, parse, invert):
    inversion, target = invert(model), parse("a yellow fox")
    settings = DiffEditSettings(guidance=3.0, threshold=0.0, encode_share=0.5, noises=1)
    result = edit(model, inversion, [target], settings)
    assert bool(result.blend_masks.all())
    plain = sampled(model, inversion.latents[2:3], target, 3.0, STEPS, first=2)
    torch.testing.assert_close(result.latents, plain, rtol=1e-3, atol=1e-3)


def test_the_seed_and_the_noise_level_choose_the_mask(tiny_model, parse, invert):
    inversion = invert(tiny_model)
    masks = [
        edit(
            tiny_model,
            inversion,
            [parse("a red boat")],
            DiffEditSettings(noises=1, encode_share=0.25, threshold=0.34, **choice),
        ).blend_masks
        for choice in ({}, {"seed": 0}, {"seed": 1}, {"noise_share": 1.0})
    ]
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert not torch.equal(masks[0], masks[3])


@pytest.mark.parametrize("n", [1, 2])
def test_it_costs_each_noise_and_each_decoded_step(tiny_model, parse, invert, n):
    inversion, tracker = invert(tiny_model), CostTracker()
    settings = DiffEditSettings(noises=3, encode_share=0.75)
    edit(tiny_model, inversion, [parse("a fox")] * n, settings, tracker=tracker)
    assert tracker.forward_equivalents == {"mask": 3 * (1 + n), "edit": 3 * 2 * n}
    tracker = CostTracker()
    settings = DiffEditSettings(noises=2, encode_share=0.0, guidance=1.0)
    edit(tiny_model, inversion, [parse("a fox")] * n, settings, tracker=tracker)
    assert tracker.forward_equivalents == {"mask": 2 * (1 + n), "edit": n}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance", -1.0),
        ("noises", 0),
        ("noises", 2.5),
        ("noise_share", 1.1),
        ("ceiling", 0),
        ("threshold", -0.1),
        ("encode_share", 2),
        ("seed", -1),
    ],
)
def test_a_setting_out_of_bounds_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: got "):
        DiffEditSettings(**{name: value})
