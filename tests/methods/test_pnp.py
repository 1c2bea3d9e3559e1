"""Plug-and-Play: which layers of the target are given the source's features, queries and keys, and when."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.methods.pnp import PlugAndPlaySettings, attention_layers, edit, feature_layers
from pinpoint.tests.methods.layer_record import attended, recorded
from pinpoint.tests.methods.plain_sampling import sampled

STEPS = 4
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
EVERYWHERE = ("down_blocks", "mid_block", "up_blocks")


def added(layer, entry: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """What a residual layer added to its input, found from outside."""
    x, _, output = entry
    shortcut = x if layer.conv_shortcut is None else layer.conv_shortcut(x)
    return output * layer.output_scale_factor - shortcut


def check_injection(model, record, *, features: dict[str, int], attentions: dict[str, int]) -> None:
    """Every layer of every pass: the source's until the step that is given for it, and its own from there."""
    modules = dict(model.unet.named_modules())
    for name, entries in record.residual.items():
        layer = modules[name]
        assert len(entries) == STEPS
        for step, entry in enumerate(entries):
            with torch.no_grad():
                own = added(layer, (*entry[:2], layer(*entry[:2])))
                found = added(layer, entry)
            expected = own[:1].expand_as(own) if step < features.get(name, 0) else own
            torch.testing.assert_close(found, expected, **CLOSE)
            assert step == 0 or not torch.allclose(own[-1], own[0], atol=1e-3)
    for name, calls in record.attention.items():
        assert len(calls) == STEPS
        for step, call in enumerate(calls):
            query, key = call.query, call.key
            if step < attentions.get(name, 0):
                query, key = (x[:1].expand_as(x) for x in (query, key))
            expected = attended(
                query, key, call.value, next(layer.heads for layer in model.layers if layer.name == name)
            )
            torch.testing.assert_close(call.result, expected, **CLOSE)


def test_it_injects_exactly_the_layers_that_it_is_given_in_exactly_their_steps(model, parse, invert):
    inversion = invert(model)
    settings = PlugAndPlaySettings(
        guidance=3.0,
        feature_share=0.5,
        attention_share=0.75,
        feature_layers=("mid_block.resnets.0", "up_blocks.1.resnets.1"),
        attention_layers=("down_blocks.1", "up_blocks.1.attentions.0"),
    )
    with recorded(model.unet) as record:
        edit(model, inversion, [parse("a fox"), parse("a red boat and a dog")], settings)
    assert len(record.attention) == 7
    check_injection(
        model,
        record,
        features={"mid_block.resnets.0": 2, "up_blocks.1.resnets.1": 2},
        attentions={
            "down_blocks.1.attentions.0.transformer_blocks.0.attn1": 3,
            "up_blocks.1.attentions.0.transformer_blocks.0.attn1": 3,
        },
    )


def test_with_everything_injected_in_all_steps_every_layer_has_the_sources_features(tiny_model, parse, invert):
    inversion = invert(tiny_model)
    settings = PlugAndPlaySettings(
        feature_share=1.0, attention_share=1.0, feature_layers=EVERYWHERE, attention_layers=EVERYWHERE
    )
    with recorded(tiny_model.unet) as record:
        edit(tiny_model, inversion, [parse("a yellow fox")], settings)
    everything = dict.fromkeys(record.residual, STEPS), dict.fromkeys(record.attention, STEPS)
    check_injection(tiny_model, record, features=everything[0], attentions=everything[1])
    modules = dict(tiny_model.unet.named_modules())
    for name, entries in record.residual.items():
        for entry in entries:
            with torch.no_grad():
                features = added(modules[name], entry)
            torch.testing.assert_close(features, features[:1].expand_as(features), **CLOSE)


def test_by_default_it_takes_the_papers_layers_and_steps(stable_diffusion):
    settings = PlugAndPlaySettings()
    assert (settings.feature_share * 50, settings.attention_share * 50) == (40, 25)
    # Decoder layers are counted from 0 at the bottom, three to a block: 4 is the second of block 1.
    assert feature_layers(stable_diffusion) == {"up_blocks.1.resnets.1"}
    blocks = [(1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (3, 0), (3, 1), (3, 2)]
    assert attention_layers(stable_diffusion) == {
        f"up_blocks.{block}.attentions.{layer}.transformer_blocks.0.attn1" for block, layer in blocks
    }


def test_with_nothing_injected_it_is_guided_sampling_of_the_target(model, parse, invert):
    inversion, target = invert(model), parse("a yellow fox")
    settings = PlugAndPlaySettings(guidance=3.0, feature_share=0.0, attention_share=0.0)
    result = edit(model, inversion, [target], settings)
    named_nothing = PlugAndPlaySettings(guidance=3.0, feature_layers=(), attention_layers=())
    plain = sampled(model, inversion.latents[-1:], target, 3.0, STEPS)
    torch.testing.assert_close(result.latents, plain, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(edit(model, inversion, [target], named_nothing).latents, result.latents)


@pytest.mark.parametrize("n", [1, 2])
def test_a_step_costs_a_pass_of_the_source_and_two_of_each_target(tiny_model, parse, invert, n):
    inversion, tracker = invert(tiny_model), CostTracker()
    edit(tiny_model, inversion, [parse("a fox")] * n, tracker=tracker)
    assert tracker.forward_equivalents == {"edit": STEPS * (1 + 2 * n)}
    tracker = CostTracker()
    edit(tiny_model, inversion, [parse("a fox")] * n, PlugAndPlaySettings(guidance=1.0), tracker=tracker)
    assert tracker.total == STEPS * (1 + n)


def test_a_cancel_leaves_no_hook_and_no_processor_behind(tiny_model, parse, invert):
    class Cancelled(Exception):
        pass

    def cancel(*report):
        raise Cancelled

    inversion = invert(tiny_model)
    before = dict(tiny_model.unet.attn_processors)
    with pytest.raises(Cancelled):
        edit(tiny_model, inversion, [parse("a fox")], tracker=CostTracker(cancel))
    assert tiny_model.unet.attn_processors == before
    assert not any(module._forward_hooks for module in tiny_model.unet.modules())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance", 101.0),
        ("feature_share", -0.1),
        ("attention_share", 1.1),
        ("feature_layers", ["up_blocks.0"]),
        ("attention_layers", ("",)),
    ],
)
def test_a_setting_out_of_bounds_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name}: got "):
        PlugAndPlaySettings(**{name: value})


@pytest.mark.parametrize("name", ["feature_layers", "attention_layers"])
def test_a_layer_that_the_unet_lacks_is_refused_before_any_pass(tiny_model, parse, invert, name):
    inversion, tracker = invert(tiny_model), CostTracker()
    with pytest.raises(ValueError, match=f"{name}: the UNet has no 'up_blocks.7', requires some of down_blocks"):
        edit(
            tiny_model,
            inversion,
            [parse("a fox")],
            PlugAndPlaySettings(**{name: ("up_blocks.7",)}),
            tracker=tracker,
        )
    assert tracker.total == 0
