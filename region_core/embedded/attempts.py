"""What an edit model makes of the training scenes, in boxes that are right and in boxes that are not.

The drawn edits that the dual encoder learns S from are flawless, or wrong in a way that we thought of. These
are neither: edits as the editors make them, some better than others.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save_file
from torch import Tensor

from ...locinv_core.embedded.fitting import Report
from ...locinv_core.embedded.scenes import SIDE, caption, render, sample_scene
from ...locinv_core.embedded.scenes_edits import sample_edit
from ...locinv_core.embedded.scenes_render import tight_box
from ...locinv_core.loading import load_edit_model
from ...locinv_core.model import EditModel
from ..blended import REGION_WINDOW, BlendedEditor
from ..editors import Editor
from ..locinv_editor import TAKES, LocInvEditor
from .wording import Window, poor_window, thing_window

__all__ = ["ATTEMPTS", "in_part", "load_attempts", "make_attempts", "write_attempts"]

ATTEMPTS = 4
"""Edits of a scene: LocInv's near the thing and in two poor places, and a blended one near it or not."""
_STREAM = 5


def make_attempts(model: EditModel, seed: int, *, steps: int) -> np.ndarray:
    """The attempts at one scene's first edit: (ATTEMPTS, 3, H, W) uint8."""
    spec = sample_scene(seed)
    edit, after = sample_edit(spec, 0)
    before, masks = render(spec)
    image = torch.from_numpy(before).permute(2, 0, 1)[None].float() / 255
    rng = np.random.default_rng((seed, _STREAM))
    box = tight_box(masks[edit.index])
    windows = [
        thing_window(box, rng, size=SIDE),
        poor_window(box, rng, size=SIDE),
        poor_window(box, rng, size=SIDE),
        (thing_window if rng.random() < 0.5 else poor_window)(box, rng, size=SIDE),
    ]
    told = caption(after)
    locinv = LocInvEditor(model, caption(spec), spec.objects[edit.index].noun, steps=steps)
    blended = BlendedEditor(model, steps=steps, composite=True, window=REGION_WINDOW)
    editors: list[Editor] = [locinv, locinv, locinv, blended]
    made = []
    for editor, window in zip(editors, windows, strict=True):
        take = int(rng.integers(len(TAKES) if editor is locinv else 2**31))
        made.append(editor.edit(image, _mask(window), told, take))
    pictures: np.ndarray = torch.cat(made).clamp(0, 1).mul(255).round().to(torch.uint8).numpy()
    return pictures


def _mask(window: Window) -> Tensor:
    x0, y0, x1, y1 = (round(end) for end in window)
    mask = torch.zeros(1, 1, SIDE, SIDE)
    mask[:, :, y0:y1, x0:x1] = 1
    return mask


def write_attempts(
    folder: Path, seeds: Sequence[int], model: str | Path, *, steps: int, report: Report
) -> None:
    """Make the attempts at these scenes' edits by the model of that name, a file a scene in ``folder``.

    What is there is kept, whichever model it is of.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [seed for seed in seeds if not _file(folder, seed).exists()]
    if not missing:
        return
    opened = load_edit_model(model, device="cpu", dtype="bfloat16")
    for number, seed in enumerate(missing, start=1):
        pictures = make_attempts(opened, seed, steps=steps)
        partial = _file(folder, seed).with_suffix(".partial")
        save_file({"pictures": pictures}, partial)
        os.replace(partial, _file(folder, seed))
        if number % 20 == 0:
            report(f"clip: {number}/{len(missing)} scenes edited by the model")


def _file(folder: Path, seed: int) -> Path:
    return folder / f"{seed:06d}.safetensors"


def load_attempts(folder: Path, seeds: Sequence[int]) -> Tensor:
    """The attempts at these scenes' edits, as ``write_attempts`` left them: (N, ATTEMPTS, 3, H, W) uint8."""
    return torch.from_numpy(np.stack([load_file(_file(folder, seed))["pictures"] for seed in seeds]))


def in_part(picture: Tensor, attempt: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the time the attempt, else as much of it as a random square of the picture shows: (3, H, W)."""
    if rng.random() < 0.5:
        return attempt
    height, width = picture.shape[1:]
    side = rng.uniform(0.25, 0.8) * min(height, width)
    x0, y0 = (int(place) for place in rng.uniform(-side / 4, (width - 0.75 * side, height - 0.75 * side)))
    x1, y1 = round(x0 + side), round(y0 + side)
    made = picture.clone()
    rows, columns = slice(max(y0, 0), y1), slice(max(x0, 0), x1)
    made[:, rows, columns] = attempt[:, rows, columns]
    return made
