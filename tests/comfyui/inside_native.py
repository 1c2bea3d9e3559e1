"""The backbone over ComfyUI's MODEL, CLIP and VAE, inside ComfyUI's own process:
`python -m pinpoint.tests.comfyui.inside_native HOLDER passes|patches|edits`, as `inside_comfyui`."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import copy
import dataclasses
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import comfy.patcher_extension
import comfy.sd
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy_extras.nodes_freelunch import FreeU

from pinpoint.locinv_core.backbones.attention import AttentionControl, AttentionLayer, MapReader
from pinpoint.locinv_core.ddim import step_pairs
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.nodes.native.backbone import ComfyBackbone
from pinpoint.tests.comfyui.lora import lora
from pinpoint.tests.comfyui.tiny_checkpoint import control_net, narrow_parts, xl_parts

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


def theirs(
    parts: Any, z: torch.Tensor, timestep: int, text: str = PROMPT, condition: Any = None, which: int = 1
) -> torch.Tensor:
    """ε as ComfyUI's samplers get it, in the slot of the prompt (which 1) or of the negative one (which 0)."""
    import comfy.sampler_helpers
    import comfy.samplers

    model, clip, _ = parts
    conds = clip.encode_from_tokens_scheduled(clip.tokenize(text))
    for _, told in condition or []:
        conds[0][1].update(told)
    sigma = model.get_model_object("model_sampling").sigmas[timestep][None]
    x = z * (1 + sigma**2) ** 0.5
    options = copy.deepcopy(model.model_options)
    comfy.sampler_helpers.prepare_model_patcher(model, {"positive": []}, options)
    model.pre_run()
    made = {"positive": comfy.sampler_helpers.convert_cond(conds)}
    made = comfy.samplers.process_conds(model.model, x, made, x.device)
    slots = [made["positive"], None] if which == 1 else [None, made["positive"]]
    denoised = comfy.samplers.calc_cond_batch(model.model, slots, x, sigma.expand(len(x)), options)[1 - which]
    model.cleanup()
    return (x - denoised) / sigma


def patches() -> dict[str, Any]:
    """Passes of patched MODELs beside ComfyUI's own, plain and with every map read; and the keys of words."""
    with torch.inference_mode():
        model, clip, vae = narrow_parts()
        adapted = model.clone()
        for block in (("input", 1), ("input", 7), ("middle", 0), ("output", 4)):
            adapted.set_model_attn2_replace(adapter, *block)
        hint = control_net().set_cond_hint(torch.rand(1, 3, 128, 192), 0.8, (0.0, 1.0))
        condition = [[torch.zeros(1, 77, 64), {"control": hint, "control_apply_to_uncond": True}]]
        kinds = {
            "FreeU": (FreeU().patch(model, 1.3, 1.4, 0.9, 0.2)[0], clip, vae),
            "adapter": (adapted, clip, vae),
            "ControlNet": (model, clip, vae),
            "fp8": narrow_parts("fp8"),
            "scaled fp8": narrow_parts("scaled fp8"),
            "streamed LoRA": (comfy.sd.load_lora_for_models(model, clip, lora(), 1.0, 0.0)[0], clip, vae),
        }
    found: dict[str, Any] = {}
    for name, parts in kinds.items():
        given = condition if name == "ControlNet" else None
        found[name] = patched_pass(name, parts, given)
        found[name]["gradient"] = keys_gradient(ComfyBackbone(*parts))
    with torch.inference_mode(False), torch.no_grad():
        plain = ComfyBackbone(model, clip, vae)
        text = "a yellow (cat:1.4) and a (red star)"
        prompt = parse_prompt(text, plain.tokenizer)
        own, bare = plain.encode_prompt(prompt), plain.encode_prompt(dataclasses.replace(prompt, weights=()))
        expected = clip.encode_from_tokens(clip.tokenize(text))
        words = [word.text for word in prompt.words]
    found["weights"] = {"apart": apart(own, expected), "moved": apart(own, bare), "words": words}
    found["refused"] = [refused(parts) for parts in unfit(model, clip, vae)]
    return found


class EveryMap(AttentionControl):
    """Has every cross-attention's probabilities made, and notes where."""

    def __init__(self) -> None:
        self.read: set[str] = set()

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return layer.kind == "cross"

    def probabilities(self, layer: AttentionLayer, probabilities: torch.Tensor) -> torch.Tensor:
        self.read.add(layer.name)
        return probabilities


def patched_pass(name: str, parts: Any, condition: Any) -> dict[str, float]:
    """Two rows, the first without the prompt: ours beside ComfyUI's; with all maps read; and an unpatched MODEL's."""
    with torch.inference_mode(False), torch.no_grad():
        native = ComfyBackbone(parts[0], parts[1], parts[2], conditioning=condition)
        native.load()
        if name == "streamed LoRA":  # as with --lowvram: weights are cast, and patched, as they are used
            with torch.inference_mode():
                parts[0].unpatch_model(torch.device("cpu"))
                parts[0].load(torch.device("cpu"), lowvram_model_memory=1)
        z, rows = latents_of(native, 2), torch.cat([context_of(native, "a"), context_of(native)])
        own = native.predict_noise(z, 401, rows, unconditional=slice(1))
        without = theirs(parts, z[:1], 401, "a", condition, which=0)
        expected = torch.cat([without, theirs(parts, z[1:], 401, PROMPT, condition)])
        reader = EveryMap()
        read = native.predict_noise(z, 401, rows, control=reader, unconditional=slice(1))
        assert reader.read == {layer.name for layer in native.layers if layer.kind == "cross"}
        told = {"apart": apart(own, expected), "with maps": apart(read, own)}
        if "fp8" not in name:
            with torch.inference_mode():
                model, clip, vae = narrow_parts()
            plain = ComfyBackbone(model, clip, vae)
            plain.load()
            told["moved"] = apart(plain.predict_noise(z, 401, rows), own)
        return told


def keys_gradient(native: ComfyBackbone) -> float:
    """How far the gradient of the words' keys is from the difference that it foretells; keys are linear."""
    native.load()
    with torch.inference_mode(False), torch.enable_grad():
        layer, context = native.map_layers[0].name, context_of(native)
        leaf, generator = context.clone().requires_grad_(), torch.Generator().manual_seed(1)
        keys = native.word_keys(layer, leaf)
        weights = torch.randn(keys.shape, generator=generator)
        direction = torch.randn(leaf.shape, generator=generator)
        (gradient,) = torch.autograd.grad((keys * weights).sum(), leaf)
        with torch.no_grad():
            moved = native.word_keys(layer, context + direction) - native.word_keys(layer, context)
            return apart((moved * weights).sum(), (gradient * direction).sum())


def apart(left: torch.Tensor, right: torch.Tensor) -> float:
    return float((left - right).abs().max() / right.abs().max())


def adapter(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    """What IPAdapter is: attention, and beside it attention to an image, for rows with the prompt alone."""
    heads, kinds = options["n_heads"], options["cond_or_uncond"]
    beside = optimized_attention(q, 0.7 * k[:, :4], 1.3 * v[:, :4], heads)
    shares = torch.tensor([float(kind == 0) for kind in kinds]).repeat_interleave(len(q) // len(kinds))
    return optimized_attention(q, k, v, heads) + beside * shares[:, None, None]


def unfit(model: Any, clip: Any, vae: Any) -> list[tuple[Any, Any, Any]]:
    """A MODEL whose sampler is patched, one that is wrapped, and a CLIP of another width."""
    guided, wrapped = model.clone(), model.clone()
    guided.set_model_sampler_post_cfg_function(adapter)
    wrapped.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.OUTER_SAMPLE, "EasyCache", adapter)
    return [(guided, clip, vae), (wrapped, clip, vae), (model, xl_parts()[1], vae)]


def refused(parts: tuple[Any, Any, Any]) -> str:
    try:
        ComfyBackbone(*parts)
    except ValueError as error:
        return str(error)
    return "nothing"


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


tell({"passes": passes, "patches": patches, "edits": edits}[WHAT]())
