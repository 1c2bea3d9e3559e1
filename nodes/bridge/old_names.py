"""Prompts of ComfyUI's API in which inputs of our nodes still have their former names.

The browser reads the same table for workflow files (`web/lib/old_names.js`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TABLE = Path(__file__).resolve().parents[2] / "web" / "old_names.json"
"""Node id → former name of an input → its name."""


def rename_old_inputs(request: dict[str, Any]) -> dict[str, Any]:
    """A request to queue a prompt, with the inputs of our nodes named as they are now.

    An input that is there under its present name stays as it is.
    """
    table: dict[str, dict[str, str]] = json.loads(TABLE.read_text(encoding="utf-8"))
    prompt = request.get("prompt")
    for node in prompt.values() if isinstance(prompt, dict) else ():
        names = table.get(str(node.get("class_type")), {}) if isinstance(node, dict) else {}
        inputs = node.get("inputs", {}) if names else {}
        for old in [name for name in inputs if name in names]:
            inputs.setdefault(names[old], inputs.pop(old))
    return request
