"""The whole training of the embedded models, stage after stage; what is done already is not done again."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPTokenizer

from ..networks.diffusion import export_diffusion, train_diffusion
from ..networks.tokenizer import export_tokenizer, train_merges
from ..networks.vae import encode_set, export_vae, standardise_latents, train_decoder, train_vae
from ..scenes.dataset import caption_variants, load_captions, load_images, training_seeds, write_training_set
from ..scenes.spec import sample_scene
from . import workers as workers
from .sd_recipe import Recipe

__all__ = ["CHECKPOINTS", "STAGES", "encode_captions", "train", "with_steps"]

STAGES = ("tokenizer", "vae", "decoder", "diffusion")
CHECKPOINTS = {
    "tokenizer": (),
    "vae": ("vae.safetensors",),
    "decoder": ("decoder.safetensors",),
    "diffusion": ("diffusion.safetensors",),
}
Report = Callable[[str], None]


def train(
    recipe: Recipe,
    out: Path,
    work: Path,
    *,
    stages: tuple[str, ...] = STAGES,
    processes: int = 1,
    report: Report,
    start: Path | None = None,
) -> None:
    """Train the named stages into ``out`` (diffusers layout), with checkpoints and drawn scenes in ``work``.

    Args:
        start: a folder whose UNet and text encoder are trained further, in place of random weights.
        processes: how many single-threaded workers share a batch. report: receives progress lines; a module's
            function or another object that can be sent to a process.

    Raises:
        ValueError: for an unknown stage, or one whose predecessor has left nothing in ``out``.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise ValueError(f"stages: got {', '.join(unknown) or 'none'}, needs some of {', '.join(STAGES)}")
    report(f"scenes: drawing {recipe.scenes}, unless they are there")
    write_training_set(work / "scenes", recipe.scenes, seed=recipe.seed, workers=processes)
    if "tokenizer" in stages:
        captions = load_captions(work / "scenes")
        export_tokenizer(train_merges(captions, recipe.tokenizer), recipe.tokenizer.length, out / "tokenizer")
        report(f"tokenizer: written to {out / 'tokenizer'}")
    if "vae" in stages:
        workers.run_workers(processes, _vae_stage, recipe, out, work, report)
    if "decoder" in stages:
        if not (out / "vae" / "config.json").exists():
            raise ValueError(f"stages: decoder needs {out / 'vae/config.json'}; train the stage vae first")
        workers.run_workers(processes, _decoder_stage, recipe, out, work, report)
    if "diffusion" in stages:
        for needed in ("tokenizer/vocab.json", "vae/config.json"):
            if not (out / needed).exists():
                raise ValueError(f"stages: diffusion needs {out / needed}; train that stage first")
        workers.run_workers(processes, _diffusion_stage, recipe, out, work, report, start)


def _vae_stage(recipe: Recipe, out: Path, work: Path, report: Report) -> None:
    images = load_images(work / "scenes")
    vae = train_vae(images, recipe.vae, work / "vae.safetensors", seed=recipe.seed, report=report)
    if workers.rank() == 0:
        some = images[:: max(1, len(images) // 256)]
        deviation = standardise_latents(vae, encode_set(vae, some))
        export_vae(vae, out / "vae", 1 / deviation)
        report(f"vae: written to {out / 'vae'}, scaling factor {1 / deviation:.4f}")


def _decoder_stage(recipe: Recipe, out: Path, work: Path, report: Report) -> None:
    """A decoder begun with another encoder's latents is forgotten: these would mean nothing to it."""
    latents, vae = _latents(recipe, out, work, report), _load_vae(out)
    begun, digest = work / "decoder.json", _encoder_digest(out / "vae")
    if workers.rank() == 0:
        if begun.exists() and json.loads(begun.read_text()) != digest:
            (work / "decoder.safetensors").unlink(missing_ok=True)
        begun.write_text(json.dumps(digest))
    workers.meet()
    train_decoder(
        vae,
        latents,
        load_images(work / "scenes"),
        recipe.decoder,
        work / "decoder.safetensors",
        seed=recipe.seed,
        report=report,
        snapshot=partial(export_vae, vae, out / "vae", vae.config.scaling_factor),
    )


def _load_vae(out: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(out / "vae", torch_dtype=torch.float32).eval()


def _diffusion_stage(recipe: Recipe, out: Path, work: Path, report: Report, start: Path | None) -> None:
    latents = _latents(recipe, out, work, report)
    tokenizer = CLIPTokenizer.from_pretrained(out / "tokenizer")
    token_ids = encode_captions(tokenizer, recipe)
    empty = encode_texts(tokenizer, [""])[0]
    train_diffusion(
        latents,
        token_ids,
        empty,
        torch.tensor([len(sample_scene(seed).objects) for seed in _seeds(recipe)]),
        recipe.diffusion,
        work / "diffusion.safetensors",
        vocabulary=len(tokenizer),
        seed=recipe.seed,
        report=report,
        snapshot=partial(export_diffusion, folder=out),
        start=start,
    )


def encode_texts(tokenizer: CLIPTokenizer, texts: list[str]) -> Tensor:
    """Token ids, padded to the tokenizer's length: (N, L).

    Raises:
        ValueError: for a caption that does not fit.
    """
    ids = tokenizer(texts, padding="max_length")["input_ids"]
    for text, row in zip(texts, ids, strict=True):
        if len(row) > tokenizer.model_max_length:
            raise ValueError(f"caption: {text!r} takes {len(row)} tokens, the encoder reads {len(ids[0])}")
    return torch.tensor(ids)


def encode_captions(tokenizer: CLIPTokenizer, recipe: Recipe) -> Tensor:
    """Token ids of ``recipe.captions`` wordings of each training scene: (N, V, L)."""
    seeds = _seeds(recipe)
    texts = [text for seed in seeds for text in caption_variants(seed, recipe.captions)]
    return encode_texts(tokenizer, texts).view(len(seeds), recipe.captions, -1)


def _seeds(recipe: Recipe) -> range:
    return training_seeds(recipe.scenes, first=recipe.seed)


def _latents(recipe: Recipe, out: Path, work: Path, report: Report) -> Tensor:
    """Scaled latents of the training set (N, C, h, w), fp16, encoded once per encoder by all workers."""
    key = {"vae": _encoder_digest(out / "vae"), "count": recipe.scenes, "first": recipe.seed}
    record, rows = work / "latents.json", work / "latents.npy"
    known = record.exists() and json.loads(record.read_text()) == key
    if not known:
        report("latents: encoding the training set")
        vae = _load_vae(out)
        images = load_images(work / "scenes")
        mine = encode_set(vae, workers.share(images)) * vae.config.scaling_factor
        part = work / f"latents.{workers.rank()}.npy"
        np.save(part, mine.half().numpy())
        count = workers.meet()
        if workers.rank() == 0:
            parts = [np.load(work / f"latents.{number}.npy") for number in range(count)]
            np.save(rows, np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:]))
            partial_record = record.with_suffix(".partial")
            partial_record.write_text(json.dumps(key))
            os.replace(partial_record, record)
        workers.meet()
        part.unlink()
    return torch.from_numpy(np.load(rows))


def _encoder_digest(folder: Path) -> str:
    """Of what makes latents: a decoder trained further leaves them what they are."""
    digest = hashlib.sha256(str(AutoencoderKL.load_config(folder)["scaling_factor"]).encode())
    for name, tensor in sorted(load_file(folder / "diffusion_pytorch_model.safetensors").items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def with_steps(recipe: Recipe, *, vae: int | None, decoder: int | None, unet: int | None) -> Recipe:
    """The recipe with other numbers of steps, where given."""
    if vae is not None:
        recipe = replace(recipe, vae=replace(recipe.vae, steps=vae))
    if decoder is not None:
        recipe = replace(recipe, decoder=replace(recipe.decoder, steps=decoder))
    if unet is not None:
        recipe = replace(recipe, diffusion=replace(recipe.diffusion, steps=unet))
    return recipe
