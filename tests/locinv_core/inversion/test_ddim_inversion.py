"""DDIM inversion, and inversions on disk."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMInverseScheduler
from safetensors.torch import load_file, save_file

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.inversion.ddim_inversion import ddim_invert
from pinpoint.locinv_core.inversion.null_text import reconstruct_by
from pinpoint.locinv_core.inversion.storage import open_inversion, save_inversion
from pinpoint.locinv_core.text.prompt import parse_prompt

STEPS = 4


@pytest.fixture(name="inversion", scope="module")
def _inversion(tiny_model):
    prompt = parse_prompt("a red cat and a dog", tiny_model.tokenizer)
    z = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    return ddim_invert(tiny_model, z, prompt, STEPS)


def test_inversion_is_that_of_diffusers_inverse_scheduler(tiny_model, inversion):
    scheduler = DDIMInverseScheduler(
        **{k: v for k, v in tiny_model.schedule.config.items() if k not in ("thresholding", "sample_max_value")}
    )
    scheduler.set_timesteps(STEPS)
    z = inversion.pivot(STEPS)
    context = tiny_model.text_encoder(torch.tensor([inversion.prompt.token_ids]))[0]
    expected = [z]
    with torch.no_grad():
        for timestep in scheduler.timesteps:
            noise = tiny_model.unet(z, timestep, encoder_hidden_states=context).sample
            z = scheduler.step(noise, timestep, z).prev_sample
            expected.append(z)
    torch.testing.assert_close(inversion.latents, torch.cat(expected), rtol=1e-4, atol=1e-4)


def test_inversion_costs_one_forward_equivalent_a_step_and_reports_each(tiny_model, inversion):
    seen = []
    tracker = CostTracker(lambda stage, step, steps, preview: seen.append((stage, step, steps)))
    ddim_invert(tiny_model, inversion.pivot(STEPS), inversion.prompt, STEPS, tracker=tracker)
    assert tracker.forward_equivalents == {"inversion": 4.0}
    assert seen == [("inversion", step, 4) for step in (1, 2, 3, 4)]


def test_latents_of_two_images_are_refused_before_any_pass(tiny_model, inversion):
    tracker = CostTracker()
    with pytest.raises(ValueError, match=r"latents: got the shape \(2, 4, 32, 32\), requires one image"):
        ddim_invert(tiny_model, inversion.latents[:2], inversion.prompt, STEPS, tracker=tracker)
    assert tracker.total == 0


def test_an_inversion_opened_again_is_the_same_bit_for_bit(inversion, tmp_path):
    generator = torch.Generator().manual_seed(1)
    whole = replace(
        inversion,
        token_positions=(3, 6),
        token_vectors=torch.randn(STEPS, 2, 32, generator=generator),
        null_method="null-text",
        null_text=torch.randn(STEPS, 77, 32, generator=generator),
        trajectory=torch.randn(STEPS + 1, 4, 32, 32, generator=generator),
        guidance=7.5,
    )
    opened = open_inversion(save_inversion(whole, tmp_path / "cat.safetensors"))
    for name in ("latents", "token_vectors", "null_text", "trajectory"):
        assert torch.equal(getattr(opened, name), getattr(whole, name))
    for name in ("timesteps", "prompt", "fingerprint", "token_positions", "null_method", "guidance"):
        assert getattr(opened, name) == getattr(whole, name)
    assert [file.name for file in tmp_path.iterdir()] == ["cat.safetensors"]


def test_a_file_cut_short_is_refused(inversion, tmp_path):
    path = save_inversion(inversion, tmp_path / "cat.safetensors")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        open_inversion(path)


def test_a_foreign_safetensors_file_is_refused(tmp_path):
    save_file({"weight": torch.zeros(3)}, tmp_path / "lora.safetensors")
    with pytest.raises(ValueError, match="not one of Pinpoint's inversions"):
        open_inversion(tmp_path / "lora.safetensors")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*nothing\.safetensors"):
        open_inversion(tmp_path / "nothing.safetensors")


def test_a_file_whose_tensors_do_not_fit_its_facts_is_refused(inversion, tmp_path):
    path = save_inversion(inversion, tmp_path / "cat.safetensors")
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    facts = json.loads(metadata["inversion"])
    facts["timesteps"] = facts["timesteps"][:-1]
    save_file(load_file(path), path, metadata={**metadata, "inversion": json.dumps(facts)})
    with pytest.raises(ValueError, match="does not hold what it says"):
        open_inversion(path)


def test_an_inversion_of_another_model_is_refused(tiny_model, inversion):
    with pytest.raises(ValueError, match="requires the model that it was made with"):
        replace(inversion, fingerprint="0" * 32).check_model(tiny_model)


def test_direct_inversion_replays_the_pivots_and_needs_no_pass(tiny_model, inversion):
    tracker = CostTracker()
    direct = reconstruct_by("direct", tiny_model, inversion, 7.5, tracker=tracker)
    assert tracker.total == 0
    for step in range(STEPS + 1):
        assert torch.equal(direct.replayed(step), inversion.latents[STEPS - step][None])
