"""What can only be measured in ComfyUI's own process: the same weights predict the same noise, and loading is
quick."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from pinpoint.tests.comfyui.comfyui_server import PACK, ROOT, comfyui_folder, comfyui_python


def measured(what: str, holder: Path) -> dict[str, Any]:
    folder, python = comfyui_folder(), comfyui_python()
    if folder is None or python is None:
        pytest.skip("NO COMFYUI: run make test-comfyui with COMFYUI_DIR, or with a checkout at ~/ComfyUI")
    (holder / PACK).symlink_to(ROOT, target_is_directory=True)
    done = subprocess.run(
        [python, Path(__file__).with_name("inside_comfyui.py"), folder, holder, what],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert done.returncode == 0 and lines, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULT "))
    return result


def test_the_same_weights_predict_the_same_noise_with_and_without_a_lora_and_clip_skip(tmp_path):
    found = measured("parity", tmp_path)
    for name in ("plain", "lora", "clip skip"):
        assert found[name]["inference"] is False
        for timestep in ("981", "401", "1"):
            assert found[name][f"size {timestep}"] > 0.5, "the noise is too small for the test to mean much"
            assert found[name][timestep] < 1e-3, name
    # Had they been left out, it would have shown.
    assert found["moved by lora"] > 0.01 and found["moved by clip skip"] > 0.01
    assert found["encode"] < 1e-3 and found["decode"] < 1e-3


def test_loading_the_pack_takes_comfyui_less_than_a_third_of_a_second_of_computing(tmp_path):
    found = measured("load", tmp_path)
    assert found["succeeded"] is True
    # Computing, not waiting: so that a busy machine does not decide.
    assert found["seconds"] < 0.3
