"""Attention maps of an inversion: their mean over the steps, and the maps of each step."""

from __future__ import annotations

import pytest
import torch

from pinpoint.locinv_core.backbones.attention import MapReader
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.inversion.ddim_inversion import ddim_invert
from pinpoint.locinv_core.localization.attention_maps import average_maps, maps_before_and_after, maps_by_step
from pinpoint.locinv_core.text.prompt import parse_prompt

STEPS = 3


@pytest.fixture(name="inversion", scope="module")
def _inversion(tiny_model):
    prompt = parse_prompt("a red cat and a dog", tiny_model.tokenizer)
    z = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    return ddim_invert(tiny_model, z, prompt, STEPS)


def test_average_maps_are_the_mean_over_steps_of_each_steps_maps(tiny_model, inversion):
    context = tiny_model.encode_prompt(inversion.prompt)
    expected = torch.zeros(256, 77)
    with torch.no_grad():
        for step in range(STEPS):
            reader = MapReader(tiny_model.map_layers)
            tiny_model.capture(inversion.pivot(step), inversion.timesteps[step], context, reader)
            expected += reader.mean()[0] / STEPS
    maps = average_maps(tiny_model, inversion, lambda i: context)
    torch.testing.assert_close(maps[0].reshape(256, 77), expected)


@pytest.mark.parametrize("optimized", [False, True])
def test_the_mean_over_the_maps_by_step_is_the_average_map_for_the_same_passes(tiny_model, inversion, optimized):
    if optimized:
        width = tiny_model.text_encoder.config.hidden_size
        inversion = inversion.with_tokens(inversion.prompt.find("cat").tokens, torch.randn(STEPS, 1, width))
    runs = CostTracker(), CostTracker()
    with runs[0].stage("maps"), runs[1].stage("maps"):
        found = maps_by_step(tiny_model, inversion, ["cat", "dog"], tracker=runs[0])
        known = maps_before_and_after(tiny_model, inversion, ["cat", "dog"], tracker=runs[1])
    for by_step, averaged in zip(found, known, strict=True):
        for word in ("cat", "dog"):
            assert len(by_step[word]) == STEPS
            torch.testing.assert_close(by_step[word].mean(dim=0), averaged[word])
    assert torch.equal(found[0]["cat"], found[1]["cat"]) is not optimized
    assert runs[0].total == runs[1].total > 0
