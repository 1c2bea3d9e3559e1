"""The whole training of the embedded models, stage after stage; what is done already is not done again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np
import torch
from diffusers import AutoencoderKL, VQModel
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPModel, CLIPTokenizer

from ....assets import EMBEDDED
from ....locinv_core.backbones.diffusers_folder import quiet_loading
from ....locinv_core.imaging.io import written_whole
from ..networks.amused import Captions, train_transformer
from ..networks.clip import train_clip
from ..networks.diffusion import CaptionedLatents, train_diffusion
from ..networks.instruct import InstructedLatents, train_instruct
from ..networks.tokenizer import encode_texts, export_tokenizer, train_merges
from ..networks.vae import encode_set, export_vae, standardise_latents, train_decoder, train_vae
from ..networks.vit import train_vit
from ..networks.vq import encode_codes, train_vq
from ..scenes.dataset import (
    SetName,
    caption_variants,
    draw_once,
    load_images,
    load_parts,
    load_texts,
    training_seeds,
)
from ..scenes.spec import SIDE, TRAINING_SEEDS, caption, sample_scene
from .fitting import Report, Run
from .recipe import Recipe
from .workers import count_workers, meet, rank, run_workers, share


@dataclass(frozen=True)
class Training:
    """A training's recipe and folders.

    Attributes:
        work: folder of scenes and checkpoints. report: receives progress lines; can be sent to a process.
        out: folder that all models are written to; without one, those of the package, and ``work`` for instruct.
        start: a folder whose UNet and text encoder, and clip, are trained further, in place of random weights.
    """

    recipe: Recipe
    work: Path
    report: Report
    out: Path | None = None
    start: Path | None = None

    @property
    def scenes(self) -> Path:
        """Folder of the drawn scenes."""
        return self.work / "scenes"

    def folder(self, part: str) -> Path:
        """The folder that a model is written to: tokenizer, vae, unet, text_encoder, clip, vit, amused, instruct."""
        if part == "instruct":
            return (self.out or self.work) / part
        return (self.out or (EMBEDDED if part in ("clip", "vit", "amused") else EMBEDDED / "sd")) / part

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer that the regions' text encoders read with: the newly trained one, if any."""
        own = self.folder("tokenizer")
        return own if own.is_dir() else EMBEDDED / "sd" / "tokenizer"

    @property
    def instructed(self) -> Path:
        """Folder of the text-to-image model that InstructPix2Pix starts as."""
        return self.start or (self.folder("unet").parent if self.folder("unet").is_dir() else EMBEDDED / "sd")

    @property
    def seeds(self) -> range:
        """The seeds of the scenes."""
        return training_seeds(self.recipe.scenes, first=self.recipe.seed)

    def run(self, checkpoint: str, out: Path, start: Path | None = None) -> Run:
        """The training of one network, its checkpoint in ``work``."""
        return Run(self.work / f"{checkpoint}.safetensors", out, self.recipe.seed, self.report, start)


def _tokenizer_stage(job: Training) -> None:
    merges = train_merges(load_texts(job.scenes, "images"), job.recipe.tokenizer)
    export_tokenizer(merges, job.recipe.tokenizer.length, job.folder("tokenizer"))


def _vae_stage(job: Training) -> None:
    images, run = load_images(job.scenes, "images"), job.run("vae", job.folder("vae"))
    vae = train_vae(images, job.recipe.vae, run)
    if rank() == 0:
        some = images[:: max(1, len(images) // 256)]
        deviation = standardise_latents(vae, encode_set(vae, some))
        export_vae(vae, run.out, 1 / deviation)
        job.report(f"vae: scaling factor {1 / deviation:.4f}")


def _load_vae(folder: Path) -> AutoencoderKL:
    return AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32).eval()


def _decoder_stage(job: Training) -> None:
    run = job.run("decoder", job.folder("vae"))
    vae, (latents, digest) = _load_vae(run.out), _latents(job)
    _forget_if_begun_with_other(digest, run.checkpoint)
    export = partial(export_vae, vae, run.out, vae.config.scaling_factor)
    train_decoder(vae, latents, load_images(job.scenes, "images"), job.recipe.decoder, run, export)


def _diffusion_stage(job: Training) -> None:
    tokenizer = CLIPTokenizer.from_pretrained(job.folder("tokenizer"))
    data = CaptionedLatents(
        latents=_latents(job)[0],
        ids=_caption_ids(job, tokenizer),
        empty=encode_texts(tokenizer, [""])[0],
        objects=torch.tensor([len(sample_scene(seed).objects) for seed in job.seeds]),
    )
    run = job.run("diffusion", job.folder("unet").parent, job.start)
    train_diffusion(data, job.recipe.diffusion, run, vocabulary=len(tokenizer))


def _clip_stage(job: Training) -> None:
    images, edited = load_images(job.scenes, "images"), load_images(job.scenes, "edited")
    run = job.run("regions/clip", job.folder("clip"), None if job.start is None else job.start / "clip")
    train_clip(images, edited, job.seeds, job.tokenizer, job.recipe.clip, run)


def _vit_stage(job: Training) -> None:
    parts = load_parts(job.scenes, load_images(job.scenes, "images"))
    train_vit(parts, job.recipe.vit, job.run("regions/vit", job.folder("vit")))


def _amused_stage(job: Training) -> None:
    recipe, images, folder = job.recipe, load_images(job.scenes, "images"), job.folder("amused")
    train_vq(images, recipe.vq, job.run("regions/vq", folder / "vqvae"))
    meet()
    weights = (folder / "vqvae" / "diffusion_pytorch_model.safetensors").read_bytes()
    digest = hashlib.sha256(weights).hexdigest()

    def encode(images: Tensor) -> Tensor:
        with quiet_loading():
            model = VQModel.from_pretrained(folder / "vqvae").float().eval()
        return encode_codes(model, images).to(torch.int16)

    codes = _encoded(job, "regions/codes", digest, encode)
    run = job.run("regions/transformer", folder)
    _forget_if_begun_with_other(digest, run.checkpoint)
    with quiet_loading():
        reader, clip = CLIPTokenizer.from_pretrained(job.tokenizer), CLIPModel.from_pretrained(job.folder("clip"))
    captions = _object_captions(job, reader)
    count, tokenizer = recipe.vq.codes, job.tokenizer
    train_transformer(codes, captions, clip, recipe.transformer, run, codebook=count, tokenizer=tokenizer)


def _instruct_stage(job: Training) -> None:
    vae, tokenizer = _load_vae(job.instructed / "vae"), CLIPTokenizer.from_pretrained(job.instructed / "tokenizer")
    pairs, orders = load_images(job.scenes, "pairs"), load_texts(job.scenes, "pairs")
    job.report("latents: encoding the pairs")
    scaling = float(vae.config.scaling_factor)
    ids = encode_texts(tokenizer, [text for wordings in orders for text in wordings])
    data = InstructedLatents(
        latents=encode_set(vae, pairs.flatten(0, 1)).unflatten(0, (-1, 2)) * scaling,
        scaling=scaling,
        ids=ids.view(len(orders), len(orders[0]), -1),
        empty=encode_texts(tokenizer, [""])[0],
    )
    train_instruct(data, job.recipe.instruct, job.run("instruct", job.folder("instruct"), job.instructed))


def _caption_ids(job: Training, tokenizer: CLIPTokenizer) -> Tensor:
    """Token ids of ``recipe.captions`` wordings of each training scene: (N, V, L)."""
    texts = [text for seed in job.seeds for text in caption_variants(seed, job.recipe.captions)]
    return encode_texts(tokenizer, texts).view(len(job.seeds), job.recipe.captions, -1)


def _object_captions(job: Training, tokenizer: CLIPTokenizer) -> Captions:
    """What the scenes show, all together and object by object."""
    scenes = [sample_scene(seed) for seed in job.seeds]
    most = max(len(scene.objects) for scene in scenes)
    alone, boxes = [], torch.zeros(len(scenes), most, 4)
    for row, scene in enumerate(scenes):
        for number in range(most):
            obj = scene.objects[min(number, len(scene.objects) - 1)]
            worded = sample_scene(scene.seed + (number + 1) * TRAINING_SEEDS.stop)
            alone.append(caption(replace(worded, objects=(obj,), background=scene.background), vary=True))
            boxes[row, number] = torch.tensor(obj.box) / SIDE
    return Captions(
        whole=_caption_ids(job, tokenizer),
        empty=encode_texts(tokenizer, [""])[0],
        alone=encode_texts(tokenizer, alone).view(len(scenes), most, -1),
        boxes=boxes,
        objects=torch.tensor([len(scene.objects) for scene in scenes]),
    )


def _latents(job: Training) -> tuple[Tensor, str]:
    """Scaled latents of the training set (N, C, h, w), fp16, and a digest of what makes them: a decoder trained
    further leaves them what they are."""
    folder = job.folder("vae")
    digest = hashlib.sha256(str(AutoencoderKL.load_config(folder)["scaling_factor"]).encode())
    for name, tensor in sorted(load_file(folder / "diffusion_pytorch_model.safetensors").items()):
        if name.startswith(("encoder.", "quant_conv.")):
            digest.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())

    def encode(images: Tensor) -> Tensor:
        vae = _load_vae(job.folder("vae"))
        return (encode_set(vae, images) * vae.config.scaling_factor).half()

    return _encoded(job, "latents", digest.hexdigest(), encode), digest.hexdigest()


def _encoded(job: Training, name: str, digest: str, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """The training set (N, 3, H, W) uint8 encoded by all workers, once per encoder, which ``digest`` names."""
    key = {"encoder": digest, "count": job.recipe.scenes, "first": job.recipe.seed}
    record, rows = job.work / f"{name}.json", job.work / f"{name}.npy"
    if not record.exists() or json.loads(record.read_text()) != key:
        if rank() == 0:
            job.report(f"{Path(name).name}: encoding the training set")
        part = job.work / f"{name}.{rank()}.npy"
        np.save(part, encode(share(load_images(job.scenes, "images"))).numpy())
        meet()
        if rank() == 0:
            parts = [np.load(job.work / f"{name}.{number}.npy") for number in range(count_workers())]
            np.save(rows, rearrange(parts, "workers rows ... -> (rows workers) ..."))
            with written_whole(record) as partial_record:
                partial_record.write_text(json.dumps(key))
        meet()
        part.unlink()
    return torch.from_numpy(np.load(rows))


def _forget_if_begun_with_other(digest: str, checkpoint: Path) -> None:
    """Remove a checkpoint that was begun with another encoder's latents or codes: to it these mean nothing."""
    begun = checkpoint.with_suffix(".json")
    if rank() == 0:
        if begun.exists() and json.loads(begun.read_text()) != digest:
            checkpoint.unlink(missing_ok=True)
        begun.write_text(json.dumps(digest))
    meet()


@dataclass(frozen=True)
class Stage:
    """One stage of the training.

    Attributes:
        train: its work in every worker. alone: one worker does it. checkpoints: files in ``work``.
        makes: what it writes, as ``Training.folder`` names it. needs: the stages before it, with a file of theirs.
        draws: the sets of scenes that it is trained on, and how many of each.
        shared: numbers that the workers have to share out evenly.
    """

    train: Callable[[Training], None]
    makes: str
    needs: Mapping[str, str] = field(default_factory=dict)
    checkpoints: tuple[str, ...] = ()
    draws: Callable[[Recipe], Mapping[SetName, int]] = lambda recipe: {"images": recipe.scenes}
    shared: Callable[[Recipe], Mapping[str, int]] = lambda recipe: {}
    alone: bool = False


_TOKENIZER, _VAE = {"tokenizer": "vocab.json"}, {"vae": "config.json"}
STAGES: Final[Mapping[str, Stage]] = {
    "tokenizer": Stage(_tokenizer_stage, "tokenizer", alone=True),
    "vae": Stage(_vae_stage, "vae", checkpoints=("vae.safetensors",)),
    "decoder": Stage(_decoder_stage, "vae", _VAE, ("decoder.safetensors",)),
    "diffusion": Stage(_diffusion_stage, "unet", _TOKENIZER | _VAE, ("diffusion.safetensors",)),
    "clip": Stage(
        _clip_stage,
        "clip",
        checkpoints=("regions/clip.safetensors",),
        draws=lambda recipe: {"images": recipe.scenes, "edited": min(recipe.clip.edited, recipe.scenes)},
        shared=lambda recipe: {
            "scenes of a batch": recipe.clip.batch,
            "poor crops of a batch": -(-recipe.clip.batch // 2),
            "pairs of a batch": recipe.clip.pairs,
        },
    ),
    "vit": Stage(
        _vit_stage,
        "vit",
        checkpoints=("regions/vit.safetensors",),
        draws=lambda recipe: {"images": recipe.scenes, "grounds": min(recipe.vit.scenes, recipe.scenes)},
        shared=lambda recipe: {"scenes of a batch": recipe.vit.batch},
    ),
    "amused": Stage(
        _amused_stage,
        "amused",
        {"clip": "model.safetensors"},
        checkpoints=("regions/vq.safetensors", "regions/transformer.safetensors"),
        shared=lambda recipe: {
            "scenes of a batch": recipe.vq.batch,
            "codes of a batch": recipe.transformer.batch,
            "scenes": recipe.scenes,
        },
    ),
    "instruct": Stage(
        _instruct_stage,
        "instruct",
        checkpoints=("instruct.safetensors",),
        draws=lambda recipe: {"pairs": recipe.instruct.pairs},
    ),
}
"""In the order in which they are trained."""
_STARTS_AS: Final[Mapping[str, str]] = {"diffusion": "unet", "instruct": "unet", "clip": "clip"}
"""The folder of ``start`` that a stage goes on from."""


def _check(job: Training, stages: Sequence[str], processes: int) -> None:
    """Raise ValueError for what a stage would stumble over only when its turn comes."""
    unknown = [stage for stage in stages if stage not in STAGES]
    if unknown or not stages:
        raise ValueError(f"--stages: got {', '.join(unknown) or 'none'}, requires some of {', '.join(STAGES)}")
    if job.start is not None:
        folders = dict.fromkeys(_STARTS_AS[stage] for stage in stages if stage in _STARTS_AS)
        if not folders:
            raise ValueError(f"--start: got {job.start}, but --stages has none of {', '.join(_STARTS_AS)}")
        for folder in folders:
            if not (job.start / folder).is_dir():
                raise ValueError(f"--start: {job.start} has no folder {folder}; requires a folder of models")
    if "instruct" in stages and "diffusion" not in stages:
        parts = ("unet", "text_encoder", "vae", "tokenizer")
        lacking = [part for part in parts if not (job.instructed / part).is_dir()]
        if lacking:
            raise ValueError(f"--start: {job.instructed} has no {', '.join(lacking)}; requires a folder of models")
    for stage in stages:
        for needed, name in STAGES[stage].needs.items():
            if needed not in stages and not (job.folder(needed) / name).is_file():
                file = job.folder(needed) / name
                raise ValueError(f"--stages: {stage} requires {file}; train the stage {needed} first")
        for what, count in STAGES[stage].shared(job.recipe).items():
            if count % processes:
                raise ValueError(
                    f"--processes: got {processes}, and {stage} has {count} {what}; requires a divisor of {count}"
                )
    vocabulary = job.tokenizer / "vocab.json"
    if {"clip", "amused"} & set(stages) and "tokenizer" not in stages and not vocabulary.is_file():
        raise ValueError(f"--stages: requires {vocabulary}; train the stage tokenizer first")
    vq = job.recipe.vq
    if "amused" in stages and vq.steps <= vq.free_steps:
        raise ValueError(f"--steps-vq: got {vq.steps} steps, requires more than the {vq.free_steps} without a codebook")


def train(job: Training, stages: Sequence[str] = tuple(STAGES), *, processes: int = 1, restart: bool = False) -> None:
    """Train the named stages, in the order of ``STAGES``, going on from their checkpoints unless ``restart``.

    Raises:
        ValueError: before any work, for an unknown stage, one without its predecessor's or its start's models,
            and numbers that do not fit it.
    """
    _check(job, stages, processes)
    chosen = {name: stage for name, stage in STAGES.items() if name in stages}
    drawn: dict[SetName, int] = {}
    for stage in chosen.values():
        drawn |= stage.draws(job.recipe)
        for name in stage.checkpoints if restart else ():
            (job.work / name).unlink(missing_ok=True)
    for kind, count in drawn.items():
        job.report(f"scenes: drawing {count} {kind}, unless they are there")
        draw_once(job.scenes, kind, count, seed=job.recipe.seed, workers=processes)
    (job.work / "regions").mkdir(parents=True, exist_ok=True)
    for name, stage in chosen.items():
        run_workers(1 if stage.alone else processes, stage.train, job)
        job.report(f"{name}: written to {job.folder(stage.makes)}")
