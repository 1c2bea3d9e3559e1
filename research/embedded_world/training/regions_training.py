"""The stages that train the regions' models; what is done already is not done again."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from diffusers import VQModel
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from ....locinv_core.backbones.diffusers_folder import quiet_loading
from ..networks.amused import Captions, train_transformer
from ..networks.clip import train_clip
from ..networks.vit import train_vit
from ..networks.vq import encode_codes, train_vq
from ..scenes.dataset import caption_variants, load_images, training_seeds, write_training_set
from ..scenes.edited import load_edited, write_edited
from ..scenes.grounds import load_parts, write_parts
from ..scenes.spec import SIDE, TRAINING_SEEDS, caption, sample_scene
from . import workers as workers
from .fitting import Report
from .regions_recipe import RegionsRecipe
from .sd_training import encode_texts

__all__ = ["CHECKPOINTS", "STAGES", "check_recipe", "train_regions"]

STAGES = ("clip", "vit", "amused")
CHECKPOINTS = {
    "clip": ("regions/clip.safetensors",),
    "vit": ("regions/vit.safetensors",),
    "amused": ("regions/vq.safetensors", "regions/transformer.safetensors"),
}


def check_recipe(recipe: RegionsRecipe, stages: tuple[str, ...], processes: int) -> None:
    """Raise ValueError for what a stage would stumble over only when its turn comes: numbers that the
    workers cannot share out evenly, and an autoencoder whose steps end before its codebook is made."""
    shared = {
        "clip": {
            "scenes of a batch": recipe.clip.batch,
            "poor crops of a batch": -(-recipe.clip.batch // 2),
            "pairs of a batch": recipe.clip.pairs,
        },
        "vit": {"scenes of a batch": recipe.vit.batch},
        "amused": {
            "scenes of a batch": recipe.vq.batch,
            "codes of a batch": recipe.transformer.batch,
            "scenes": recipe.scenes,
        },
    }
    for stage in stages:
        for what, count in shared[stage].items():
            if count % processes:
                raise ValueError(
                    f"processes: got {processes}, and {stage} has {count} {what}; needs a divisor of {count}"
                )
    if "amused" in stages and recipe.vq.steps <= recipe.vq.free_steps:
        raise ValueError(
            f"vq: got {recipe.vq.steps} steps, needs more than the {recipe.vq.free_steps} without a codebook"
        )


def train_regions(
    recipe: RegionsRecipe,
    out: Path,
    work: Path,
    *,
    tokenizer: Path,
    stages: tuple[str, ...] = STAGES,
    processes: int = 1,
    report: Report,
    start: Path | None = None,
) -> None:
    """Train the named stages into ``out``/clip, vit and amused, with checkpoints in ``work``/regions.

    The scenes are those of ``work``/scenes, drawn there when there are none.

    Args:
        start: a folder whose dual encoder (its folder clip) is trained further, in place of random weights.
        tokenizer: folder of the CLIP tokenizer that both text encoders read with; it is copied beside them.
        processes: how many single-threaded workers share a batch. report: receives progress lines; a module's
            function or another object that can be sent to a process.

    Raises:
        ValueError: for an unknown stage, a missing tokenizer, aMUSEd without the dual encoder in ``out``, and
            as ``check_recipe``.
    """
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise ValueError(f"stages: got {', '.join(unknown) or 'none'}, needs some of {', '.join(STAGES)}")
    if not (tokenizer / "vocab.json").is_file():
        raise ValueError(f"stages: needs {tokenizer / 'vocab.json'}; train the stage tokenizer first")
    if "amused" in stages and "clip" not in stages and not (out / "clip" / "model.safetensors").is_file():
        raise ValueError(f"stages: amused needs {out / 'clip'}; train the stage clip first")
    check_recipe(recipe, stages, processes)
    report(f"scenes: drawing {recipe.scenes}, unless they are there")
    write_training_set(work / "scenes", recipe.scenes, seed=recipe.seed, workers=processes)
    (work / "regions").mkdir(parents=True, exist_ok=True)
    if "vit" in stages:
        apart = min(recipe.vit.scenes, recipe.scenes)
        report(f"vit: taking {apart} scenes apart, unless they are already")
        write_parts(work / "regions", apart, seed=recipe.seed, workers=processes)
    if "clip" in stages:
        edited = min(recipe.clip.edited, recipe.scenes)
        report(f"clip: drawing {edited} scenes after an edit, unless they are there")
        write_edited(work / "regions", edited, seed=recipe.seed, workers=processes)
    for stage in (name for name in STAGES if name in stages):
        todo = {"clip": _clip_stage, "vit": _vit_stage, "amused": _amused_stage}[stage]
        further = (start / "clip",) if stage == "clip" and start is not None else ()
        workers.run_workers(processes, todo, recipe, out, work, tokenizer, report, *further)


def _clip_stage(
    recipe: RegionsRecipe,
    out: Path,
    work: Path,
    tokenizer: Path,
    report: Report,
    start: Path | None = None,
) -> None:
    train_clip(
        load_images(work / "scenes"),
        load_edited(work / "regions"),
        training_seeds(recipe.scenes, first=recipe.seed),
        tokenizer,
        recipe.clip,
        work / "regions" / "clip.safetensors",
        out / "clip",
        seed=recipe.seed,
        report=report,
        start=start,
    )


def _vit_stage(recipe: RegionsRecipe, out: Path, work: Path, tokenizer: Path, report: Report) -> None:
    parts = load_parts(work / "regions", load_images(work / "scenes"))
    checkpoint = work / "regions" / "vit.safetensors"
    train_vit(parts, recipe.vit, checkpoint, out / "vit", seed=recipe.seed, report=report)


def _amused_stage(recipe: RegionsRecipe, out: Path, work: Path, tokenizer: Path, report: Report) -> None:
    images, folder = load_images(work / "scenes"), out / "amused"
    checkpoint = work / "regions" / "vq.safetensors"
    train_vq(images, recipe.vq, checkpoint, folder / "vqvae", seed=recipe.seed, report=report)
    workers.meet()
    codes = _codes(recipe, folder / "vqvae", work, report)
    with quiet_loading():
        reader, clip = CLIPTokenizer.from_pretrained(tokenizer), CLIPModel.from_pretrained(out / "clip")
    seeds = training_seeds(recipe.scenes, first=recipe.seed)
    train_transformer(
        codes,
        _captions(recipe, seeds, reader),
        clip,
        recipe.transformer,
        work / "regions" / "transformer.safetensors",
        folder,
        codebook=recipe.vq.codes,
        tokenizer=tokenizer,
        seed=recipe.seed,
        report=report,
    )


def _captions(recipe: RegionsRecipe, seeds: range, reader: CLIPTokenizer) -> Captions:
    """What the scenes of the seeds show, all together and object by object."""
    scenes = [sample_scene(seed) for seed in seeds]
    most = max(len(scene.objects) for scene in scenes)
    texts = [text for seed in seeds for text in caption_variants(seed, recipe.captions)]
    alone, boxes = [], torch.zeros(len(scenes), most, 4)
    for row, scene in enumerate(scenes):
        for number in range(most):
            obj = scene.objects[min(number, len(scene.objects) - 1)]
            worded = sample_scene(scene.seed + (number + 1) * TRAINING_SEEDS.stop)
            alone.append(caption(replace(worded, objects=(obj,), background=scene.background), vary=True))
            boxes[row, number] = torch.tensor(obj.box) / SIDE
    return Captions(
        whole=encode_texts(reader, texts).view(len(scenes), recipe.captions, -1),
        empty=encode_texts(reader, [""])[0],
        alone=encode_texts(reader, alone).view(len(scenes), most, -1),
        boxes=boxes,
        objects=torch.tensor([len(scene.objects) for scene in scenes]),
    )


def _codes(recipe: RegionsRecipe, vqvae: Path, work: Path, report: Report) -> Tensor:
    """The codes of the training set (N, h, w) int16, encoded once per autoencoder by all workers.

    A transformer that was begun with another autoencoder's codes is forgotten: to it they mean nothing.
    """
    weights = (vqvae / "diffusion_pytorch_model.safetensors").read_bytes()
    key = {"vq": hashlib.sha256(weights).hexdigest(), "count": recipe.scenes, "first": recipe.seed}
    folder = work / "regions"
    record, rows = folder / "codes.json", folder / "codes.npy"
    known = json.loads(record.read_text()) if record.exists() else {}
    if known != key:
        if workers.rank() == 0:
            report("transformer: encoding the training set")
        with quiet_loading():
            model = VQModel.from_pretrained(vqvae).float().eval()
        mine = encode_codes(model, workers.share(load_images(work / "scenes")))
        part = folder / f"codes.{workers.rank()}.npy"
        np.save(part, mine.to(torch.int16).numpy())
        count = workers.meet()
        if workers.rank() == 0:
            if known.get("vq") != key["vq"]:
                (work / CHECKPOINTS["amused"][1]).unlink(missing_ok=True)
            parts = [np.load(folder / f"codes.{number}.npy") for number in range(count)]
            np.save(rows, np.stack(parts, axis=1).reshape(-1, *parts[0].shape[1:]))
            partial = record.with_suffix(".partial")
            partial.write_text(json.dumps(key))
            os.replace(partial, record)
        workers.meet()
        part.unlink()
    return torch.from_numpy(np.load(rows))
