"""The training of the text-to-image models: its arithmetic by hand, its resuming, and that the recipe runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import load_file
from torch import Tensor

from pinpoint.locinv_core.imaging.metrics import psnr
from pinpoint.research.embedded_world.networks.diffusion import (
    build_scheduler,
    draw_rows,
    draw_timesteps,
    noise_loss,
    noise_weights,
    noised,
)
from pinpoint.research.embedded_world.networks.vae import (
    build_vae,
    encode_set,
    standardise_latents,
    train_decoder,
    train_vae,
    vae_loss,
)
from pinpoint.research.embedded_world.scenes.dataset import load_images
from pinpoint.research.embedded_world.training.fitting import Run
from pinpoint.research.embedded_world.training.recipe import DecoderRecipe, Recipe, VaeRecipe
from pinpoint.research.embedded_world.training.state import Average, one_cycle
from pinpoint.research.embedded_world.training.training import Training, train
from pinpoint.research.embedded_world.training.workers import run_workers
from pinpoint.tests.fixtures.smoke_training import train as train_by_command

TINY = VaeRecipe(channels=(8, 8, 16), latents=4, groups=4, steps=4, batch=2, crop=32)


def quiet(line: str) -> None:
    pass


def noise_images(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 48, 48), generator=generator, dtype=torch.uint8)


def test_the_weights_are_the_root_of_noise_over_signal_up_to_their_cap() -> None:
    # alpha_bar 1/2, 4/5, 1/10, 1/1000: noise over signal 1, 1/4, 9, 999.
    weights = noise_weights(torch.tensor([1 / 2, 4 / 5, 1 / 10, 1 / 1000], dtype=torch.float64), 4.0)
    assert weights.tolist() == pytest.approx([1.0, 0.5, 3.0, 4.0])


def test_timesteps_and_their_factors_together_follow_the_weights() -> None:
    weights = torch.tensor([1.0, 4.0, 16.0])  # density 1 : 2 : 4, factors 1, 2, 4
    timesteps, factors = draw_timesteps(weights, 7000, torch.Generator().manual_seed(0))
    assert torch.bincount(timesteps).tolist() == pytest.approx([1000, 2000, 4000], abs=2)
    assert torch.equal(factors, torch.tensor([1.0, 2.0, 4.0])[timesteps])


def test_images_of_several_objects_are_drawn_more_often_by_a_power_of_their_number() -> None:
    objects = torch.tensor([1, 2, 3])
    rows = draw_rows(objects, 2.0, 50_000, torch.Generator().manual_seed(0))
    shares = torch.bincount(rows, minlength=3) / len(rows)
    assert torch.allclose(shares, torch.tensor([1 / 14, 4 / 14, 9 / 14]), atol=0.01)


def test_the_learning_rate_rises_in_a_twentieth_and_falls_along_a_cosine() -> None:
    rates = [one_cycle(step, 200, 1.0) for step in range(200)]
    assert rates[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[105] == pytest.approx(0.01 + 0.99 * 0.5)  # half way down
    assert rates[-1] < 0.012


def test_the_running_average_has_a_short_memory_at_first() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(module.weight)
    average = Average(module, 0.9)
    torch.nn.init.ones_(module.weight)
    average.update(module, 0)  # decay 1 / 10
    assert average.tensors["weight"].item() == pytest.approx(0.9)
    average.update(module, 8)  # decay 9 / 18
    assert average.tensors["weight"].item() == pytest.approx(0.95)
    average.update(module, 1000)  # decay 0.9
    assert average.tensors["weight"].item() == pytest.approx(0.955)


def test_the_autoencoders_loss_agrees_with_a_hand_calculation() -> None:
    recipe = replace(TINY, edges=0.5, kl=0.01)
    target = torch.zeros(1, 3, 2, 2)
    decoded = torch.zeros(1, 3, 2, 2)
    decoded[:, :, 0, 0] = 1.0  # L1 1/4, MSE 1/4, vertical and horizontal differences 1/2 each
    mean, logvar = torch.full((1, 4, 1, 1), 2.0), torch.zeros(1, 4, 1, 1)  # KL 4 * 2^2 / 2 = 8
    loss = vae_loss(decoded, target, mean, logvar, recipe)
    assert loss.item() == pytest.approx(0.25 + 0.25 + 0.5 * (0.5 + 0.5) + 0.01 * 8)


def test_standardised_latents_have_no_mean_and_one_deviation_and_decode_to_the_same_images() -> None:
    torch.manual_seed(0)
    vae = build_vae(TINY).eval()
    images = noise_images().float() / 127.5 - 1
    with torch.no_grad():
        before = vae.encode(images).latent_dist
        decoded_before = vae.decode(before.mean).sample
        common = standardise_latents(vae, before.mean)
        after = vae.encode(images).latent_dist
        decoded_after = vae.decode(after.mean).sample
    assert after.mean.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert after.mean.std(dim=(0, 2, 3)).tolist() == pytest.approx([common] * 4, rel=1e-4)
    factor = common / before.mean.std(dim=(0, 2, 3)).view(1, 4, 1, 1)
    torch.testing.assert_close(after.std, before.std * factor, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(decoded_after, decoded_before, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    run = Run(tmp_path / "vae.safetensors", tmp_path, 0, quiet)
    train_vae(noise_images(), replace(TINY, steps=1), run)
    with pytest.raises(ValueError, match="another model"):
        train_vae(noise_images(), replace(TINY, channels=(8, 16, 16)), run)


def test_one_worker_runs_in_this_process() -> None:
    seen: list[int] = []
    run_workers(1, seen.append, 7)
    assert seen == [7]


def test_the_noise_schedule_leaves_next_to_nothing_of_the_image() -> None:
    scheduler = build_scheduler()
    scheduler.set_timesteps(50)
    assert scheduler.timesteps.tolist() == list(range(981, 0, -20))
    # The root of beta runs evenly from that of 0.0015 to that of 0.0195.
    roots = [math.sqrt(0.0015) + (math.sqrt(0.0195) - math.sqrt(0.0015)) * k / 999 for k in range(1000)]
    product = math.prod(1 - root**2 for root in roots)
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(product, rel=1e-4)
    # A mean over 32 x 32 cells is known to 1/32 of the noise; what is left of the image's is less.
    assert math.sqrt(product) < 1 / 32


def test_latents_are_noised_as_diffusers_scheduler_does_it() -> None:
    scheduler, rng = build_scheduler(), torch.Generator().manual_seed(0)
    clean, noise = torch.randn(2, 3, 4, 5, 5, generator=rng)
    timesteps = torch.tensor([0, 500, 999])
    expected = scheduler.add_noise(clean, noise, timesteps)
    torch.testing.assert_close(noised(clean, noise, scheduler.alphas_cumprod[timesteps]), expected)


def test_the_loss_of_the_noise_weighs_each_image() -> None:
    noise, predicted = torch.zeros(2, 1, 1, 2), torch.tensor([1.0, 3.0, 2.0, 0.0]).view(2, 1, 1, 2)
    # Mean squares 5 and 2, times 1 and 4, over two images.
    assert noise_loss(predicted, noise, torch.tensor([1.0, 4.0])).item() == pytest.approx(6.5)


def decoded_psnr(vae: AutoencoderKL, images: Tensor) -> Tensor:
    with torch.no_grad():
        decoded = vae.decode(vae.encode(images / 127.5 - 1).latent_dist.mean).sample
    made = (decoded.clamp(-1, 1) + 1) / 2
    return torch.tensor([psnr(one[None], true[None] / 255) for one, true in zip(made, images, strict=True)])


def test_a_decoder_trained_further_draws_better_from_the_same_latents(tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = build_vae(TINY).eval().requires_grad_(False)
    images = torch.stack([torch.full((3, 32, 32), value, dtype=torch.uint8) for value in (20, 120, 230)])
    encoder = {name: value.clone() for name, value in vae.encoder.state_dict().items()}
    before = decoded_psnr(vae, images)
    kept: list[Tensor] = []
    train_decoder(
        vae,
        encode_set(vae, images),
        images,
        DecoderRecipe(steps=100, batch=2, rate=5e-3, rate_of_ends=5e-3),
        Run(tmp_path / "decoder.safetensors", tmp_path, 0, quiet),
        snapshot=lambda: kept.append(decoded_psnr(vae, images)),
    )
    after = decoded_psnr(vae, images)
    assert (after > before + 3).all()
    assert torch.equal(kept[-1], after)
    assert all(torch.equal(value, encoder[name]) for name, value in vae.encoder.state_dict().items())


def test_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    images = noise_images()
    whole = train_vae(images, TINY, Run(tmp_path / "whole.safetensors", tmp_path, 3, quiet))

    class Stopped(Exception):
        pass

    def stop(line: str) -> None:
        raise Stopped

    # The first half of a run of four steps: the same schedule, broken off by its own report at step 2.
    half, often = tmp_path / "half.safetensors", replace(TINY, report_steps=2, save_steps=2)
    with pytest.raises(Stopped):
        train_vae(images, often, Run(half, tmp_path, 3, stop))
    assert half.exists()
    resumed = train_vae(images, TINY, Run(half, tmp_path, 3, quiet))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_smoke_run_writes_a_folder_that_diffusers_opens_and_draws_with(smoke: Path) -> None:
    assert not list(smoke.rglob("*.bin")) + list(smoke.rglob("*.pt"))
    pipeline = StableDiffusionPipeline.from_pretrained(smoke / "out", torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline("a red cat", num_inference_steps=2, guidance_scale=2.0, output_type="np").images
    assert image.shape == (1, 128, 128, 3)
    assert math.isfinite(float(image.mean()))


def test_more_steps_go_on_from_the_last(go_on: Callable[..., str], tmp_path: Path) -> None:
    unet = tmp_path / "out" / "unet" / "diffusion_pytorch_model.safetensors"
    before = unet.read_bytes()
    printed = go_on("--stages", "diffusion", "--steps-unet", "4")
    assert "unet: going on from step 3" in printed and "unet: step 4/4" in printed
    assert unet.read_bytes() != before


def test_models_can_be_trained_further_from_a_folder(go_on: Callable[..., str], tmp_path: Path) -> None:
    start = str(tmp_path / "out")
    printed = go_on("--stages", "diffusion", "--restart", "--steps-unet", "1", "--start", start)
    assert f"starting from the weights in {start}" in printed


def test_the_decoder_stage_leaves_latents_and_what_was_trained_on_them(
    go_on: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "out" / "vae" / "diffusion_pytorch_model.safetensors"
    go_on("--stages", "vae")  # done already: written again, without the decoder's further training
    before = load_file(file)
    go_on("--stages", "decoder")
    after = load_file(file)
    changed = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert "decoder" in changed
    assert changed <= {"decoder", "post_quant_conv"}
    printed = go_on("--stages", "decoder,diffusion", "--steps-decoder", "4", "--steps-unet", "1")
    assert "decoder: going on from step 3" in printed and "decoder: step 4/4" in printed
    assert "encoding the training set" not in printed
    # Another encoder's latents: the decoder that was begun is no use to them.
    printed = go_on("--stages", "vae,decoder", "--steps-vae", "4")
    assert "encoding the training set" in printed
    assert "decoder: going on" not in printed and "decoder: step 3/3" in printed


@pytest.mark.slow
def test_two_workers_train_what_one_does(tmp_path: Path) -> None:
    recipe = replace(Recipe().smoke(), scenes=4)
    for processes in (1, 2):
        folder = tmp_path / str(processes)
        train(Training(recipe, folder, print, out=folder / "out"), ("tokenizer", "vae"), processes=processes)
    alone = build_vae(recipe.vae)
    shared = build_vae(recipe.vae)
    alone.load_state_dict(load_file(tmp_path / "1/out/vae/diffusion_pytorch_model.safetensors"))
    shared.load_state_dict(load_file(tmp_path / "2/out/vae/diffusion_pytorch_model.safetensors"))
    images = load_images(tmp_path / "1/scenes", "images")
    # Not bit for bit: sums are taken in another order, and in bfloat16.
    torch.testing.assert_close(encode_set(alone, images), encode_set(shared, images), rtol=0.1, atol=0.1)


def test_bad_numbers_and_missing_models_are_refused_before_any_work(tmp_path: Path) -> None:
    for words, message in (
        (["--stages", "vae,gan"], "stages: got gan"),
        (["--steps-unet", "0"], "--steps-unet: got 0, requires 1 or more"),
        (["--start", str(tmp_path / "nowhere")], r"--start: .* has no folder unet"),
        (["--stages", "vae", "--start", str(tmp_path)], r"--start: .* has none of diffusion, instruct, clip"),
        (["--seed", "-1"], "--seed: got -1"),
        (["--stages", "diffusion"], r"diffusion requires .*vocab\.json"),
        (["--stages", "decoder"], r"decoder requires .*vae.config\.json"),
        (["--stages", "amused"], r"amused requires .*clip.*; train the stage clip first"),
        (["--stages", "clip,amused", "--processes", "3"], "processes: got 3, and amused has 16 scenes of a"),
        (["--smoke", "--stages", "clip", "--processes", "4"], "processes: got 4, and clip has 2 poor crops"),
        (["--stages", "clip,amused", "--scenes", "101", "--processes", "2"], "101 scenes; requires a divisor of 101"),
        (["--stages", "clip,amused", "--steps-vq", "300"], "vq: got 300 steps, requires more than the 300"),
    ):
        with pytest.raises(ValueError, match=message):
            train_by_command(*words, "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"))
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_that_is_not_whole_is_named(tmp_path: Path) -> None:
    (tmp_path / "out" / "tokenizer").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"requires .*vocab\.json; train the stage tokenizer first"):
        train_by_command("--stages", "clip", "--work", str(tmp_path / "work"), "--out", str(tmp_path / "out"))
