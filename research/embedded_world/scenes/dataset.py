"""The training sets of the embedded world: scenes drawn once, kept as files, read back as tensors.

Training seeds and held-out seeds are disjoint ranges; every measurement draws from the held-out one.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import torch
from torch import Tensor

from ....locinv_core.imaging.io import written_whole
from .edits import instructions, sample_edit
from .render import render
from .spec import HELD_OUT_SEED, TRAINING_SEEDS, caption, sample_scene

SetName = Literal["images", "edited", "grounds", "pairs"]


def training_seeds(count: int, *, first: int = 0) -> range:
    """The seeds of a training set; ValueError when they would leave the range set aside for training."""
    last = first + count
    if count < 1 or first < TRAINING_SEEDS.start or last > TRAINING_SEEDS.stop:
        raise ValueError(
            f"scenes: got {count} from seed {first}, requires 1 or more within "
            f"{TRAINING_SEEDS.start}..{TRAINING_SEEDS.stop - 1}"
        )
    return range(first, last)


def held_out_seeds(count: int, *, seed: int = 0) -> range:
    """``count`` seeds, 1 or more, that no training set contains: block number ``seed``, 0 or more, of them."""
    for name, value, least in (("count", count, 1), ("seed", seed, 0)):
        if value < least:
            raise ValueError(f"{name}: got {value}, requires {least} or more")
    start = HELD_OUT_SEED + 100_000 * seed
    return range(start, start + count)


def _scene_image(seed: int) -> dict[str, Any]:
    """A training scene, uint8 (H, W, 3), and its caption with the training variations."""
    spec = sample_scene(seed)
    return {"images": render(spec)[0], "texts": caption(spec, vary=True)}


def _scene_edited(seed: int) -> dict[str, Any]:
    """A training scene after its first edit, uint8 (H, W, 3)."""
    return {"edited": render(sample_edit(sample_scene(seed), 0)[1])[0]}


def scene_parts(seed: int) -> dict[str, Any]:
    """The bare ground of a training scene, uint8 (H, W, 3), and where its objects show, bool (H, W)."""
    spec = sample_scene(seed)
    return {"grounds": render(replace(spec, objects=()))[0], "masks": np.logical_or.reduce(render(spec)[1])}


def scene_pair(seed: int) -> dict[str, Any]:
    """A training scene before and after its first edit, uint8 (2, H, W, 3), and the edit as an order."""
    spec = sample_scene(seed)
    edit, edited = sample_edit(spec, 0)
    return {"pairs": np.stack([render(spec)[0], render(edited)[0]]), "texts": instructions(edit)}


_DRAWN: Final[dict[SetName, Callable[[int], dict[str, Any]]]] = {
    "images": _scene_image,
    "edited": _scene_edited,
    "grounds": scene_parts,
    "pairs": scene_pair,
}


def draw_once(folder: Path, name: SetName, count: int, *, seed: int = 0, workers: int = 1) -> None:
    """Draw the first ``count`` training scenes from ``seed`` on into ``folder``, unless the same are there.

    Arrays become ``ARRAY.npy``; ``NAME.json``, written last, holds which seeds they are of, and the texts.
    """
    draw, seeds = _DRAWN[name], training_seeds(count, first=seed)
    scenes = {"first": seeds.start, "count": count}
    record = folder / f"{name}.json"
    if record.exists() and json.loads(record.read_text()).get("scenes") == scenes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    arrays, texts = {}, []
    with ExitStack() as files:
        for kind, like in draw(seeds.start).items():
            if kind != "texts":
                partial = files.enter_context(written_whole(folder / f"{kind}.npy"))
                shape = (count, *like.shape)
                arrays[kind] = np.lib.format.open_memmap(partial, mode="w+", dtype=like.dtype, shape=shape)
        pool = files.enter_context(ProcessPoolExecutor(workers)) if workers > 1 else None
        for row, drawn in enumerate(pool.map(draw, seeds, chunksize=64) if pool else map(draw, seeds)):
            for kind, array in arrays.items():
                array[row] = drawn[kind]
            texts.append(drawn.get("texts"))
        for array in arrays.values():
            array.flush()
    with written_whole(record) as partial:
        partial.write_text(json.dumps({"scenes": scenes, "texts": texts}))


def _record(folder: Path, name: SetName) -> dict[str, Any]:
    path = folder / f"{name}.json"
    if not path.exists():
        raise ValueError(f"training set: {folder} holds no {name}; draw them first")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def load_texts(folder: Path, name: SetName) -> list[Any]:
    """The texts of a set that ``draw_once`` left: a caption for each of "images", orders for each of "pairs".

    Raises ValueError when the folder holds no finished set of that name.
    """
    texts: list[Any] = _record(folder, name)["texts"]
    return texts


def load_images(folder: Path, name: SetName) -> Tensor:
    """The images of a set, uint8 (N, 3, H, W), of "pairs" (N, 2, 3, H, W), read from disk as they are used.

    Raises ValueError as ``load_texts`` does.
    """
    _record(folder, name)
    return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")).movedim(-1, -3)


@dataclass(frozen=True, eq=False)
class SceneParts:
    """The first N scenes of a training set, taken apart, to show a scene's objects on the ground of another.

    ``images``, ``grounds``: (N, 3, H, W) uint8, with objects, and without these and their shadows. ``masks``:
    (N, H, W) bool, the pixels where objects show.
    """

    images: Tensor
    grounds: Tensor
    masks: Tensor

    def __len__(self) -> int:
        return len(self.masks)

    def on_ground(self, scenes: Tensor, grounds: Tensor) -> Tensor:
        """The objects of ``scenes`` (B,) on the grounds of ``grounds`` (B,): (B, 3, H, W) uint8."""
        return torch.where(self.masks[scenes][:, None], self.images[scenes], self.grounds[grounds])


def load_parts(folder: Path, images: Tensor) -> SceneParts:
    """The "grounds" that ``draw_once`` has left in ``folder``, with the whole set's ``images`` (N, 3, H, W)."""
    masks = torch.from_numpy(np.load(folder / "masks.npy", mmap_mode="c"))
    return SceneParts(images[: len(masks)], load_images(folder, "grounds"), masks)


def caption_variants(seed: int, count: int) -> list[str]:
    """``count`` wordings of a training scene: its own, then others in template, omissions and order of objects."""
    spec = sample_scene(seed)
    texts = [caption(spec, vary=True)]
    rng = np.random.default_rng((seed, 77))
    for number in range(1, count):
        order = rng.permutation(len(spec.objects))
        other = sample_scene(seed + number * TRAINING_SEEDS.stop)
        worded = replace(spec, objects=tuple(spec.objects[i] for i in order), template=other.template, seed=other.seed)
        texts.append(caption(worded, vary=True))
    return texts
