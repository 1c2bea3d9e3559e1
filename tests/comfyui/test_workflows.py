"""The workflows that the pack brings: they are offered, fit the nodes, and run as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinpoint.tests.comfyui.comfyui_server import PACK, ROOT, ComfyUI
from pinpoint.tests.comfyui.workflow_files import NOTE, api_prompt, inputs_of, is_widget, load

FILES = sorted((ROOT / "workflows").glob("*.json"))
# Fewer steps, so that a test takes seconds; the thumbnails were made with the workflows' own.
FASTER = {"steps": 4, "inner_steps": 1}


def test_there_are_workflows_and_the_template_browser_offers_each_with_its_thumbnail(comfyui: ComfyUI):
    assert FILES
    assert sorted(comfyui.get("/workflow_templates")[PACK]) == [path.stem for path in FILES]
    for path in FILES:
        served = comfyui.get(f"/api/workflow_templates/{PACK}/{path.name}")
        assert served == load(path)
        picture = comfyui.get_bytes(f"/api/workflow_templates/{PACK}/{path.stem}.jpg")
        assert picture[:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_names_nodes_inputs_and_outputs_as_they_are(comfyui: ComfyUI, path: Path):
    info, workflow = comfyui.get("/object_info"), load(path)
    by_id = {shown["id"]: shown for shown in workflow["nodes"]}
    for shown in workflow["nodes"]:
        if shown["type"] == NOTE:
            continue
        known = inputs_of(info[shown["type"]])
        assert {(slot["name"], slot["type"]) for slot in shown["inputs"]} == {known_[:2] for known_ in known}
        assert [slot["type"] for slot in shown["outputs"]] == info[shown["type"]]["output"]
        assert len(shown["widgets_values"]) == sum(is_widget(kind, options) for _, kind, options in known)
    for number, source, output, target, slot, kind in workflow["links"]:
        assert number in by_id[source]["outputs"][output]["links"]
        assert by_id[target]["inputs"][slot]["link"] == number
        assert kind == by_id[source]["outputs"][output]["type"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_is_laid_out_in_groups_with_no_two_nodes_on_top_of_each_other(path: Path):
    workflow = load(path)
    boxes = [(*shown["pos"], *shown["size"]) for shown in workflow["nodes"]]
    for k, (x, y, width, height) in enumerate(boxes):
        assert any(
            gx <= x and gy <= y and x + width <= gx + gw and y + height <= gy + gh
            for gx, gy, gw, gh in (group["bounding"] for group in workflow["groups"])
        )
        for ox, oy, other_width, other_height in boxes[:k]:
            apart = x >= ox + other_width or ox >= x + width or y >= oy + other_height or oy >= y + height
            assert apart, workflow["nodes"][k]["type"]
    lefts = [group["bounding"][0] for group in workflow["groups"]]
    assert lefts == sorted(lefts)
    for _, source, _, target, _, _ in workflow["links"]:
        assert boxes[source - 1][0] <= boxes[target - 1][0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_workflow_runs_as_it_is_and_changes_the_thing_more_than_the_background(
    comfyui: ComfyUI, path: Path
):
    prompt = api_prompt(load(path), comfyui.get("/object_info"))
    for shown in prompt.values():
        shown["inputs"] |= {name: value for name, value in FASTER.items() if name in shown["inputs"]}
    place = next((n for n, shown in prompt.items() if shown["class_type"] == "PinpointSamplePicture"))
    prompt["place"] = {"class_type": "MaskPreview", "inputs": {"mask": [place, 1]}}
    outcome = comfyui.run(prompt)
    assert outcome.status == "success", outcome.error
    inside = picture(comfyui, outcome.outputs["place"]["images"][0])[..., 0] > 127
    compared = [n for n, shown in prompt.items() if shown["class_type"] == "PinpointCompare"]
    assert compared
    for name in compared:
        if not any(prompt[prompt[name]["inputs"]["after"][0]]["inputs"].get("prior") or []):
            continue  # without a place nothing is promised
        images = prompt[name]["inputs"]
        prompt["before"] = {"class_type": "PreviewImage", "inputs": {"images": images["before"]}}
        prompt["after"] = {"class_type": "PreviewImage", "inputs": {"images": images["after"]}}
        again = comfyui.run(prompt)
        assert set(again.ran) == {"before", "after"}
        before, after = (
            picture(comfyui, again.outputs[n]["images"][0]).astype(int) for n in ("before", "after")
        )
        moved = np.abs(before - after).mean(axis=-1)
        assert moved[inside].mean() > moved[~inside].mean()


def picture(comfyui: ComfyUI, shown: dict[str, Any]) -> np.ndarray:
    return comfyui.picture(shown)
