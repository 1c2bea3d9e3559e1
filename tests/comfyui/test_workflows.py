"""The workflows that the pack brings: they are offered, fit the nodes, and run as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pinpoint.tests.comfyui.build_workflows import API, BUILDERS, NEED_WEIGHTS
from pinpoint.tests.comfyui.comfyui_server import PACK, ROOT, ComfyUI
from pinpoint.tests.comfyui.workflow_files import NOTE, inputs_of, is_widget, load
from pinpoint.tests.fixtures.tiny_locators import write_tiny_clipseg

FILES = sorted((ROOT / "workflows").glob("*.json"))
WANTING = [path for path in FILES if path.stem in {build.__name__ for build in NEED_WEIGHTS}]
COMPLETE = [path for path in FILES if path not in WANTING]
# So that a test takes seconds; the thumbnails were made with the workflows' own.
FASTER = {"steps": 4, "inner_steps": 1, "k": 2, "m": 2, "epochs": 1, "final_count": 1}


def test_there_are_workflows_and_the_template_browser_offers_each_with_its_thumbnail(comfyui: ComfyUI):
    assert {path.stem for path in FILES} == {build.__name__ for build in BUILDERS}
    assert sorted(comfyui.get("/workflow_templates")[PACK]) == [path.stem for path in FILES]
    for path in FILES:
        served = comfyui.get(f"/api/workflow_templates/{PACK}/{path.name}")
        assert served == load(path)
        image = comfyui.get_bytes(f"/api/workflow_templates/{PACK}/{path.stem}.jpg")
        assert image[:3] == b"\xff\xd8\xff"


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
def test_an_api_prompt_gives_each_node_what_it_requires_and_nothing_that_it_does_not_know(comfyui: ComfyUI, path: Path):
    info, prompt = comfyui.get("/object_info"), load(API / path.name)
    for shown in prompt.values():
        known = {name: (kind, options) for name, kind, options in inputs_of(info[shown["class_type"]])}
        assert {name for name, (_, options) in known.items() if not options["optional"]} <= set(shown["inputs"])
        for name, value in shown["inputs"].items():
            kind, options = known[name]
            if isinstance(value, list):
                source, output = value
                given = info[prompt[source]["class_type"]]["output"][output]
                assert given in kind.split(",")
            elif kind in ("INT", "FLOAT"):
                assert options["min"] <= value <= options["max"]
            elif kind == "COMBO" and shown["class_type"] != "CheckpointLoaderSimple":
                assert value in options["options"]


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


@pytest.mark.parametrize("path", COMPLETE, ids=lambda path: path.stem)
def test_a_workflow_runs_as_it_is_and_changes_the_object_more_than_the_background(comfyui: ComfyUI, path: Path):
    prompt = load(API / path.name)
    outcome = comfyui.run(faster(prompt))
    assert outcome.status == "success", outcome.error
    kinds = {name: shown["class_type"] for name, shown in prompt.items()}
    compared = [name for name, kind in kinds.items() if kind == "PinpointCompare"]
    assert compared
    for name in compared:
        images = prompt[name]["inputs"]
        after = images["after"][0]
        regions = kinds[after] == "PinpointPickBestEdit"
        if not regions and not any(prompt[after]["inputs"].get("prior") or []):
            continue  # without a place nothing is promised
        # What the pack found by itself need not be where the object is: then its own place counts.
        found = regions or "PinpointFindWord" in kinds.values()
        sample = next(name for name, kind in kinds.items() if kind == "PinpointSamplePicture")
        looked_at = {
            **prompt,
            "before": {"class_type": "PreviewImage", "inputs": {"images": images["before"]}},
            "after": {"class_type": "PreviewImage", "inputs": {"images": images["after"]}},
            "place": {
                "class_type": "MaskPreview",
                "inputs": {"mask": images["mask"] if found else [sample, 1]},
            },
        }
        again = comfyui.run(looked_at)
        assert set(again.ran) == {"before", "after", "place"}
        before, after, place = (
            comfyui.image(again.outputs[part]["images"][0]).astype(int) for part in ("before", "after", "place")
        )
        moved, inside = np.abs(before - after).mean(axis=-1), place[..., 0] > 127
        assert 0 < inside.mean() < 1
        assert moved[inside].mean() > moved[~inside].mean()
        assert not regions or moved[~inside].max() == 0


@pytest.mark.parametrize("path", WANTING, ids=lambda path: path.stem)
def test_a_workflow_that_requires_weights_says_so_and_runs_on_small_ones_of_their_kind(comfyui: ComfyUI, path: Path):
    workflow = load(path)
    notes = [shown["widgets_values"][0] for shown in workflow["nodes"] if shown["type"] == NOTE]
    assert any("**This needs " in text for text in notes)
    write_tiny_clipseg(comfyui.base / "models" / "tiny_clipseg")
    prompt = faster(load(API / path.name))
    for name, shown in prompt.items():
        if shown["class_type"] == "CheckpointLoaderSimple":
            prompt[name] = {"class_type": "TinyCheckpoint", "inputs": {}}
        elif shown["class_type"] == "PinpointPriorFromText":
            shown["inputs"] |= {"model": "tiny_clipseg", "threshold": 0.01}
        elif shown["class_type"] == "ImageScale":
            shown["inputs"] |= {"width": 256, "height": 256}
        elif shown["class_type"] == "PinpointPriorFromBoxes":
            shown["inputs"]["boxes"] = "cat=22,60,114,146"
    outcome = comfyui.run(prompt)
    assert outcome.status == "success", outcome.error
    for name in (name for name, shown in prompt.items() if shown["class_type"] == "PinpointCompare"):
        (pair,) = outcome.outputs[name]["pinpoint_compare"][0]["pairs"]
        before, after = (comfyui.image(pair[part]) for part in ("before", "after"))
        assert before.shape == after.shape and (before != after).any()


def faster(prompt: dict[str, Any]) -> dict[str, Any]:
    """The prompt with less work in each node."""
    for shown in prompt.values():
        shown["inputs"] |= {name: value for name, value in FASTER.items() if name in shown["inputs"]}
    return prompt
