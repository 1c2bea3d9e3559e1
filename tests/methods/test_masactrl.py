"""MasaCtrl: whose keys and values the queries meet, at which steps and layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.methods.masactrl import MasaCtrlSettings, edit, mutual_layers
from pinpoint.tests.methods.layer_record import attended, recorded
from pinpoint.tests.methods.plain_sampling import sampled

STEPS = 4
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-5}


@pytest.mark.parametrize("guidance", [1.0, 5.0])
def test_from_S_and_L_on_targets_meet_the_sources_keys_and_values_and_before_their_own(model, parse, invert, guidance):
    settings = MasaCtrlSettings(guidance=guidance, start=0.5, start_layer=3)
    with recorded(model.unet) as record:
        inversion = invert(model)
        record.attention.clear()
        edit(model, inversion, [parse("a fox and a dog"), parse("a red boat")], settings)
    assert len(record.attention) == 7
    unlike = []
    for layer, (name, calls) in enumerate(record.attention.items()):
        heads = next(layer.heads for layer in model.layers if layer.name == name)
        assert len(calls) == STEPS
        for step, call in enumerate(calls):
            assert len(call.query) == (3 if guidance == 1 else 5)
            from_source = step >= 2 and layer >= 3
            key, value = (x[:1].expand_as(x) if from_source else x for x in (call.key, call.value))
            torch.testing.assert_close(call.result, attended(call.query, key, value, heads), **CLOSE)
            own = attended(call.query, call.key, call.value, heads)
            unlike.append(float((call.result - own).abs().max()))
    assert max(unlike) > 1e-3


def test_by_default_it_begins_at_step_4_of_50_in_layer_10_of_stable_diffusions_16(stable_diffusion):
    assert MasaCtrlSettings().start * 50 == 4
    names = [layer.name for layer in stable_diffusion.layers if layer.kind == "self"]
    assert len(names) == 16
    assert mutual_layers(stable_diffusion) == set(names[10:])
    assert names[10].startswith("up_blocks.2.attentions.0.")


def test_started_after_the_last_step_it_is_guided_sampling_of_the_target(model, parse, invert):
    inversion, target = invert(model), parse("a yellow fox")
    result = edit(model, inversion, [target], MasaCtrlSettings(guidance=3.0, start=1.0))
    plain = sampled(model, inversion.latents[-1:], target, 3.0, STEPS)
    torch.testing.assert_close(result.latents, plain, rtol=1e-3, atol=1e-3)


def test_a_target_that_is_the_source_is_the_same_with_and_without_at_the_first_step(tiny_model, parse, invert):
    """At z_T the target is the source, so its keys and values are the source's already."""
    inversion = invert(tiny_model)
    one_step = [
        edit(tiny_model, inversion, [inversion.prompt], MasaCtrlSettings(guidance=1.0, start=s, start_layer=0))
        for s in (0.25, 1.0)
    ]
    assert not torch.allclose(one_step[0].latents, one_step[1].latents, atol=1e-4)
    with recorded(tiny_model.unet) as record:
        edit(tiny_model, inversion, [inversion.prompt], MasaCtrlSettings(guidance=1.0, start=0.0))
    for calls in record.attention.values():
        torch.testing.assert_close(calls[0].result[1], calls[0].result[0], **CLOSE)


@pytest.mark.parametrize("n", [1, 2])
def test_a_step_costs_a_pass_of_the_source_and_two_of_each_target(tiny_model, parse, invert, n):
    inversion, tracker = invert(tiny_model), CostTracker()
    edit(tiny_model, inversion, [parse("a fox")] * n, tracker=tracker)
    assert tracker.forward_equivalents == {"edit": STEPS * (1 + 2 * n)}
    tracker = CostTracker()
    edit(tiny_model, inversion, [parse("a fox")] * n, MasaCtrlSettings(guidance=1.0), tracker=tracker)
    assert tracker.total == STEPS * (1 + n)


def test_the_source_ends_in_the_image_and_maps_are_named_by_the_prompts_words(tiny_model, parse, invert):
    inversion = invert(tiny_model)
    result = edit(tiny_model, inversion, [parse("a fox")])
    assert torch.equal(result.source_latents, inversion.latents[:1])
    assert list(result.source_maps) == ["a", "cat", "and", "a#2", "dog"]
    assert list(result.target_maps[0]) == ["a", "fox"]


def test_the_models_own_processors_come_back(tiny_model, parse, invert):
    before = dict(tiny_model.unet.attn_processors)
    edit(tiny_model, invert(tiny_model), [parse("a fox")])
    assert tiny_model.unet.attn_processors == before


@pytest.mark.parametrize(
    ("name", "value"),
    [("guidance", -1.0), ("start", 1.5), ("start", float("nan")), ("start_layer", -1), ("start_layer", 1.5)],
)
def test_a_setting_out_of_bounds_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: got "):
        MasaCtrlSettings(**{name: value})


def test_a_layer_that_the_unet_lacks_is_refused_before_any_pass(tiny_model, parse, invert):
    inversion, tracker = invert(tiny_model), CostTracker()
    with pytest.raises(ValueError, match="start_layer: got 7, requires one of the UNet's 7"):
        edit(tiny_model, inversion, [parse("a fox")], MasaCtrlSettings(start_layer=7), tracker=tracker)
    assert tracker.total == 0
