"""The training set of the embedded world: scenes drawn once, kept as files, read back as tensors.

Training seeds and held-out seeds are disjoint ranges; every measurement draws from the held-out one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .spec import HELD_OUT_SEED, TRAINING_SEEDS, caption, render, sample_scene

__all__ = [
    "caption_variants",
    "draw_once",
    "held_out_seeds",
    "load_captions",
    "load_images",
    "scene_image",
    "training_seeds",
    "write_training_set",
]


def training_seeds(count: int, *, first: int = 0) -> range:
    """The seeds of a training set of ``count`` scenes.

    Raises:
        ValueError: when they would leave the range set aside for training.
    """
    last = first + count
    if count < 1 or first < TRAINING_SEEDS.start or last > TRAINING_SEEDS.stop:
        raise ValueError(
            f"scenes: got {count} from seed {first}, needs 1 or more within "
            f"{TRAINING_SEEDS.start}..{TRAINING_SEEDS.stop - 1}"
        )
    return range(first, last)


def held_out_seeds(count: int, *, seed: int = 0) -> range:
    """``count`` seeds that no training set contains, block number ``seed`` of them.

    Raises:
        ValueError: for a count under 1 or a negative block.
    """
    if count < 1:
        raise ValueError(f"count: got {count}, needs 1 or more")
    if seed < 0:
        raise ValueError(f"seed: got {seed}, needs 0 or more")
    start = HELD_OUT_SEED + 100_000 * seed
    return range(start, start + count)


def scene_image(seed: int) -> tuple[np.ndarray, str]:
    """The image of a training scene, uint8 (H, W, 3), and its caption with the training variations."""
    spec = sample_scene(seed)
    return render(spec)[0], caption(spec, vary=True)


def draw_once(
    folder: Path,
    names: Sequence[str],
    draw: Callable[[int], Sequence[np.ndarray]],
    count: int,
    *,
    seed: int = 0,
    workers: int = 1,
) -> None:
    """Draw ``count`` training scenes into ``folder``, unless the same are there.

    Args:
        names: of the arrays that ``draw`` gives of a seed; each is stacked into its own ``NAME.npy``. The
            first one's ``NAME.json`` says which seeds they are of, and is written last.
        draw: a module's function, which can be sent to a process.
    """
    seeds = training_seeds(count, first=seed)
    manifest = {"first": seeds.start, "count": count}
    record = folder / f"{names[0]}.json"
    if record.exists() and json.loads(record.read_text()) == manifest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        drawn = list(pool.map(draw, seeds, chunksize=64) if workers > 1 else map(draw, seeds))
    for name, arrays in zip(names, zip(*drawn, strict=True), strict=True):
        partial = folder / f"{name}.partial.npy"
        np.save(partial, np.stack(arrays))
        partial.replace(folder / f"{name}.npy")
    partial = folder / f"{names[0]}.partial.json"
    partial.write_text(json.dumps(manifest))
    os.replace(partial, record)


def write_training_set(folder: Path, count: int, *, seed: int = 0, workers: int = 1) -> None:
    """Draw ``count`` scenes into ``folder``: ``images.npy`` (N, H, W, 3) uint8 and ``captions.json``.

    What is there already, drawn for the same seeds, is kept. Files are written beside their place and
    renamed.
    """
    seeds = training_seeds(count, first=seed)
    manifest = {"first": seeds.start, "count": count}
    record = folder / "captions.json"
    if record.exists():
        known = json.loads(record.read_text())
        if known["scenes"] == manifest:
            return
    folder.mkdir(parents=True, exist_ok=True)
    side = render(sample_scene(seeds.start))[0].shape[0]
    partial = folder / "pictures.partial.npy"
    images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
    captions: list[str] = []
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            drawn = pool.map(scene_image, seeds, chunksize=64)
            for row, (image, text) in enumerate(drawn):
                images[row] = image
                captions.append(text)
    else:
        for row, seed_ in enumerate(seeds):
            image, text = scene_image(seed_)
            images[row] = image
            captions.append(text)
    images.flush()
    del images
    partial.replace(folder / "pictures.npy")
    part = folder / "captions.partial.json"
    part.write_text(json.dumps({"scenes": manifest, "captions": captions}))
    os.replace(part, record)


def load_images(folder: Path) -> Tensor:
    """Images, uint8 (N, 3, H, W), as ``write_training_set`` left them, read from disk as they are used.

    Raises:
        ValueError: when the folder holds no finished training set.
    """
    _record(folder)
    images = np.load(folder / "pictures.npy", mmap_mode="c")
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def load_captions(folder: Path) -> list[str]:
    """The N captions that belong to the images.

    Raises:
        ValueError: when the folder holds no finished training set.
    """
    captions: list[str] = _record(folder)["captions"]
    return captions


def _record(folder: Path) -> dict[str, Any]:
    path = folder / "captions.json"
    if not path.exists():
        raise ValueError(f"training set: {folder} holds none; draw it first")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def caption_variants(seed: int, count: int) -> list[str]:
    """``count`` wordings of a training scene: its own, then others with the objects in another order.

    They differ in template, in what is left out, and in the order of the objects.
    """
    spec = sample_scene(seed)
    texts = [caption(spec, vary=True)]
    rng = np.random.default_rng((seed, 77))
    for number in range(1, count):
        order = rng.permutation(len(spec.objects))
        other = sample_scene(seed + number * TRAINING_SEEDS.stop)
        worded = replace(spec, objects=tuple(spec.objects[i] for i in order), template=other.template, seed=other.seed)
        texts.append(caption(worded, vary=True))
    return texts
