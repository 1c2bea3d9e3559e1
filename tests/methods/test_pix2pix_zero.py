"""pix2pix-zero: the edit direction, and the gradient step that brings the maps to the source's."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.methods.pix2pix_zero import (
    Pix2PixZeroSettings,
    cross_attention_maps,
    edit,
    edit_direction,
    guided_latents,
    last_cross_attention,
    map_distance,
    sentence_pairs,
)
from pinpoint.tests.methods.layer_record import recorded
from pinpoint.tests.methods.plain_sampling import sampled

STEPS = 4
TIMESTEP = 501


def encoded(model, text: str, parse) -> Tensor:
    with torch.no_grad():
        return model.text_encoder(torch.tensor([parse(text).token_ids]))[0]


def distances(model, latents: Tensor, context: Tensor, source: Tensor, source_context: Tensor) -> Tensor:
    """Each row's squared distance of all cross-attention maps to the source's, by hand from full passes."""
    maps = []
    for z, c in ((latents, context), (source, source_context)):
        with torch.no_grad(), recorded(model.unet, "attn2") as record:
            model.unet(z, TIMESTEP, encoder_hidden_states=c)
        maps.append({name: by_head(model, name, calls[0]) for name, calls in record.attention.items()})
    assert len(maps[0]) == 7
    rows = torch.zeros(len(latents))
    for name, own in maps[0].items():
        for row in range(len(latents)):
            for head in range(own.shape[1]):
                rows[row] += ((own[row, head] - maps[1][name][0, head]) ** 2).sum() / own.shape[1]
    return rows


def by_head(model, name: str, call) -> Tensor:
    heads = next(layer.heads for layer in model.layers if layer.name == name)
    maps = []
    for q, k in zip(call.query.chunk(heads, dim=-1), call.key.chunk(heads, dim=-1), strict=True):
        maps.append(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1))
    return torch.stack(maps, dim=1)


@pytest.fixture(name="scene")
def _scene(model, parse):
    """(latents of two targets, their contexts, latents of the source, its context) at one timestep."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    source = torch.randn(1, 4, 16, 16, generator=generator)
    context = torch.cat([encoded(model, text, parse) for text in ("a fox", "two red boats")])
    return latents, context, source, encoded(model, "a cat", parse)


def test_the_distance_of_maps_is_the_sum_over_layers_cells_and_tokens_and_the_mean_over_heads(model, scene):
    latents, context, source, source_context = scene
    with torch.no_grad():
        found = map_distance(
            cross_attention_maps(model, latents, TIMESTEP, context, CostTracker()),
            cross_attention_maps(model, source, TIMESTEP, source_context, CostTracker()),
        )
    torch.testing.assert_close(found, distances(model, *scene), rtol=1e-3, atol=1e-6)


def test_a_gradient_step_lowers_the_distance_of_every_rows_maps_and_has_the_gradients_size(model, scene):
    latents, context, source, source_context = scene
    with torch.no_grad():
        reference = cross_attention_maps(model, source, TIMESTEP, source_context, CostTracker())
    before = distances(model, *scene)
    unit = guided_latents(model, latents, TIMESTEP, context, reference, 1.0, CostTracker())
    gradient = latents - unit
    slope = gradient.square().sum(dim=(1, 2, 3))
    # By Taylor, a step of λ lowers the distance by λ·‖∇‖², if λ is small.
    rate = float(0.02 * (before / slope).min())
    moved = guided_latents(model, latents, TIMESTEP, context, reference, rate, CostTracker())
    torch.testing.assert_close(moved, latents - rate * gradient, rtol=1e-4, atol=1e-5)
    lowered = before - distances(model, moved, context, source, source_context)
    assert bool((lowered > 0).all())
    torch.testing.assert_close(lowered, rate * slope, rtol=0.2, atol=0.0)


def test_the_rows_of_a_batch_are_guided_each_on_its_own(tiny_model, parse):
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 4, 16, 16, generator=generator)
    context = torch.cat([encoded(tiny_model, text, parse) for text in ("a fox", "two red boats")])
    with torch.no_grad():
        reference = cross_attention_maps(tiny_model, latents[:1] + 0.5, TIMESTEP, context[:1], CostTracker())
    both = guided_latents(tiny_model, latents, TIMESTEP, context, reference, 1.0, CostTracker())
    for k in (0, 1):
        alone = guided_latents(
            tiny_model, latents[k : k + 1], TIMESTEP, context[k : k + 1], reference, 1.0, CostTracker()
        )
        torch.testing.assert_close(both[k : k + 1], alone, rtol=1e-3, atol=1e-5)


def test_a_direction_is_what_the_new_sentences_have_on_average_over_the_old(tiny_model, parse):
    pairs = [("a cat", "a fox"), ("the cat here", "the fox here"), ("my cat", "my fox")]
    expected = sum((encoded(tiny_model, new, parse) - encoded(tiny_model, old, parse)) / 3 for old, new in pairs)
    torch.testing.assert_close(edit_direction(tiny_model, pairs), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"^pairs: got none"):
        edit_direction(tiny_model, [])


def test_sentences_name_each_object_that_changes_as_the_prompts_do(parse):
    source, templates = parse("a red cat and a dog"), ("the {}", "{} of {1}")
    assert sentence_pairs(source, parse("a red fox and a dog"), templates) == (
        (("the red cat", "the red fox"), ("red cat of {1}", "red fox of {1}")),
    )
    assert sentence_pairs(source, parse("a blue cat and a fox"), ("the {}",)) == (
        (("the red cat", "the blue cat"),),
        (("the dog", "the fox"),),
    )
    assert sentence_pairs(source, source, templates) == (((source.text, source.text),),)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_unguided_and_along_the_prompts_own_difference_it_is_sampling_of_the_target(model, parse, invert, guidance):
    inversion, target = invert(model), parse("a yellow fox")
    settings = Pix2PixZeroSettings(guidance=guidance, attention_rate=0.0, pairs=((inversion.prompt.text, target.text),))
    result = edit(model, inversion, [target], settings)
    plain = sampled(model, inversion.latents[-1:], target, guidance, STEPS, negative=parse(inversion.prompt.text))
    torch.testing.assert_close(result.latents, plain, rtol=1e-3, atol=1e-3)
    assert torch.equal(result.source_latents, inversion.latents[:1])


@pytest.mark.parametrize("guidance", [2.0, 7.5])
def test_along_no_direction_the_source_is_sampled_at_any_guidance(model, parse, invert, guidance):
    inversion, target = invert(model), parse("a fox and a dog")
    settings = Pix2PixZeroSettings(guidance=guidance, attention_rate=0.0, pairs=(("a fox", "a fox"),))
    result = edit(model, inversion, [target], settings)
    plain = sampled(model, inversion.latents[-1:], parse(inversion.prompt.text), 1.0, STEPS)
    torch.testing.assert_close(result.latents, plain, rtol=1e-3, atol=1e-3)


def test_guidance_by_the_maps_moves_the_edit(tiny_model, parse, invert):
    inversion = invert(tiny_model)
    target = parse("a fox and a dog")
    guided, free = (
        edit(tiny_model, inversion, [target], Pix2PixZeroSettings(attention_rate=rate)).latents for rate in (0.1, 0.0)
    )
    assert float((guided - free).abs().max()) > 1e-4


@pytest.mark.parametrize("n", [1, 2])
def test_a_step_costs_the_sources_maps_the_gradient_of_each_target_and_its_two_passes(tiny_model, parse, invert, n):
    inversion = invert(tiny_model)
    last = last_cross_attention(tiny_model)
    assert last.name == "up_blocks.1.attentions.1.transformer_blocks.0.attn2"
    share = tiny_model.share(last, 16, 16)
    assert 0.8 < share < 1
    for settings, passes in (
        (Pix2PixZeroSettings(), share * (1 + 3 * n) + 2 * n),
        (Pix2PixZeroSettings(guidance=1.0), share * (1 + 3 * n) + n),
        (Pix2PixZeroSettings(attention_rate=0.0), share + 2 * n),
    ):
        tracker = CostTracker()
        edit(tiny_model, inversion, [parse("a fox")] * n, settings, tracker=tracker)
        assert tracker.forward_equivalents == {"edit": pytest.approx(STEPS * passes)}


def test_it_runs_where_all_tensors_that_arrive_are_inference_tensors(tiny_model, parse, invert):
    expected = edit(tiny_model, invert(tiny_model), [parse("a fox")]).latents
    with torch.inference_mode():
        found = edit(tiny_model, invert(tiny_model), [parse("a fox")]).latents
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_the_published_rate_and_guidance_are_the_defaults():
    assert (Pix2PixZeroSettings().attention_rate, Pix2PixZeroSettings().guidance) == (0.1, 5.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance", -1.0),
        ("attention_rate", -0.1),
        ("pairs", (("a cat",),)),
        ("pairs", (("a cat", " "),)),
        ("templates", ()),
        ("templates", ("a photo",)),
        ("pairs", 5),
        ("templates", 5),
        ("templates", "a {}"),
    ],
)
def test_a_setting_out_of_bounds_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: got "):
        Pix2PixZeroSettings(**{name: value})


def test_a_sentence_too_long_for_the_text_encoder_is_refused_before_any_pass(tiny_model, parse, invert):
    inversion, tracker = invert(tiny_model), CostTracker()
    settings = Pix2PixZeroSettings(templates=("very " * 90 + "{}",))
    with pytest.raises(ValueError, match="too long"):
        edit(tiny_model, inversion, [parse("a fox and a dog")], settings, tracker=tracker)
    assert tracker.total == 0
