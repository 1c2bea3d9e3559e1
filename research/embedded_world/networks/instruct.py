"""Training a small InstructPix2Pix on pairs of scenes (Brooks et al. 2023, §3.2), from a text-to-image model.

The UNet's first layer is widened by zeros for the image's latents, so training starts from a model that
draws and learns what to keep and what the order changes. The result is a diffusers folder of its own.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from ..scenes.instruct_pairs import WORDINGS, load_pairs, write_pairs
from ..training.compiling import compiled
from ..training.fitting import Report, fit
from ..training.sd_training import encode_texts
from ..training.state import TrainingState
from ..training.workers import meet, run_workers, share
from .diffusion import (
    Pair,
    build_scheduler,
    draw_timesteps,
    export_diffusion,
    noise_loss,
    noise_weights,
    noised,
)
from .vae import encode_set

__all__ = ["CHECKPOINT", "STAGE", "InstructRecipe", "drop_conditions", "train_instruct", "widened"]

STAGE = "instruct"
CHECKPOINT = "instruct.safetensors"
PARTS = ("unet", "text_encoder", "vae", "tokenizer")


@dataclass(frozen=True)
class InstructRecipe:
    """What is trained, on how much, how fast.

    Attributes:
        pairs: scenes with an edit each. seed: first seed of the scenes, and of all random numbers.
        rate, rate_of_ends, average, weight_cap: as in ``DiffusionRecipe``.
        dropout: the share of a batch that has no order, that which has no image, and that which has
            neither, each; the published 5 %.
    """

    pairs: int = 12000
    seed: int = 0
    steps: int = 4000
    batch: int = 32
    rate: float = 2.5e-3
    rate_of_ends: float = 5e-4
    average: float = 0.9985
    dropout: float = 0.05
    weight_cap: float = 4.0

    def smoke(self) -> InstructRecipe:
        """A few steps on a few pairs: to see that it runs."""
        return replace(self, pairs=6, steps=3, batch=4)

    def with_numbers(self, *, pairs: int | None, steps: int | None) -> InstructRecipe:
        """The recipe with other numbers, where given."""
        return replace(self, pairs=pairs or self.pairs, steps=steps or self.steps)


def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The UNet with as many input channels again, whose weights are zero: it predicts what it did before."""
    channels = int(unet.config.in_channels)
    wide: UNet2DConditionModel = UNet2DConditionModel.from_config({**unet.config, "in_channels": 2 * channels})
    weights = dict(unet.state_dict())
    first = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([first, torch.zeros_like(first)], dim=1)
    wide.load_state_dict(weights)
    return wide


def drop_conditions(
    beside: Tensor, ids: Tensor, empty: Tensor, share_of_each: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images' latents (B, C, h, w) and token ids (B, L) with some of them left out: no order in the first
    share of the draws, no image in the second, neither in the third."""
    drawn = torch.rand(len(ids), generator=rng)
    no_text = (drawn < share_of_each) | ((drawn >= 2 * share_of_each) & (drawn < 3 * share_of_each))
    no_image = (drawn >= share_of_each) & (drawn < 3 * share_of_each)
    ids = torch.where(no_text[:, None], empty, ids)
    return torch.where(no_image.view(-1, 1, 1, 1), 0.0, beside), ids


def train_instruct(
    recipe: InstructRecipe, out: Path, work: Path, *, start: Path, processes: int = 1, report: Report
) -> None:
    """Train into ``out``, with pairs and checkpoint in ``work``, from the text-to-image model in ``start``.

    Args:
        processes, report: as of ``training.train``.

    Raises:
        ValueError: when ``start`` lacks a part of a model.
    """
    lacking = [part for part in PARTS if not (start / part).is_dir()]
    if lacking:
        raise ValueError(f"start: {start} has no {', '.join(lacking)}; needs a folder of models")
    report(f"pairs: drawing {recipe.pairs}, unless they are there")
    write_pairs(work / "pairs", recipe.pairs, seed=recipe.seed, workers=processes)
    run_workers(processes, _stage, recipe, out, work, start, report)


def _stage(recipe: InstructRecipe, out: Path, work: Path, start: Path, report: Report) -> None:
    vae = AutoencoderKL.from_pretrained(start / "vae", torch_dtype=torch.float32).eval()
    tokenizer = CLIPTokenizer.from_pretrained(start / "tokenizer")
    pairs, texts = load_pairs(work / "pairs")
    report("latents: encoding the pairs")
    latents = encode_set(vae, pairs.flatten(0, 1)).unflatten(0, (-1, 2)) * vae.config.scaling_factor
    ids = encode_texts(tokenizer, [text for words in texts for text in words]).view(len(texts), WORDINGS, -1)
    _train(
        latents,
        ids,
        encode_texts(tokenizer, [""])[0],
        recipe,
        work / CHECKPOINT,
        start=start,
        scaling=float(vae.config.scaling_factor),
        report=report,
        snapshot=partial(_export, start=start, folder=out),
    )
    meet()


def _train(
    latents: Tensor,
    token_ids: Tensor,
    empty: Tensor,
    recipe: InstructRecipe,
    checkpoint: Path,
    *,
    start: Path,
    scaling: float,
    report: Report,
    snapshot: Callable[[UNet2DConditionModel, CLIPTextModel], None],
) -> None:
    """latents: (N, 2, C, h, w), before and after. token_ids: (N, V, L)."""
    torch.manual_seed(recipe.seed)
    unet = widened(UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32))
    text_encoder = CLIPTextModel.from_pretrained(start / "text_encoder", torch_dtype=torch.float32)
    unet.set_attn_processor(AttnProcessor())  # as in train_diffusion
    text_encoder.set_attn_implementation("eager")
    pair = Pair(unet, text_encoder).train()
    alpha_bar = build_scheduler().alphas_cumprod
    weights = noise_weights(alpha_bar, recipe.weight_cap)
    predict: Callable[..., Any] | None = None

    def loss_of(state: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        nonlocal predict
        if predict is None:
            predict = compiled(unet, steps=recipe.steps - state.step)
        timesteps, factors = (share(drawn) for drawn in draw_timesteps(weights, recipe.batch, rng))
        clean, beside, noise, ids = _batch(latents, token_ids, empty, scaling, recipe, rng)
        seen = torch.cat([noised(clean, noise, alpha_bar[timesteps]), beside], dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            context = text_encoder(ids).last_hidden_state
            predicted = predict(seen, timesteps, encoder_hidden_states=context).sample.float()
        return noise_loss(predicted, noise, factors), ""

    fit(
        "instruct",
        pair,
        loss_of,
        recipe,
        checkpoint,
        seed=recipe.seed,
        report=report,
        report_steps=50,
        save_steps=250,
        snapshot=lambda trained: snapshot(trained.unet, trained.text_encoder),
    )


def _batch(
    latents: Tensor,
    token_ids: Tensor,
    empty: Tensor,
    scaling: float,
    recipe: InstructRecipe,
    rng: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """This worker's share of a batch: latents after the edit and, unscaled, before it, noise, token ids."""
    rows = torch.randint(len(latents), (recipe.batch,), generator=rng)
    which = torch.randint(token_ids.shape[1], (recipe.batch,), generator=rng)
    noise = torch.randn(recipe.batch, *latents.shape[2:], generator=rng)
    before, after = latents[rows].float().unbind(dim=1)
    beside, ids = drop_conditions(before / scaling, token_ids[rows, which], empty, recipe.dropout, rng)
    return share(after), share(beside), share(noise), share(ids)


def _export(unet: UNet2DConditionModel, text_encoder: CLIPTextModel, start: Path, folder: Path) -> None:
    """Write the folder, with VAE and tokenizer as they were, for StableDiffusionInstructPix2PixPipeline."""
    export_diffusion(unet, text_encoder, folder)
    for part in ("vae", "tokenizer"):
        shutil.copytree(start / part, folder / part, dirs_exist_ok=True)
    path = folder / "model_index.json"
    index = json.loads(path.read_text())
    index["_class_name"] = "StableDiffusionInstructPix2PixPipeline"
    path.write_text(json.dumps(index, indent=2) + "\n")
