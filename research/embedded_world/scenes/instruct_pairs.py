"""Training pairs of InstructPix2Pix: a scene, an order, the scene after it; drawn once, kept as files."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .dataset import training_seeds
from .edits import Edit, sample_edit
from .spec import render, sample_scene, with_article

__all__ = ["WORDINGS", "instructions", "load_pairs", "scene_pair", "write_pairs"]

WORDINGS = 4


def instructions(edit: Edit) -> list[str]:
    """The edit as an order, in `WORDINGS` wordings; the first is "turn the red cat into a red fox"."""
    noun, target_noun = (phrase.split()[-1] for phrase in (edit.phrase, edit.target_phrase))
    if edit.kind == "swap":
        short = f"turn the {noun} into {with_article(target_noun)}"
    else:
        look = edit.target_phrase.removesuffix(f" {noun}")
        short = f"make the {noun} {look}"
    return [
        f"turn the {edit.phrase} into {with_article(edit.target_phrase)}",
        short,
        f"replace the {edit.phrase} with {with_article(edit.target_phrase)}",
        f"change the {edit.phrase} to {with_article(edit.target_phrase)}",
    ]


def scene_pair(seed: int) -> tuple[np.ndarray, list[str]]:
    """A training scene before and after an edit, uint8 (2, H, W, 3), and the edit as an order."""
    spec = sample_scene(seed)
    edit, edited = sample_edit(spec, 0)
    return np.stack([render(spec)[0], render(edited)[0]]), instructions(edit)


def write_pairs(folder: Path, count: int, *, seed: int = 0, workers: int = 1) -> None:
    """Draw ``count`` pairs into ``folder``: ``pairs.npy`` (N, 2, H, W, 3) uint8 and ``instructions.json``.

    What is there already, drawn for the same seeds, is kept. Files are written beside their place and
    renamed.
    """
    seeds = training_seeds(count, first=seed)
    manifest = {"first": seeds.start, "count": count}
    record = folder / "instructions.json"
    if record.exists() and json.loads(record.read_text())["pairs"] == manifest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    shape = scene_pair(seeds.start)[0].shape
    partial = folder / "pairs.partial.npy"
    images = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=(count, *shape))
    texts: list[list[str]] = []
    if workers > 1:
        with ProcessPoolExecutor(workers) as pool:
            for row, (pair, words) in enumerate(pool.map(scene_pair, seeds, chunksize=64)):
                images[row] = pair
                texts.append(words)
    else:
        for row, one in enumerate(seeds):
            images[row], words = scene_pair(one)
            texts.append(words)
    images.flush()
    del images
    partial.replace(folder / "pairs.npy")
    part = folder / "instructions.partial.json"
    part.write_text(json.dumps({"pairs": manifest, "instructions": texts}))
    os.replace(part, record)


def load_pairs(folder: Path) -> tuple[Tensor, list[list[str]]]:
    """Pairs, uint8 (N, 2, 3, H, W), read from disk as they are used, and the wordings of each.

    Raises:
        ValueError: when the folder holds no finished set.
    """
    record = folder / "instructions.json"
    if not record.exists():
        raise ValueError(f"pairs: {folder} holds none; draw them first")
    known: dict[str, Any] = json.loads(record.read_text())
    pairs = torch.from_numpy(np.load(folder / "pairs.npy", mmap_mode="c")).permute(0, 1, 4, 2, 3)
    return pairs, known["instructions"]
