"""Workflow files and API prompts from before inputs were renamed still arrive with their values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pinpoint.tests.comfyui.browser import CanvasPage
from pinpoint.tests.comfyui.comfyui_server import ROOT, ComfyUI
from pinpoint.tests.comfyui.workflow_files import NOTE, load

FOLDER = ROOT / "tests" / "nodes" / "old_workflows"
MASK, REGIONS = (FOLDER / f"{name}.json" for name in ("word_swap_with_a_mask", "learnable_regions_with_locinv"))
EDIT, LEARN, PICK = "PinpointPromptToPromptEdit", "PinpointLearnRegions", "PinpointPickBestEdit"
# None of them a default.
CHOSEN: dict[str, dict[str, Any]] = {
    EDIT: {"cross_replace": 0.55, "self_replace": 0.25, "blend": "prior+map", "carry": "tuned", "reweight": "fox=1.5"},
    LEARN: {"finalists": 3},
    PICK: {"picture_weight": 1.5},
}
NOW: dict[str, dict[str, Any]] = {
    EDIT: {
        "cross_replace_steps": 0.55,
        "self_replace_steps": 0.25,
        "local_blend": "prior+map",
        "target_embeddings": "tuned",
        "equalizer": "fox=1.5",
    },
    LEARN: {"final_count": 3},
    PICK: {"image_weight": 1.5},
}
FASTER = {"steps": 3, "inner_steps": 1, "k": 3, "m": 2, "epochs": 1}


def old_workflow(path: Path) -> dict[str, Any]:
    """An old file in which the renamed widgets have values of their own."""
    workflow = load(path)
    for node in workflow["nodes"]:
        names = widgets_of(node)
        for name, value in {**CHOSEN.get(node["type"], {}), **FASTER}.items():
            if name in names:
                node["widgets_values"][names.index(name)] = value
    return workflow


def widgets_of(node: dict[str, Any]) -> list[str]:
    return [slot["widget"]["name"] for slot in node["inputs"] if "widget" in slot]


def old_prompt(workflow: dict[str, Any]) -> dict[str, Any]:
    """The old file as the old frontend queued it."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    prompt = {}
    for node in workflow["nodes"]:
        if node["type"] != NOTE:
            inputs = dict(zip(widgets_of(node), node["widgets_values"], strict=True))
            inputs |= {slot["name"]: sources[slot["link"]] for slot in node["inputs"] if slot["link"] is not None}
            prompt[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def chosen_in(prompt: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Of a prompt, what the renamed inputs are."""
    return {
        kind: {name: node["inputs"].get(name) for name in NOW[kind]}
        for node in prompt.values()
        if (kind := node["class_type"]) in NOW
    }


@pytest.mark.parametrize("path", [MASK, REGIONS], ids=lambda path: path.stem)
def test_an_api_prompt_with_the_former_names_runs_with_its_values(comfyui: ComfyUI, path: Path):
    prompt = old_prompt(old_workflow(path))
    # The same twice: ComfyUI tells of a run's end before its history has it.
    for _ in range(2):
        outcome = comfyui.run(prompt)
        assert outcome.status == "success", outcome.error
    latest = max(comfyui.get("/history").values(), key=lambda entry: entry["prompt"][0])["prompt"][2]
    present = {node["class_type"] for node in prompt.values()} & set(NOW)
    assert chosen_in(latest) == {kind: NOW[kind] for kind in present}
    (judged,) = [node["inputs"] for node in latest.values() if node["class_type"] == LEARN] or [{"region_mask": 1}]
    assert "region_mask" in judged and "place" not in judged


@pytest.mark.parametrize("path", [MASK, REGIONS], ids=lambda path: path.stem)
def test_an_old_file_opens_in_the_browser_with_its_values_and_links(canvas: CanvasPage, path: Path):
    canvas.problems.clear()
    canvas.vue_nodes(False)
    workflow = old_workflow(path)
    canvas.open(workflow)
    queued = canvas.page.evaluate("async () => (await app.graphToPrompt()).output")
    present = {node["type"] for node in workflow["nodes"]} & set(NOW)
    assert chosen_in(queued) == {kind: NOW[kind] for kind in present}
    linked = {node["type"]: node["inputs"] for node in workflow["nodes"]}
    if LEARN in linked and any(slot["name"] == "place" and slot["link"] for slot in linked[LEARN]):
        (judged,) = [node["inputs"] for node in queued.values() if node["class_type"] == LEARN]
        assert isinstance(judged["region_mask"], list)
    assert canvas.missing() == [] and canvas.problems == []


def test_a_widget_that_an_old_file_takes_from_a_link_still_takes_it(canvas: CanvasPage):
    canvas.vue_nodes(False)
    workflow = old_workflow(MASK)
    number, link = workflow["last_node_id"] + 1, workflow["last_link_id"] + 1
    (edit,) = [node for node in workflow["nodes"] if node["type"] == EDIT]
    (at,) = [at for at, slot in enumerate(edit["inputs"]) if slot["name"] == "cross_replace"]
    edit["inputs"][at]["link"] = link
    output = {"name": "FLOAT", "type": "FLOAT", "links": [link]}
    frame = {"pos": [0, -300], "size": [210, 60], "flags": {}, "order": 0, "mode": 0, "properties": {}}
    workflow["nodes"].append(
        {"id": number, "type": "PrimitiveFloat", **frame, "inputs": [], "outputs": [output], "widgets_values": [0.35]}
    )
    workflow["links"].append([link, number, 0, edit["id"], at, "FLOAT"])
    workflow |= {"last_node_id": number, "last_link_id": link}
    canvas.open(workflow)
    queued = canvas.page.evaluate("async () => (await app.graphToPrompt()).output")
    assert queued[str(edit["id"])]["inputs"]["cross_replace_steps"] == [str(number), 0]
    assert queued[str(edit["id"])]["inputs"]["self_replace_steps"] == 0.25
