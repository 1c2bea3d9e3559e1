"""The DDIM schedule against diffusers' own schedulers."""

from __future__ import annotations

import pytest
import torch
from diffusers import DDIMInverseScheduler, DDIMScheduler

from pinpoint.locinv_core.ddim import CLEAN, schedule_from_config, step_pairs

STABLE_DIFFUSION = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "steps_offset": 1,
    "set_alpha_to_one": False,
    "clip_sample": False,
    "prediction_type": "epsilon",
}


def config(**changes):
    return {**STABLE_DIFFUSION, **changes}


def test_fifty_steps_of_stable_diffusion_start_at_981_and_end_at_1():
    timesteps = schedule_from_config(config()).timesteps(50)
    assert timesteps[:3] == (981, 961, 941)
    assert timesteps[-2:] == (21, 1)
    assert len(timesteps) == 50


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [10, 50])
def test_sampling_steps_are_those_of_diffusers(prediction_type, steps):
    schedule = schedule_from_config(config(prediction_type=prediction_type))
    theirs = DDIMScheduler(**config(prediction_type=prediction_type))
    theirs.set_timesteps(steps)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 4, 8, 8, generator=generator)
    for start, end in step_pairs(schedule.timesteps(steps)):
        output = torch.randn(1, 4, 8, 8, generator=generator)
        expected = theirs.step(output, start, z).prev_sample
        noise = schedule.noise_from_output(output, z, start)
        torch.testing.assert_close(schedule.ddim_step(z, noise, start, end), expected, rtol=1e-5, atol=1e-5)
        z = expected


@pytest.mark.parametrize("steps", [10, 50])
def test_inversion_steps_are_those_of_diffusers(steps):
    schedule = schedule_from_config(config())
    theirs = DDIMInverseScheduler(**config())
    theirs.set_timesteps(steps)
    generator = torch.Generator().manual_seed(1)
    z = torch.randn(1, 4, 8, 8, generator=generator)
    for upper, lower in reversed(step_pairs(schedule.timesteps(steps))):
        noise = torch.randn(1, 4, 8, 8, generator=generator)
        expected = theirs.step(noise, upper, z).prev_sample
        torch.testing.assert_close(schedule.ddim_step(z, noise, lower, upper), expected, rtol=1e-5, atol=1e-5)
        z = expected


def test_a_step_up_and_the_same_step_down_along_one_noise_cancel():
    schedule = schedule_from_config(config())
    generator = torch.Generator().manual_seed(2)
    z, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    up = schedule.ddim_step(z, noise, CLEAN, 1)
    torch.testing.assert_close(schedule.ddim_step(up, noise, 1, CLEAN), z)


def test_the_last_step_ends_at_the_final_alpha_of_the_config():
    assert schedule_from_config(config()).alpha(CLEAN) == pytest.approx(1 - 0.00085, abs=1e-6)
    assert schedule_from_config(config(set_alpha_to_one=True)).alpha(CLEAN) == 1.0


def test_v_prediction_gives_back_the_noise_that_made_it():
    """With z = √ᾱ·x + √(1−ᾱ)·ε and v = √ᾱ·ε − √(1−ᾱ)·x (Salimans and Ho 2022), ε follows from z and v."""
    schedule = schedule_from_config(config(prediction_type="v_prediction"))
    generator = torch.Generator().manual_seed(3)
    clean, noise = torch.randn(2, 1, 4, 8, 8, generator=generator)
    alpha = float(torch.linspace(0.00085**0.5, 0.012**0.5, 1000).square().neg().add(1).cumprod(0)[500])
    z = alpha**0.5 * clean + (1 - alpha) ** 0.5 * noise
    v = alpha**0.5 * noise - (1 - alpha) ** 0.5 * clean
    torch.testing.assert_close(schedule.noise_from_output(v, z, 500), noise, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("steps", [0, -3, 1001, 2.5])
def test_steps_out_of_bounds_are_refused(steps):
    with pytest.raises(ValueError, match="steps: got"):
        schedule_from_config(config()).timesteps(steps)


def test_other_prediction_types_are_refused():
    with pytest.raises(ValueError, match="prediction_type is 'sample'"):
        schedule_from_config(config(prediction_type="sample"))


ZERO_SNR = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "prediction_type": "v_prediction"}


def test_sampling_of_a_schedule_that_ends_in_pure_noise_starts_a_little_below_it():
    schedule = schedule_from_config(config(**ZERO_SNR))
    # Lin et al. 2024: √ᾱ shifted and scaled so that the last is 0 and the first stays.
    root = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64).square().neg().add(1).cumprod(0).sqrt()
    alphas = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    first = int((alphas > 1e-6).nonzero().max())
    assert 990 < first < 999
    assert schedule.timesteps(50) == (first, *range(979, 0, -20))
    assert schedule.alpha(999) == 0
    with pytest.raises(ValueError, match=f"steps: got 1000, .* pure noise, above {first}; requires fewer steps"):
        schedule.timesteps(1000)


def test_a_v_step_from_almost_pure_noise_is_exact_to_float32():
    """In double precision: x = √ᾱ·z − √(1−ᾱ)·v and ε = √ᾱ·v + √(1−ᾱ)·z."""
    schedule = schedule_from_config(config(**ZERO_SNR))
    start, end = schedule.timesteps(50)[:2]
    generator = torch.Generator().manual_seed(4)
    z, v = torch.randn(2, 1, 4, 8, 8, generator=generator)
    a, b = (schedule.alphas_cumprod[t].double() for t in (start, end))
    clean = a.sqrt() * z.double() - (1 - a).sqrt() * v.double()
    noise = a.sqrt() * v.double() + (1 - a).sqrt() * z.double()
    expected = b.sqrt() * clean + (1 - b).sqrt() * noise
    stepped = schedule.ddim_step(z, schedule.noise_from_output(v, z, start), start, end)
    torch.testing.assert_close(stepped.double(), expected, rtol=1e-3, atol=1e-4)
