"""Prompts with the former names of inputs are read as they were meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pinpoint.nodes.bridge.old_names import TABLE, rename_old_inputs
from pinpoint.tests.comfyui.workflow_files import load

OLD = sorted(Path(__file__).with_name("old_workflows").glob("*.json"))
ADDED = {("PinpointPriorFromMask", name) for name in ("image", "grow", "blur", "invert", "threshold")}
"""Inputs that nodes have got since, and that old files load without."""
SHIPPED = Path(__file__).resolve().parents[2] / "workflows"


def test_former_names_become_the_present_ones_and_other_nodes_stay_as_they_are():
    inputs = {"cross_replace": 0.5, "self_replace": 0.3, "blend": "map", "guidance": 5.0, "prior": ["4", 0]}
    other = {"class_type": "KSampler", "inputs": {"blend": 1}}
    request = {"prompt": {"1": {"class_type": "PinpointPromptToPromptEdit", "inputs": inputs}, "2": dict(other)}}
    read = rename_old_inputs(request)["prompt"]
    assert read["1"]["inputs"] == {
        "cross_replace_steps": 0.5,
        "self_replace_steps": 0.3,
        "local_blend": "map",
        "guidance": 5.0,
        "prior": ["4", 0],
    }
    assert read["2"] == other


def test_an_input_under_its_present_name_goes_before_its_former_one():
    inputs = {"picture_weight": 3.0, "image_weight": 1.0}
    rename_old_inputs({"prompt": {"1": {"class_type": "PinpointPickBestEdit", "inputs": inputs}}})
    assert inputs == {"image_weight": 1.0}


@pytest.mark.parametrize("request_body", [{}, {"prompt": None}, {"prompt": {"1": "no node"}}, {"prompt": {"1": {}}}])
def test_what_is_no_prompt_is_left_to_comfyui(request_body):
    assert rename_old_inputs(dict(request_body)) == request_body


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.stem)
def test_each_input_of_an_old_workflow_is_one_of_the_same_workflow_now(path):
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    now = {(node["type"], slot["name"]) for node in load(SHIPPED / path.name)["nodes"] for slot in node["inputs"]}
    old = [(node["type"], slot["name"]) for node in load(path)["nodes"] for slot in node["inputs"]]
    renamed = {name for kind, name in old if name in table.get(kind, {})}
    assert renamed and {(kind, table.get(kind, {}).get(name, name)) for kind, name in old} == now - ADDED
