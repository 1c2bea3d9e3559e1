"""The training scenes after an edit: drawn once, kept as a file, read back as a tensor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .dataset import draw_once
from .wording import edited_image

__all__ = ["load_edited", "write_edited"]


def write_edited(folder: Path, count: int, *, seed: int = 0, workers: int = 1) -> None:
    """Draw the first ``count`` training scenes after their first edit into ``folder``, unless they are there.

    ``edited.npy`` (N, H, W, 3) uint8 and, written last, ``edited.json``.
    """
    draw_once(folder, ("edited",), _edited, count, seed=seed, workers=workers)


def _edited(seed: int) -> tuple[np.ndarray]:
    return (edited_image(seed),)


def load_edited(folder: Path) -> Tensor:
    """Images, uint8 (N, 3, H, W), as ``write_edited`` left them, read from disk as they are used."""
    return torch.from_numpy(np.load(folder / "edited.npy", mmap_mode="c")).permute(0, 3, 1, 2)
