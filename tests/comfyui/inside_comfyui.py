"""Measurements inside ComfyUI's own process: `python -m pinpoint.tests.comfyui.inside_comfyui HOLDER
parity|load`, with ComfyUI's Python, in its folder, with HOLDER, which has a link `pinpoint`, on the path."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import asyncio
import importlib
import time
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import comfy.model_management
import comfy.sd
import torch

from pinpoint.tests.comfyui.tiny_checkpoint import narrow_parts

PROMPT = "a yellow cat and a red star in a meadow"


def lora() -> dict[str, torch.Tensor]:
    """A LoRA of the UNet and of the text encoder, in the names that trainers write."""
    generator = torch.Generator().manual_seed(4)
    layers = {
        "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k": (32, 64),
        "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q": (128, 128),
        "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_v": (32, 64),
        "lora_te_text_model_encoder_layers_1_self_attn_v_proj": (64, 64),
        "lora_te_text_model_encoder_layers_3_mlp_fc1": (128, 64),
    }
    weights = {}
    for name, (out, into) in layers.items():
        weights[f"{name}.lora_up.weight"] = torch.randn(out, 4, generator=generator) * 0.3
        weights[f"{name}.lora_down.weight"] = torch.randn(4, into, generator=generator) * 0.3
        weights[f"{name}.alpha"] = torch.tensor(4.0)
    return weights


def noise_of_comfyui(model: Any, clip: Any, latents: torch.Tensor, timestep: int) -> torch.Tensor:
    """ε as ComfyUI's samplers get it: from the denoised latents of its own model."""
    context = clip.encode_from_tokens(clip.tokenize(PROMPT))
    comfy.model_management.load_models_gpu([model], force_patch_weights=True)
    sampling = model.get_model_object("model_sampling")
    sigma = sampling.sigmas[timestep][None]
    scaled = latents * (1 + sigma**2) ** 0.5
    denoised = model.model.apply_model(scaled, sigma, c_crossattn=context)
    return (scaled - denoised) / sigma


def noise_of_pinpoint(edit_model: Any, latents: torch.Tensor, timestep: int) -> torch.Tensor:
    from pinpoint.locinv_core.text.prompt import parse_prompt

    prompt = parse_prompt(PROMPT, edit_model.tokenizer)
    return edit_model.predict_noise(latents, timestep, edit_model.encode_prompt(prompt))


def parity() -> dict[str, Any]:
    """The largest differences between ComfyUI's own model and ours: plain, with a LoRA, with clip skip."""
    from pinpoint.nodes.bridge.checkpoint import edit_model_of

    found: dict[str, Any] = {}
    latents = torch.randn(1, 4, 16, 24, generator=torch.Generator().manual_seed(5))
    # As nodes run.
    with torch.inference_mode():
        plain = narrow_parts()
        patched = (*comfy.sd.load_lora_for_models(*plain[:2], lora(), 1.0, 0.7), plain[2])
        skipped = (plain[0], plain[1].clone(), plain[2])
        skipped[1].clip_layer(-2)
        for name, (model, clip, vae) in {"plain": plain, "lora": patched, "clip skip": skipped}.items():
            ours = edit_model_of(model, clip, vae, torch.float32)
            kinds: dict[str, Any] = {"inference": any(weight.is_inference() for weight in ours.unet.parameters())}
            for timestep in (981, 401, 1):
                theirs = noise_of_comfyui(model, clip, latents, timestep)
                difference = (noise_of_pinpoint(ours, latents, timestep) - theirs).abs().max()
                kinds[str(timestep)] = float(difference)
                kinds[f"size {timestep}"] = float(theirs.abs().mean())
            found[name] = kinds
        model, _, vae = plain
        image = torch.rand(1, 64, 128, 3, generator=torch.Generator().manual_seed(6))
        raw = vae.encode(image)
        scaled = model.model.process_latent_in(raw)
        found["encode"] = float((ours.encode(image.permute(0, 3, 1, 2)) - scaled).abs().max())
        found["decode"] = float((ours.decode(scaled).permute(0, 2, 3, 1) - vae.decode(raw)).abs().max())
        before = noise_of_comfyui(*plain[:2], latents, 401)
        for name, (model, clip, _) in {"lora": patched, "clip skip": skipped}.items():
            moved = noise_of_comfyui(model, clip, latents, 401) - before
            found[f"moved by {name}"] = float(moved.abs().max())
    return found


def load() -> dict[str, Any]:
    """Seconds of computing that ComfyUI spends on loading the pack, when its own modules are in memory, also
    those that it reads a pack's pyproject.toml with."""
    nodes: Any = importlib.import_module("nodes")  # ComfyUI's
    importlib.import_module("comfy_config.config_parser")
    began = time.process_time()
    succeeded = asyncio.run(nodes.load_custom_node(f"{HOLDER}/pinpoint"))
    return {"seconds": time.process_time() - began, "succeeded": succeeded}


tell({"parity": parity, "load": load}[WHAT]())
