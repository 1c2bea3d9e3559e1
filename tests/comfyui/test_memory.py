"""Twenty edits leave memory where it was: in tensors, which are counted, and in the process's own size."""

from __future__ import annotations

import time
from pathlib import Path

from pinpoint.tests.comfyui.comfyui_server import ComfyUI
from pinpoint.tests.comfyui.inside_process import measured
from pinpoint.tests.comfyui.prompts import edits_to_queue

WARM_UP, EDITS = 6, 20
MEGABYTE = 1024**2
EDIT_SECONDS = 180
"""What an edit may take on a busy machine."""


def test_no_tensor_and_no_model_is_left_over_from_twenty_edits(tmp_path):
    found = measured("inside_memory", "edits", tmp_path)
    assert len(found["after"]) == EDITS
    # The embedded model is there, so the count sees what an edit holds.
    assert found["warm"]["bytes"] > 10 * MEGABYTE
    # Each ends as the last of the warm-up does: with a model and one prompt's results in the cache.
    for row in found["after"]:
        assert row == found["warm"]


def test_twenty_queued_edits_leave_the_process_as_large_as_it_was(comfyui: ComfyUI):
    *first, last = edits_to_queue(WARM_UP + EDITS)
    run_all(comfyui, first[:WARM_UP])
    warm = resident(comfyui)
    run_all(comfyui, [*first[WARM_UP:], last])
    # The embedded model, which is loaded anew for each edit, has more than this.
    assert resident(comfyui) - warm < 24 * MEGABYTE


def run_all(comfyui: ComfyUI, prompts: list[dict]) -> None:
    """Queue all prompts at once, and wait until they have run."""
    tickets = [comfyui.post("/prompt", {"prompt": prompt})["prompt_id"] for prompt in prompts]
    until = time.monotonic() + EDIT_SECONDS * len(prompts)
    while time.monotonic() < until:
        told = comfyui.get("/history")
        if all(ticket in told for ticket in tickets):
            break
        time.sleep(0.5)
    for ticket in tickets:
        assert told[ticket]["status"]["status_str"] == "success"


def resident(comfyui: ComfyUI) -> int:
    """Bytes of the process's memory that lie in RAM."""
    status = Path(f"/proc/{comfyui.process.pid}/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) * 1024
