"""The script of docs/pipelines.md has a real ComfyUI edit an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from pinpoint.tests.comfyui.comfyui_server import ComfyUI
from pinpoint.tests.comfyui.prompts import BOX, SOURCE, TARGET
from pinpoint.tests.fixtures.pipeline_script import SAMPLE, run_script


def test_the_documented_script_changes_the_object_in_the_box_and_not_the_background(comfyui: ComfyUI, tmp_path: Path):
    done = run_script(f"http://127.0.0.1:{comfyui.port}", tmp_path, SOURCE, TARGET, BOX)
    assert done.returncode == 0, done.stderr
    before, after = (
        np.asarray(Image.open(file).convert("RGB")).astype(int) for file in (SAMPLE, tmp_path / "edited.png")
    )
    moved = np.abs(after - before).max(axis=-1)
    # composite_grow is 8 pixels in this workflow.
    left, top, right, bottom = (int(side) for side in BOX.partition("=")[2].split(","))
    near = np.zeros_like(moved, dtype=bool)
    near[max(0, top - 8) : bottom + 8, max(0, left - 8) : right + 8] = True
    assert moved[~near].max() == 0 and moved[top:bottom, left:right].mean() > 10


def test_the_documented_script_says_what_comfyui_refuses(comfyui: ComfyUI, tmp_path: Path):
    done = run_script(f"http://127.0.0.1:{comfyui.port}", tmp_path, SOURCE, TARGET, "cat=11,30,57")
    assert done.returncode == 1 and "requires word=x0,y0,x1,y1" in done.stderr
