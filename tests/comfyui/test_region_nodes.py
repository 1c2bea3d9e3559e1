"""Regions in a real ComfyUI: the graph runs, another choice runs nothing again, errors are one clear line.

ViT and CLIP are tiny random ones, so that only the machinery is tested here, not how good the choice is.
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from pinpoint.tests.comfyui.comfyui_server import ComfyUI, Outcome
from pinpoint.tests.comfyui.prompts import SOURCE, node
from pinpoint.tests.fixtures.tiny_encoders import write_tiny_clip, write_tiny_vit


def region_edit(*, choice: int = 0, judge: str = "PinpointLearnRegions") -> dict:
    learning = {
        "estimator": "expected",
        "epochs": 1,
        "learning_rate": 0.003,
        "temperature": 1.0,
        "exploration": 1.0,
    }
    return {
        "sample": node("PinpointSamplePicture", sample=SOURCE),
        "model": node("PinpointLoadEditModel", model="embedded", dtype="auto", prediction="auto"),
        "vit": node("PinpointLoadViT", name="tiny_vit"),
        "clip": node("PinpointLoadCLIP", name="tiny_clip"),
        "anchors": node(
            "PinpointProposeAnchors",
            image=["sample", 0],
            vit=["vit", 0],
            anchors="dino",
            k=2,
            m=2,
            min_distance=4.0,
            sizes="learned",
            seed=0,
        ),
        "editor": node("PinpointEditorBlended", model=["model", 0], strength=0.75, guidance=5.0, steps=4, batch=4),
        "judge": node(
            judge,
            proposals=["anchors", 0],
            editor=["editor", 0],
            clip=["clip", 0],
            caption="a yellow cat",
            prompt="a yellow fox",
            plan="preview",
            final_count=0,
            batch=4,
            seed=0,
            **(learning if judge == "PinpointLearnRegions" else {}),
        ),
        "pick": node("PinpointPickBestEdit", regions=["judge", 0], choice=choice, prompt_weight=2.0, image_weight=1.0),
        "source_shown": node("PreviewImage", images=["sample", 0]),
        "edit_shown": node("PreviewImage", images=["pick", 0]),
        "mask_shown": node("MaskPreview", mask=["pick", 1]),
    }


@pytest.fixture(scope="module")
def edited(comfyui: ComfyUI) -> Outcome:
    write_tiny_vit(comfyui.base / "models" / "tiny_vit")
    write_tiny_clip(comfyui.base / "models" / "tiny_clip")
    outcome = comfyui.run(region_edit())
    assert outcome.status == "success", outcome.error
    return outcome


def shown(comfyui: ComfyUI, outcome: Outcome, name: str) -> np.ndarray:
    return comfyui.image(outcome.outputs[name]["images"][0]).astype(int)


def failed(comfyui: ComfyUI, prompt: dict) -> str:
    outcome = comfyui.run(prompt)
    assert outcome.status == "error" and outcome.error["exception_type"].endswith("ValueError")
    return outcome.error["exception_message"].strip()


def test_the_edit_changes_the_image_in_its_box_and_nowhere_else(comfyui, edited):
    before, after, mask = (shown(comfyui, edited, name) for name in ("source_shown", "edit_shown", "mask_shown"))
    inside = mask[..., 0] > 128
    assert 0 < inside.mean() < 1
    assert np.array_equal(after[~inside], before[~inside])
    assert np.abs(after - before)[inside].mean() > 1
    assert edited.previews >= 1 and edited.texts["judge"].endswith(" s")


def test_the_browser_is_told_of_every_box_and_candidate(edited):
    rows = edited.outputs["judge"]["pinpoint_regions"]
    assert [len(row["boxes"]) for row in rows] == [2, 2]
    candidates = edited.outputs["pick"]["pinpoint_candidates"]
    assert sorted(row["anchor"] for row in candidates) == [1, 2]
    assert edited.outputs["pick"]["pinpoint_choice"] == [candidates[0]["anchor"]]
    json.dumps(rows, allow_nan=False)


def test_another_choice_runs_only_the_pick_again(comfyui, edited):
    other = edited.outputs["pick"]["pinpoint_candidates"][1]["anchor"]
    again = comfyui.run(region_edit(choice=other))
    assert again.status == "success", again.error
    assert set(again.ran) == {"pick", "edit_shown", "mask_shown"}
    assert again.outputs["pick"]["pinpoint_choice"] == [other]
    assert again.texts["pick"].startswith("0 NFE")


def test_scoring_runs_in_the_place_of_learning(comfyui, edited):
    outcome = comfyui.run(region_edit(judge="PinpointScoreRegions"))
    assert outcome.status == "success", outcome.error
    assert set(outcome.ran) == {"judge", "pick", "edit_shown", "mask_shown"}


def test_what_is_not_there_is_said_in_one_line(comfyui, edited):
    def seen(kind: str, /, **inputs: object) -> str:
        sample = {"sample": node("PinpointSamplePicture", sample=SOURCE)}
        return failed(comfyui, {**sample, "bad": node(kind, **inputs), "out": last(kind)})

    def last(name: str) -> dict:
        if name.startswith("PinpointPrior"):
            return node("MaskPreview", mask=["bad", 1])
        return node(
            "PinpointProposeAnchors",
            image=["sample", 0],
            vit=["bad", 0],
            anchors="dino",
            k=2,
            m=2,
            min_distance=0.0,
            sizes="learned",
            seed=0,
        )

    messages = [
        seen("PinpointLoadViT", name="nobody/nothing"),
        seen("PinpointLoadViT", name="tiny_clip/nothing/here"),
        seen("PinpointLoadViT", name=" "),
        seen(
            "PinpointPriorFromSegmentAnything",
            image=["sample", 0],
            checkpoint="none: put a Segment Anything into models/sams",
            boxes="cat=1,1,9,9",
        ),
        seen(
            "PinpointPriorFromText",
            image=["sample", 0],
            words="cat",
            model="nobody/nothing",
            threshold=0.0,
            keep="best",
        ),
    ]
    for message, wanted in zip(
        messages,
        (
            "vit 'nobody/nothing'",
            "vit: got",
            "name: it is empty",
            "checkpoint: 'none",
            "model: 'nobody/nothing'",
        ),
        strict=True,
    ):
        assert message.startswith(wanted) and "\n" not in message


def test_the_embedded_amused_is_offered_first(comfyui):
    info = comfyui.get("/object_info/PinpointEditorAmused")["PinpointEditorAmused"]
    offered = info["input"]["required"]["model"][1]["options"]
    assert offered[0] == "embedded"
