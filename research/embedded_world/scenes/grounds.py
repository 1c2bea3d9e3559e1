"""The training scenes taken apart: where objects show, and the ground without them.

With both, a scene's objects can be shown on the ground of any other, which says to a learner what is an object.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .dataset import draw_once
from .spec import render, sample_scene

__all__ = ["SceneParts", "load_parts", "scene_parts", "write_parts"]


@dataclass(frozen=True, eq=False)
class SceneParts:
    """The first N scenes of a training set, taken apart.

    Attributes:
        images: (N, 3, H, W) uint8. grounds: (N, 3, H, W) uint8, without the objects and their shadows.
        masks: (N, H, W) bool, the pixels where objects show.
    """

    images: Tensor
    grounds: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.masks)

    def on_ground(self, scenes: Tensor, grounds: Tensor) -> Tensor:
        """The objects of ``scenes`` (B,) on the grounds of ``grounds`` (B,): (B, 3, H, W) uint8."""
        return torch.where(self.masks[scenes][:, None], self.images[scenes], self.grounds[grounds])


def scene_parts(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The bare ground of a training scene, uint8 (H, W, 3), and where its objects show, bool (H, W)."""
    spec = sample_scene(seed)
    return render(replace(spec, objects=()))[0], np.logical_or.reduce(render(spec)[1])


def write_parts(folder: Path, count: int, *, seed: int = 0, workers: int = 1) -> None:
    """Draw the parts of the first ``count`` training scenes into ``folder``, unless they are there.

    ``grounds.npy`` (N, H, W, 3) uint8, ``masks.npy`` (N, H, W) bool and, written last, ``grounds.json``.
    """
    draw_once(folder, ("grounds", "masks"), scene_parts, count, seed=seed, workers=workers)


def load_parts(folder: Path, images: Tensor) -> SceneParts:
    """What ``write_parts`` has left in ``folder``, with the whole set's ``images`` (N, 3, H, W)."""
    grounds, masks = (np.load(folder / f"{name}.npy", mmap_mode="c") for name in ("grounds", "masks"))
    return SceneParts(images[: len(masks)], torch.from_numpy(grounds).permute(0, 3, 1, 2), torch.from_numpy(masks))
