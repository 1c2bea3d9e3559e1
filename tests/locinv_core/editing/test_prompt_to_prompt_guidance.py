"""Guidance and its proximal kind against hand calculations and a plain version in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import maximum_filter

from pinpoint.locinv_core.editing.edit import edit
from pinpoint.locinv_core.editing.proximal import ProximalStep, hard_threshold
from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.guidance import guided_noise
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion
from pinpoint.locinv_core.text.prompt import parse_prompt


def test_guidance_goes_from_the_unconditional_noise_through_the_conditional():
    conditional, unconditional = torch.tensor([3.0]), torch.tensor([1.0])
    assert guided_noise(conditional, unconditional, 7.5).item() == 16.0
    assert guided_noise(conditional, unconditional, 0.0).item() == 1.0
    assert guided_noise(conditional, None, 7.5) is conditional


def test_a_quantile_drops_the_weak_part_of_each_row_by_itself():
    # Of 11 values the quantile 0.7 is the eighth by magnitude: three are above it.
    row = torch.tensor([0.0, -1, 2, -3, 4, -5, 6, -7, 8, -9, 10])
    rows = torch.stack([row, row / 100]).view(2, 1, 1, 11)
    difference, kept = hard_threshold(rows, 0.7)
    assert difference[0].flatten().tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 8, -9, 10]
    assert torch.equal(difference[1], difference[0] / 100)
    assert kept[0].flatten().tolist() == [False] * 8 + [True] * 3


def proximal_by_numpy(schedule, z, conditional, unconditional, clean, start, end, guidance):
    """Han et al. 2023 with an l0 penalty: quantile 0.7, pull 0.1 below timestep 400, one cell around."""
    alphas = schedule.alphas_cumprod.double().numpy()
    alpha, following = alphas[start], alphas[end] if end >= 0 else schedule.final_alpha
    out = []
    for row in range(len(z)):
        delta = (conditional - unconditional)[row].double().numpy()
        delta = np.where(np.abs(delta) > np.quantile(np.abs(delta), 0.7), delta, 0)
        noise = unconditional[row].double().numpy() + guidance * delta
        x0 = (z[row].double().numpy() - np.sqrt(1 - alpha) * noise) / np.sqrt(alpha)
        if start < 400:
            pulled = maximum_filter((delta != 0).astype(float), size=(1, 3, 3), mode="constant") == 0
            x0 = np.where(pulled, 0.9 * x0 + 0.1 * clean[0].double().numpy(), x0)
        out.append(np.sqrt(following) * x0 + np.sqrt(1 - following) * noise)
    return torch.from_numpy(np.stack(out)).float()


def test_a_proximal_step_is_what_numpy_works_out(tiny_model):
    generator = torch.Generator().manual_seed(3)
    z, conditional, unconditional = (torch.randn(2, 4, 12, 16, generator=generator) for _ in range(3))
    # smooth differences, so that some place is far from everything kept
    difference = torch.linspace(0, 1, 16).expand(2, 4, 12, 16) * torch.randn(2, 4, 12, 1, generator=generator)
    conditional = unconditional + difference
    clean = torch.randn(1, 4, 12, 16, generator=generator)
    settings = EditSettings(guidance=5.0)
    for start, end in ((601, 401), (401, 201), (201, 1), (1, -1)):
        step = ProximalStep(tiny_model.schedule, settings, clean)
        got = step.target(z, conditional, unconditional, (start, end))
        expected = proximal_by_numpy(tiny_model.schedule, z, conditional, unconditional, clean, start, end, 5.0)
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
        unpulling = replace(step, settings=replace(settings, proximal_pull=0.0))
        unpulled = unpulling.target(z, conditional, unconditional, (start, end))
        assert torch.equal(got, unpulled) == (start >= 400)


def test_proximal_guidance_pulls_the_whole_source_branch_to_the_image(tiny_model):
    latents = torch.randn(6, 4, 16, 16, generator=torch.Generator().manual_seed(8))
    prompt = parse_prompt("a cat", tiny_model.tokenizer, nouns=[], bindings=[])
    target = parse_prompt("a fox", tiny_model.tokenizer, nouns=[], bindings=[])
    inversion = Inversion(latents, tiny_model.schedule.timesteps(5), prompt, tiny_model.fingerprint)
    result = edit(tiny_model, replace(inversion, null_method="proximal"), [target])

    context = tiny_model.encode_prompt(prompt)
    z = latents[-1:]
    timesteps = tiny_model.schedule.timesteps(5)
    with torch.no_grad():
        for start, end in zip(timesteps, (*timesteps[1:], -1), strict=True):
            noise = tiny_model.unet(z, start, encoder_hidden_states=context).sample
            z = proximal_by_numpy(tiny_model.schedule, z, noise, noise, latents[:1], start, end, 1.0)
    torch.testing.assert_close(result.source_latents, z, rtol=1e-3, atol=1e-4)

    plain = edit(tiny_model, replace(inversion, null_method="negative-prompt"), [target])
    apart = [float((r.source_latents - latents[:1]).abs().mean()) for r in (result, plain)]
    assert apart[0] < apart[1]


def test_every_proximal_setting_has_an_effect(tiny_model):
    latents = torch.randn(6, 4, 16, 16, generator=torch.Generator().manual_seed(8))
    prompt = parse_prompt("a cat", tiny_model.tokenizer, nouns=[], bindings=[])
    target = parse_prompt("a fox", tiny_model.tokenizer, nouns=[], bindings=[])
    inversion = Inversion(
        latents, tiny_model.schedule.timesteps(5), prompt, tiny_model.fingerprint, null_method="proximal"
    )
    base = edit(tiny_model, inversion, [target]).latents
    for change in (
        {"proximal_quantile": 0.3},
        {"proximal_pull": 0.3},
        {"proximal_until": 0.1},
        {"proximal_grow": 0},
        {"guidance": 1.0},
    ):
        other = edit(tiny_model, inversion, [target], replace(EditSettings(), **change)).latents
        assert float((other - base).abs().max()) > 1e-3, change
