"""Adds docs/adding.md's node and method and one more method, a file each in a folder of its own, for the pack to find:
`python -m pinpoint.tests.comfyui.inside_new_files HOLDER new`, as `inside_comfyui`."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import torch

from pinpoint import methods, nodes
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.nodes import extension
from pinpoint.nodes.bridge.memory import manage
from pinpoint.tests.fixtures.documented_files import documented_files
from pinpoint.tests.fixtures.tiny_editors import small_model, smooth_image

DOCUMENTED = documented_files()
NODE, SDEDIT = DOCUMENTED["nodes/prior_words.py"], DOCUMENTED["methods/sdedit.py"]
METHOD = '''
"""A method in a file of its own: mixes the image with one colour."""

from __future__ import annotations

from dataclasses import dataclass

from pinpoint.locinv_core.setting import check_settings, setting, share_setting
from pinpoint.methods.types import Method, MethodOutcome


@dataclass(frozen=True)
class TintSettings:
    amount: float = share_setting(0.5, "How much of the colour.")
    channel: str = setting("red", "The colour.", choices=("red", "green", "blue"))
    repeats: int = setting(1, "How often.", 1, widget=(1, 9))

    def __post_init__(self) -> None:
        check_settings(self)


def edit(models, task, settings, seed, tracker):
    edited = task.image.clone()
    at = ("red", "green", "blue").index(settings.channel)
    for _ in range(settings.repeats):
        edited[:, at] += settings.amount * (1 - edited[:, at])
    return MethodOutcome(edited)


METHOD = Method("tint", "Tint", "nobody 2026", "frozen", ("model",), TintSettings, edit)
'''


def new() -> dict[str, Any]:
    """What ComfyUI is told of the three, and what their nodes make of an image."""
    for package, name, text in ((nodes, "prior_words", NODE), (methods, "sdedit", SDEDIT), (methods, "tint", METHOD)):
        folder = Path(HOLDER, f"more_{name}")
        folder.mkdir()
        (folder / f"{name}.py").write_text(text)
        package.__path__.append(str(folder))
    importlib.reload(importlib.import_module("pinpoint.nodes.methods"))
    found = {node.define_schema().node_id: node for node in extension.collected()}
    schema = found["PinpointTintEdit"].define_schema()
    image = smooth_image().permute(0, 2, 3, 1)
    with torch.inference_mode():
        with torch.inference_mode(False):
            model = manage(small_model())
        given: dict[str, Any] = {"model": model, "source": "a cat", "target": "a red cat", "channel": "green"}
        made = found["PinpointTintEdit"].execute(image=image, seed=0, amount=0.25, repeats=1, **given).args
        steps: dict[str, Any] = {"steps": 2, "strength": 0.5, "guidance": 3.0}
        node = found["PinpointSdeditEdit"]
        redrawn = node.execute(model=model, image=image, source="a cat", target="a fox", seed=0, **steps).args[0]
    prior = from_boxes({"cat": (8, 8, 40, 36), "dog": (44, 40, 60, 56)}, (64, 64))
    tinted = image.clone()
    tinted[..., 1] += 0.25 * (1 - tinted[..., 1])
    return {
        "words": found["PinpointListWords"].execute(prior=prior).args,
        "documented": [node.define_schema().display_name, list(redrawn.shape), float((redrawn - image).abs().mean())],
        "name": schema.display_name,
        "inputs": [one.id for one in schema.inputs],
        "amount": [schema.inputs[6].default, schema.inputs[6].min, schema.inputs[6].max],
        "tooltip": schema.inputs[6].tooltip,
        "options": schema.inputs[7].options,
        "apart": float((made[0] - tinted).abs().max()),
        "shapes": [list(made[1].shape), list(made[2].shape), list(made[3]["samples"].shape)],
    }


tell({"new": new}[WHAT]())
