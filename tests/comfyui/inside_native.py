"""The backbone over ComfyUI's MODEL, CLIP and VAE, inside ComfyUI's own process:
`python -m pinpoint.tests.comfyui.inside_native HOLDER passes|edits`, as `inside_comfyui`."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import copy
import dataclasses
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import comfy.sd
import torch

from pinpoint.locinv_core.backbones.attention import AttentionControl, MapReader
from pinpoint.locinv_core.ddim import step_pairs
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.nodes.native.backbone import ComfyBackbone
from pinpoint.tests.comfyui.lora import lora
from pinpoint.tests.comfyui.tiny_checkpoint import narrow_parts, xl_parts

PROMPT = "a yellow cat and a red star in a meadow"


def latents_of(model: ComfyBackbone, rows: int = 1, seed: int = 5) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, model.latent_channels, 16, 24, generator=generator)


def context_of(model: ComfyBackbone, text: str = PROMPT) -> torch.Tensor:
    return model.encode_prompt(parse_prompt(text, model.tokenizer))


def sampled_by_comfyui(model: Any, clip: Any, noise: torch.Tensor, steps: int, scheduler: str) -> torch.Tensor:
    """What KSampler's euler makes of z_T = `noise` at cfg 1, in the core's latents."""
    import comfy.sample

    positive = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
    source = torch.zeros_like(noise)
    return comfy.sample.sample(
        model, noise, steps, 1.0, "euler", scheduler, positive, positive, source, disable_pbar=True, seed=0
    )


def sampled_by_us(model: ComfyBackbone, noise: torch.Tensor, steps: int) -> torch.Tensor:
    context = context_of(model)
    timesteps = model.schedule.timesteps(steps)
    sigma = model.schedule.sigma(timesteps[0])
    # KSampler starts from σ·noise, at full strength from √(1 + σ²)·noise.
    z = noise * ((1 + sigma**2) ** 0.5 if sigma >= float(model.schedule.sampling.sigma_max) * 0.999 else sigma)
    z = z / (1 + sigma**2) ** 0.5
    for start, end in step_pairs(timesteps):
        z = model.schedule.ddim_step(z, model.predict_noise(z, start, context), start, end)
    return z


def passes() -> dict[str, Any]:
    found: dict[str, Any] = {}
    with torch.inference_mode():  # as nodes run
        plain = narrow_parts()
        patched = (*comfy.sd.load_lora_for_models(*plain[:2], lora(), 1.0, 0.7), plain[2])
        skipped = (plain[0], plain[1].clone(), plain[2])
        skipped[1].clip_layer(-2)
        kinds = {"plain": plain, "lora": patched, "clip skip": skipped, "xl": xl_parts()}
    for name, parts in kinds.items():
        before = copy.deepcopy(parts[0].model_options)
        with torch.inference_mode(False), torch.no_grad():
            model = ComfyBackbone(*parts)
            model.load()
            z = latents_of(model, 2)
            context = context_of(model)
            told: dict[str, Any] = {
                "fingerprint": model.fingerprint,
                "maps": [layer.name for layer in model.map_layers],
            }
            direct = theirs(parts, z, 401)
            own = model.predict_noise(z, 401, context)
            told["apart"] = float((own - direct).abs().max() / direct.abs().max())
            idle = model.predict_noise(z, 401, context, control=AttentionControl())
            told["idle control"] = float((idle - own).abs().max())
            reader = MapReader(model.map_layers)
            model.capture(z, 401, context, reader)
            told["share"] = model.share(model.map_layers[-1], 16, 24)
            told["map sums"] = float((reader.mean().sum(dim=-1) - 1).abs().max())
            told["map shape"] = list(reader.mean().shape)
            told["options unchanged"] = before == parts[0].model_options
        found[name] = told
    for scheduler in ("normal", "karras", "simple", "ddim_uniform", "sgm_uniform"):
        with torch.inference_mode(False), torch.no_grad():
            model = ComfyBackbone(*plain, scheduler=scheduler)
            model.load()
            noise = latents_of(model, seed=9)
            expected = sampled_by_comfyui(*plain[:2], noise, 5, scheduler)
            expected = plain[0].model.process_latent_in(expected)
            ours = sampled_by_us(model, noise, 5)
            found[scheduler] = float((ours - expected).abs().max() / expected.abs().max())
    return found


def theirs(parts: Any, z: torch.Tensor, timestep: int) -> torch.Tensor:
    """ε as ComfyUI's samplers get it."""
    import comfy.sampler_helpers
    import comfy.samplers

    model, clip, _ = parts
    conds = clip.encode_from_tokens_scheduled(clip.tokenize(PROMPT))
    sigma = model.get_model_object("model_sampling").sigmas[timestep][None]
    x = z * (1 + sigma**2) ** 0.5
    options = copy.deepcopy(model.model_options)
    comfy.sampler_helpers.prepare_model_patcher(model, {"positive": []}, options)
    model.pre_run()
    made = {"positive": comfy.sampler_helpers.convert_cond(conds)}
    made = comfy.samplers.process_conds(model.model, x, made, x.device)
    (denoised,) = comfy.samplers.calc_cond_batch(model.model, [made["positive"]], x, sigma.expand(len(x)), options)
    model.cleanup()
    return (x - denoised) / sigma


def edits() -> dict[str, Any]:
    """The edit of a sample with the embedded model as MODEL, CLIP and VAE, beside the command line's."""
    from pinpoint.assets import SAMPLES
    from pinpoint.locinv_core.backbones.loading import load_edit_model
    from pinpoint.locinv_core.imaging.io import load_image
    from pinpoint.locinv_core.imaging.metrics import psnr
    from pinpoint.locinv_core.localization.priors import from_boxes
    from pinpoint.locinv_core.localization.token_optimizer import TuningSettings
    from pinpoint.locinv_core.pipeline import EditRequest, localized_edit
    from pinpoint.locinv_core.recipe import EditRecipe
    from pinpoint.nodes.native.embedded_parts import embedded_parts

    with torch.inference_mode():
        parts = embedded_parts()
    before = [weight.clone() for weight in parts[0].model.parameters()]
    found: dict[str, Any] = {}
    with torch.inference_mode(False), torch.no_grad():
        native, ours = ComfyBackbone(*parts), load_edit_model("embedded", device="cpu")
        native.load()
        z = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(3))
        context, expected = (
            context_of(native, "a red cat"),
            ours.encode_prompt(parse_prompt("a red cat", ours.tokenizer)),
        )
        found["context"] = float((context - expected).abs().max() / expected.abs().max())
        noise, plain = native.predict_noise(z, 401, context), ours.predict_noise(z, 401, expected)
        found["noise"] = float((noise - plain).abs().max() / plain.abs().max())
        image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(4))
        found["encode"] = float((native.encode(image) - ours.encode(image)).abs().max())
        found["decode"] = float((native.decode(z) - ours.decode(z)).abs().max())
        found["maps"] = [len(native.map_layers), len(ours.map_layers), native.native_size, ours.native_size]
        found["share"] = [model.share(model.map_layers[-1], 16, 16) for model in (native, ours)]
        photo = load_image(SAMPLES / "02352.png")
        prior = from_boxes({"cat": (11, 30, 57, 73)}, (128, 128))
        request = EditRequest(
            image=photo,
            source="a yellow cat and a red star in a meadow",
            target="a yellow fox and a red star in a meadow",
            prior=prior,
            steps=10,
        )
        tuning = TuningSettings("exact", inner_steps=3, learning_rate=5.0, anneal=False)
        recipe = EditRecipe("locinv", "exact", null="null-text")
        exact = dataclasses.replace(request, recipe=recipe, tuning=tuning, steps=4)
        for name, wanted in {"fast": request, "exact, null-text": exact}.items():
            results = [localized_edit(model, wanted) for model in (native, ours)]
            found[name] = {
                "edited": psnr(results[0].edited, results[1].edited),
                "reconstruction": psnr(*(result.edit.source_latents for result in results)),
                "moved": psnr(results[1].edited, photo),
            }
    after = list(parts[0].model.parameters())
    found["unchanged"] = all(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    return found


tell({"passes": passes, "edits": edits}[WHAT]())
