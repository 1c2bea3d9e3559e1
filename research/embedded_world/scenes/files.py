"""Held-out scenes as files: images, masks, true edited images, and ``scenes.json``, which lists them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....locinv_core.imaging.io import save_png, written_whole
from .edits import Edit, EditKind, sample_edit
from .render import render, tight_box
from .spec import HELD_OUT_SEED, SIDE, Box, SceneSpec, caption, sample_scene

_SHEET_ROWS = 8  # rows of the contact sheet that stand above one another before a new column starts
_SHEET_GAP = 6


def held_out_pair(
    seed: int, *, objects: int | None = None, kind: EditKind | None = None
) -> tuple[SceneSpec, Edit, SceneSpec]:
    """Held-out scene number ``seed``: the scene, an edit, and the scene after it.

    Raises ValueError for a negative seed, or what ``sample_scene`` and ``sample_edit`` refuse.
    """
    if seed < 0:
        raise ValueError(f"seed: got {seed}, requires 0 or more")
    spec = sample_scene(HELD_OUT_SEED + seed, objects=objects)
    edit, edited = sample_edit(spec, 0, kind)
    return spec, edit, edited


def write_scenes(
    folder: Path,
    *,
    count: int,
    seed: int = 0,
    size: int = SIDE,
    objects: int | None = None,
    kind: EditKind | None = None,
) -> Path:
    """Write held-out scenes ``seed`` to ``seed + count - 1`` into ``folder``, which is made where missing.

    Each scene gets its image, a mask (0 or 255) per object and the true edited image; ``scenes.json``, written last
    and whole, lists them with paths relative to the folder; ``contact_sheet.png`` shows source and true edit side by
    side. Returns the path of ``scenes.json``.

    Args:
        count, seed: at least 1, and at least 0. size: side in pixels, a multiple of 8, at least 32.
        objects, kind: 1, 2 or 3 objects in every scene, and every edit of this kind; mixed where left out.

    Raises:
        ValueError: for an argument out of its range, before anything is written.
    """
    if count < 1:
        raise ValueError(f"count: got {count}, requires 1 or more")
    if size < 32 or size % 8:
        raise ValueError(f"size: got {size}, requires a multiple of 8, at least 32")
    held_out_pair(seed, objects=objects, kind=kind)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"out: {folder} is a file, requires a folder")
    folder.mkdir(parents=True, exist_ok=True)
    entries: list[dict[str, Any]] = []
    pairs: list[NDArray[np.uint8]] = []
    for number in range(seed, seed + count):
        spec, edit, edited = held_out_pair(number, objects=objects, kind=kind)
        before, masks = render(spec, size)
        after, _ = render(edited, size)
        name = f"{number:05d}"
        save_png(before, folder / f"{name}.png")
        save_png(after, folder / f"{name}_target.png")
        for index, mask in enumerate(masks):
            save_png(mask.astype(np.uint8) * np.uint8(255), folder / f"{name}_mask{index}.png")
        entries.append(_entry(name, spec, edit, edited, [tight_box(mask) for mask in masks]))
        if len(pairs) < 4 * _SHEET_ROWS:
            pairs.append(np.stack([before, after]))
    save_png(contact_sheet(pairs), folder / "contact_sheet.png")
    with written_whole(folder / "scenes.json") as partial:
        partial.write_text(json.dumps({"scenes": entries}, indent=1) + "\n", encoding="utf-8")
    return folder / "scenes.json"


def _entry(name: str, spec: SceneSpec, edit: Edit, edited: SceneSpec, boxes: list[Box]) -> dict[str, Any]:
    return {
        "image": f"{name}.png",
        "source": caption(spec),
        "target": caption(edited),
        "target_image": f"{name}_target.png",
        "objects": [
            {
                "noun": obj.noun,
                "adjective": obj.adjective,
                "phrase": obj.phrase,
                "mask": f"{name}_mask{index}.png",
                "box": list(boxes[index]),
                "edited": index == edit.index,
            }
            for index, obj in enumerate(spec.objects)
        ],
        "edit": {"kind": edit.kind, "from": edit.source_word, "to": edit.target_word, "phrase": edit.phrase},
    }


def contact_sheet(pairs: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Source and edit (2, H, W, 3) side by side, pair under pair, in columns of eight; uint8 (H, W, 3)."""
    side = pairs[0].shape[1]
    columns = -(-len(pairs) // _SHEET_ROWS)
    rows = min(len(pairs), _SHEET_ROWS)
    step, pair = side + _SHEET_GAP, 2 * side + 3 * _SHEET_GAP
    sheet = np.full((rows * step + _SHEET_GAP, columns * pair, 3), 255, dtype=np.uint8)
    for number, images in enumerate(pairs):
        column, row = divmod(number, _SHEET_ROWS)
        for place, image in enumerate(images):
            top, left = _SHEET_GAP + row * step, _SHEET_GAP + column * pair + place * step
            sheet[top : top + side, left : left + side] = image
    return sheet
