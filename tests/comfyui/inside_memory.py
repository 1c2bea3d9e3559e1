"""What is in memory after many edits, counted in ComfyUI's own process and by its own executor:
`python -m pinpoint.tests.comfyui.inside_memory HOLDER edits`, as `inside_comfyui`."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import asyncio
import gc
import importlib
import warnings
from types import SimpleNamespace
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import comfy.model_management
import torch

from pinpoint.tests.comfyui.prompts import edits_to_queue

WARM_UP, EDITS = 6, 20


def tensors() -> dict[str, int]:
    """Bytes and number of the storages of all tensors that Python holds."""
    gc.collect()
    sizes: dict[int, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for held in gc.get_objects():
            if issubclass(type(held), torch.Tensor) and held.layout == torch.strided:
                storage = held.untyped_storage()
                sizes[storage.data_ptr()] = storage.nbytes()
    return {"bytes": sum(sizes.values()), "storages": len(sizes)}


def edits() -> dict[str, Any]:
    """Tensors in memory and models loaded, after the warm-up and after each further edit."""
    nodes: Any = importlib.import_module("nodes")  # ComfyUI's
    execution: Any = importlib.import_module("execution")
    assert asyncio.run(nodes.load_custom_node(f"{HOLDER}/pinpoint"))
    server = SimpleNamespace(client_id=None, last_node_id=None, send_sync=lambda *told: None)
    executor = execution.PromptExecutor(server)
    rows = []
    for number, prompt in enumerate(edits_to_queue(WARM_UP + EDITS)):
        del prompt["mask_shown"]  # of one of ComfyUI's extra nodes, which are not loaded here
        shown = [name for name in prompt if name.endswith("shown")]
        executor.execute(prompt, str(number), {}, shown)
        assert executor.success, executor.status_messages
        rows.append({**tensors(), "models": len(comfy.model_management.current_loaded_models)})
    return {"warm": rows[WARM_UP - 1], "after": rows[WARM_UP:]}


tell({"edits": edits}[WHAT]())
