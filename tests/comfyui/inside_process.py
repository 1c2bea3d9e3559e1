"""Both ends of a measurement in a process that holds ComfyUI's own modules, with no server: the test's end,
which starts the process, and that of the module which runs in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

from pinpoint.tests.comfyui.comfyui_server import PACK, ROOT, comfyui_folder, comfyui_python

_RESULT = "RESULT "


def measured(module: str, what: str, holder: Path, seconds: float = 1500) -> dict[str, Any]:
    """What the module of this folder tells of `what`; `holder` is an empty folder for it."""
    import pytest

    folder, python = comfyui_folder(), comfyui_python()
    if folder is None or python is None:
        pytest.skip("NO COMFYUI: run make test-comfyui with COMFYUI_DIR, or with a checkout at ~/ComfyUI")
    (holder / PACK).symlink_to(ROOT, target_is_directory=True)
    done = subprocess.run(
        [python, "-m", f"{PACK}.tests.comfyui.{module}", holder, what],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(holder), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=seconds,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith(_RESULT)]
    assert done.returncode == 0 and lines, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(lines[-1].removeprefix(_RESULT))
    return result


def begin() -> tuple[str, str]:
    """Have ComfyUI compute on the CPU; (the folder for files, what to tell of).

    Comes before ComfyUI's modules are imported: they read the command line as that happens.
    """
    holder, what = sys.argv[1:3]
    sys.argv = ["main.py", "--cpu"]
    import comfy.options

    comfy.options.enable_args_parsing()
    # No browser listens to the lines that nodes write.
    sys.modules["server"] = types.ModuleType("server")
    sys.modules["server"].PromptServer = None  # type: ignore[attr-defined]
    import folder_paths

    folder_paths.set_temp_directory(str(Path(holder, "temp")))
    return holder, what


def tell(result: dict[str, Any]) -> None:
    """The answer to the test."""
    print(_RESULT + json.dumps(result))
