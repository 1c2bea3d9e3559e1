"""What an edit model makes of the training scenes: where it edits, and what is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from pinpoint.locinv_core.embedded.scenes import render, sample_scene
from pinpoint.locinv_core.embedded.scenes_edits import sample_edit
from pinpoint.region_core.embedded.attempts import ATTEMPTS, in_part, load_attempts, write_attempts


def quiet(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("attempts")
    write_attempts(made, range(2), "embedded", steps=3, report=quiet)
    return made


def test_attempts_are_edits_in_a_place_of_the_scene(folder: Path) -> None:
    attempts = load_attempts(folder, range(2))
    assert attempts.shape == (2, ATTEMPTS, 3, 128, 128) and attempts.dtype == torch.uint8
    for seed in (0, 1):
        spec = sample_scene(seed)
        edit, _ = sample_edit(spec, 0)
        before = torch.from_numpy(render(spec)[0]).permute(2, 0, 1)
        changed = (attempts[seed].int() - before.int()).abs().amax(dim=1) > 0
        assert changed.flatten(1).any(dim=1).all()
        assert (changed.flatten(1).float().mean(dim=1) < 0.9).all()  # the rest is the scene, bit for bit
        x0, y0, x1, y1 = spec.objects[edit.index].box
        inside = torch.zeros(128, 128, dtype=torch.bool)
        inside[y0:y1, x0:x1] = True
        assert (changed[0] & inside).sum() > 0.5 * inside.sum()  # the first one is near the thing


def test_what_is_there_is_not_made_again(folder: Path) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert sorted(before) == ["000000.safetensors", "000001.safetensors"]
    write_attempts(
        folder, range(2), "no such model", steps=3, report=quiet
    )  # nothing to make, nothing opened
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == before


def test_half_of_the_attempts_are_shown_whole_and_of_the_others_a_square() -> None:
    rng = np.random.default_rng(0)
    picture, attempt = torch.zeros(3, 128, 128), torch.ones(3, 128, 128)
    whole = 0
    for _ in range(2000):
        shown = in_part(picture, attempt, rng)
        if bool((shown == 1).all()):
            whole += 1
            continue
        rows, columns = shown[0].any(1).nonzero()[:, 0], shown[0].any(0).nonzero()[:, 0]
        height, width = int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)
        assert shown.sum() == 3 * height * width  # a rectangle, cut off at the edge at most
        assert 16 <= min(height, width) and max(height, width) <= 103
    assert 900 < whole < 1100
    assert picture.max() == 0
