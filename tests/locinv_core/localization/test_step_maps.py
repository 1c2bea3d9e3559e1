"""The maps at each step, and their average, are what the core reads."""

from __future__ import annotations

import torch

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.inversion.ddim_inversion import ddim_invert
from pinpoint.locinv_core.localization.attention_maps import maps_before_and_after
from pinpoint.locinv_core.localization.step_maps import maps_by_step
from pinpoint.locinv_core.text.prompt import parse_prompt


def test_the_mean_over_the_steps_is_the_cores_map_for_the_same_passes(tiny_model):
    model = tiny_model
    prompt = parse_prompt("a red cat and a dog", model.tokenizer)
    z = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    inversion = ddim_invert(model, z, prompt, 3)
    width = model.text_encoder.config.hidden_size
    tuned = inversion.with_tokens(prompt.find("cat").tokens, torch.randn(3, 1, width))
    for each in (inversion, tuned):
        runs = CostTracker(), CostTracker()
        with runs[0].stage("maps"), runs[1].stage("maps"):
            found = maps_by_step(model, each, ["cat", "dog"], tracker=runs[0])
            known = maps_before_and_after(model, each, ["cat", "dog"], tracker=runs[1])
        for by_step, averaged in zip(found, known, strict=True):
            for word in ("cat", "dog"):
                assert len(by_step[word]) == 3
                torch.testing.assert_close(by_step[word].mean(dim=0), averaged[word])
        assert runs[0].total == runs[1].total > 0
