"""The training scenes after an edit: drawn once, kept as a file, read back as a tensor."""

from __future__ import annotations

import json
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ...locinv_core.embedded.dataset import training_seeds
from .wording import edited_picture

__all__ = ["load_edited", "write_edited"]


def write_edited(folder: Path, count: int, *, seed: int = 0, workers: int = 1) -> None:
    """Draw the first ``count`` training scenes after their first edit into ``folder``, unless they are there.

    ``edited.npy`` (N, H, W, 3) uint8 and, written last, ``edited.json``.
    """
    seeds = training_seeds(count, first=seed)
    manifest = {"first": seeds.start, "count": count}
    record = folder / "edited.json"
    if record.exists() and json.loads(record.read_text()) == manifest:
        return
    folder.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers) as pool:
        drawn = pool.map(edited_picture, seeds, chunksize=64) if workers > 1 else map(edited_picture, seeds)
        pictures = np.stack(list(drawn))
    partial = folder / "edited.partial.npy"
    np.save(partial, pictures)
    partial.replace(folder / "edited.npy")
    part = folder / "edited.partial.json"
    part.write_text(json.dumps(manifest))
    os.replace(part, record)


def load_edited(folder: Path) -> Tensor:
    """Pictures, uint8 (N, 3, H, W), as ``write_edited`` left them, read from disk as they are used."""
    return torch.from_numpy(np.load(folder / "edited.npy", mmap_mode="c")).permute(0, 3, 1, 2)
