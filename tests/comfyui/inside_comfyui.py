"""Measurements inside ComfyUI's own process: `python -m pinpoint.tests.comfyui.inside_comfyui HOLDER
load`, with ComfyUI's Python, in its folder, with HOLDER, which has a link `pinpoint`, on the path."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import asyncio
import importlib
import time
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import comfy.sd  # noqa: F401 (what ComfyUI has loaded when it comes to its packs)


def load() -> dict[str, Any]:
    """Seconds of computing that ComfyUI spends on loading the pack, when its own modules are in memory, also
    those that it reads a pack's pyproject.toml with."""
    nodes: Any = importlib.import_module("nodes")  # ComfyUI's
    importlib.import_module("comfy_config.config_parser")
    began = time.process_time()
    succeeded = asyncio.run(nodes.load_custom_node(f"{HOLDER}/pinpoint"))
    return {"seconds": time.process_time() - began, "succeeded": succeeded}


tell({"load": load}[WHAT]())
