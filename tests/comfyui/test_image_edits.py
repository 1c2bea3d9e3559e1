"""LEDITS++, Imagic and InstructPix2Pix as nodes: each gives what the core gives for the same settings, shows
its progress and cost, stops at a cancel, runs alone when its text changes, and says what is wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.imaging.io import load_image, to_uint8
from pinpoint.methods.instruct_pix2pix import load_instruct_model
from pinpoint.methods.registry import edit_by_method
from pinpoint.methods.types import EditTask, MethodModels
from pinpoint.tests.comfyui.comfyui_server import ROOT, ComfyUI, Outcome
from pinpoint.tests.comfyui.inside_process import measured
from pinpoint.tests.comfyui.prompts import SOURCE, TARGET, Node, node
from pinpoint.tests.fixtures.tiny_models import tiny_unet, write_tiny_configs, write_tiny_folder

LEDITS, IMAGIC, INSTRUCT = "PinpointLeditsEdit", "PinpointImagicEdit", "PinpointInstructPix2PixEdit"
KINDS = [LEDITS, IMAGIC, INSTRUCT]
ORDER = "turn the yellow cat into a yellow fox"
SETTINGS: dict[str, dict[str, Any]] = {
    LEDITS: {"steps": 4, "skip": 0.25, "guidance": 8.0, "threshold": 0.6},
    IMAGIC: {
        "steps": 4,
        "guidance": 3.0,
        "interpolation": 0.8,
        "embedding_steps": 2,
        "embedding_rate": 0.01,
        "tuning_steps": 3,
        "tuning_rate": 1e-4,
    },
    INSTRUCT: {"steps": 4, "guidance": 4.0, "image_guidance": 1.2},
}
TEXTS: dict[str, dict[str, str]] = {
    LEDITS: {"source": SOURCE, "target": TARGET},
    IMAGIC: {"target": TARGET},
    INSTRUCT: {"instruction": ORDER},
}
NAMES = {LEDITS: "ledits++", IMAGIC: "imagic", INSTRUCT: "instruct-pix2pix"}
SEED = 3
STEPS = {LEDITS: 4 + 4, IMAGIC: 2 + 3 + 4, INSTRUCT: 4}
"""Of the bar: all that a node goes through."""
COSTS = {LEDITS: 4 + 4 * 3, IMAGIC: 2 * 3 + 3 * 3 + 4 * 2, INSTRUCT: 4 * 3}
MASKS = {LEDITS: 2}
BOX = "cat=8,32,56,72"
"""Of whole cells of the embedded model's latents, which are eight pixels wide."""


def image_edits(kinds: Sequence[str] = KINDS, *, folder: str = "eight", **changes: Any) -> dict[str, Node]:
    """The sample, edited by each of the nodes, which are named by their kinds."""
    prompt = {
        "model": node("PinpointLoadEditModel", model="embedded", dtype="auto", prediction="auto"),
        "sample": node("PinpointSamplePicture", sample=SOURCE),
        "instruct": node("PinpointLoadInstructPix2Pix", model=f"diffusers/{folder}", dtype="auto"),
    }
    for kind in kinds:
        model = "instruct" if kind == INSTRUCT else "model"
        given = {**SETTINGS[kind], **TEXTS[kind], "seed": SEED, **changes}
        prompt[kind] = node(kind, model=[model, 0], image=["sample", 0], **given)
        prompt[f"{kind} shown"] = node("PreviewImage", images=[kind, 0])
        if kind == LEDITS:
            prompt[f"{kind} rebuilt"] = node("PreviewImage", images=[kind, 1])
            prompt[f"{kind} mask"] = node("MaskPreview", mask=[kind, 2])
    return prompt


def shown(comfyui: ComfyUI, outcome: Outcome, name: str) -> np.ndarray:
    return comfyui.image(outcome.outputs[name]["images"][0]).astype(int)


def succeeded(comfyui: ComfyUI, prompt: dict[str, Node]) -> Outcome:
    outcome = comfyui.run(prompt)
    assert outcome.status == "success", outcome.error
    return outcome


@pytest.fixture(name="folders", scope="module")
def _folders(comfyui: ComfyUI) -> None:
    """A tiny InstructPix2Pix, and a tiny model that reads no image."""
    for name in ("eight", "four"):
        write_tiny_folder(write_tiny_configs(comfyui.base / "models" / "diffusers" / name))
    tiny_unet(4, in_channels=8, out_channels=4).save_pretrained(
        comfyui.base / "models" / "diffusers" / "eight" / "unet"
    )


@pytest.fixture(name="outcome", scope="module")
def _outcome(comfyui: ComfyUI, folders: None) -> Outcome:
    return succeeded(comfyui, image_edits())


@pytest.fixture(name="in_the_core", scope="module")
def _in_the_core(comfyui: ComfyUI, folders: None) -> dict[str, np.ndarray]:
    """The edited images (H, W, 3), computed without ComfyUI."""
    models = MethodModels(
        model=load_edit_model("embedded", device="cpu", dtype="float32"),
        instruct=load_instruct_model(comfyui.base / "models" / "diffusers" / "eight", device="cpu", dtype="float32"),
    )
    image = load_image(ROOT / "assets" / "samples" / "02352.png")
    task = EditTask(image, SOURCE, TARGET, instruction=ORDER)
    found = {}
    for kind, name in NAMES.items():
        tracker = CostTracker()
        edited = edit_by_method(name, models, task, settings=SETTINGS[kind], seed=SEED, tracker=tracker).edited
        assert tracker.total == COSTS[kind]
        found[kind] = to_uint8(edited)[0].permute(1, 2, 0).numpy().astype(int)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_gives_the_image_and_the_cost_that_the_core_gives(comfyui, outcome, in_the_core, kind):
    assert np.abs(shown(comfyui, outcome, f"{kind} shown") - in_the_core[kind]).max() <= 2
    assert outcome.texts[kind].startswith(f"{COSTS[kind]} NFE, ")
    others = [pixels for other, pixels in in_the_core.items() if other != kind]
    assert all(np.abs(pixels - in_the_core[kind]).max() > 2 for pixels in others)


@pytest.mark.parametrize("kind", KINDS)
def test_the_bar_goes_through_all_stages_to_the_end_and_previews_are_shown(outcome, kind):
    values = [(value, most) for name, value, most in outcome.progress if name == kind]
    assert [most for _, most in values] == [STEPS[kind]] * len(values)
    assert [value for value, _ in values] == sorted(value for value, _ in values)
    assert values[-1][0] == STEPS[kind]
    assert outcome.previews >= len(KINDS)


def test_ledits_gives_back_the_image_where_the_prompts_name_the_same(comfyui, outcome):
    same = succeeded(comfyui, image_edits([LEDITS], target=SOURCE))
    edited, rebuilt = (shown(comfyui, same, f"{LEDITS} {what}") for what in ("shown", "rebuilt"))
    assert np.abs(edited - rebuilt).max() <= 1
    assert not shown(comfyui, same, f"{LEDITS} mask").any()
    assert np.abs(shown(comfyui, outcome, f"{LEDITS} shown") - rebuilt).max() > 20


def test_ledits_keeps_to_a_prior_and_a_mask_goes_before_it(comfyui, outcome):
    """With the threshold at 0 the concepts act wherever they may."""
    anywhere = succeeded(comfyui, image_edits([LEDITS], threshold=0.0))
    assert (shown(comfyui, anywhere, f"{LEDITS} mask") == 255).all()
    prompt = image_edits([LEDITS], threshold=0.0, prior=["prior", 0])
    prompt["prior"] = node("PinpointPriorFromBoxes", image=["sample", 0], boxes=BOX)
    held = succeeded(comfyui, prompt)
    inside = np.zeros((128, 128), dtype=bool)
    inside[32:72, 8:56] = True
    assert np.array_equal(shown(comfyui, held, f"{LEDITS} mask")[..., 0] == 255, inside)
    assert not shown(comfyui, held, f"{LEDITS} mask")[~inside].any()
    prompt[LEDITS]["inputs"]["mask"] = ["white", 0]
    prompt["white"] = node("SolidMask", value=1.0, width=128, height=128)
    both = succeeded(comfyui, prompt)
    assert (shown(comfyui, both, f"{LEDITS} mask") == 255).all()


def test_changing_only_a_text_runs_only_its_edit_again(comfyui, outcome):
    for kind, text in ((LEDITS, "target"), (IMAGIC, "target"), (INSTRUCT, "instruction")):
        succeeded(comfyui, image_edits([kind]))
        again = succeeded(comfyui, image_edits([kind], **{text: "a blue cat and a red star"}))
        assert {name for name in again.ran if " " not in name} == {kind}


def test_an_order_is_made_of_the_source_and_the_target_where_there_is_none(comfyui, outcome):
    prompt = image_edits([INSTRUCT], instruction="", source=SOURCE, target=TARGET)
    prompt["order"] = node("PreviewAny", source=[INSTRUCT, 2])
    made = succeeded(comfyui, prompt)
    assert ORDER in str(made.outputs["order"])
    name = f"{INSTRUCT} shown"
    assert np.array_equal(shown(comfyui, made, name), shown(comfyui, outcome, name))


@pytest.mark.parametrize(
    ("kind", "changes", "at", "said"),
    [
        (LEDITS, {"source": " "}, LEDITS, "prompt is empty"),
        (LEDITS, {"steps": 999}, LEDITS, "steps: got 1248"),
        (LEDITS, {"mask": ["other size", 0]}, LEDITS, "mask: got the shape (64, 64)"),
        (LEDITS, {"prior": ["other word", 0]}, LEDITS, "'owl' is not in the prompt"),
        (IMAGIC, {"target": " "}, IMAGIC, "prompt is empty"),
        (INSTRUCT, {"instruction": "very " * 200 + "big"}, INSTRUCT, "too long"),
        (
            INSTRUCT,
            {"instruction": " ", "source": SOURCE},
            INSTRUCT,
            "instruction: it is empty, requires an instruction",
        ),
        (INSTRUCT, {"folder": "four"}, "instruct", "reads 4 channels, requires 8 (an InstructPix2Pix model)"),
    ],
)
def test_bad_input_is_said_in_one_line_on_its_node(comfyui, folders, kind, changes, at, said):
    prompt = image_edits([kind], **changes)
    prompt["other size"] = node("SolidMask", value=1.0, width=64, height=64)
    prompt["other word"] = node("PinpointPriorFromBoxes", image=["sample", 0], boxes="owl=8,32,56,72")
    failed = comfyui.run(prompt)
    assert failed.status == "error" and failed.error["node_id"] == at
    assert failed.error["exception_type"].endswith("ValueError")
    message = failed.error["exception_message"].strip()
    assert said in message and "\n" not in message


def test_a_cancel_in_the_tuning_stops_and_the_next_run_gives_the_same_image(comfyui, outcome):
    reached: list[float] = []

    def cancel(event: str, data: dict[str, Any]) -> None:
        if event == "progress" and data["node"] == IMAGIC and data["value"] > 2 and not reached:
            reached.append(data["value"])
            comfyui.interrupt()

    stopped = comfyui.run(image_edits([IMAGIC], tuning_steps=200), cancel)
    assert stopped.status == "interrupted"
    assert [value for name, value, _ in stopped.progress if name == IMAGIC][-1] < 2 + 200
    again = succeeded(comfyui, image_edits([IMAGIC]))
    name = f"{IMAGIC} shown"
    assert np.array_equal(shown(comfyui, again, name), shown(comfyui, outcome, name))


def test_imagic_gives_the_model_back_unchanged_and_the_memory_of_its_copy(tmp_path):
    found = measured("inside_image_edits", "imagic", tmp_path)
    told = found["ours"]
    assert told["changed the image"] > 0.01
    assert told["weights"] == "as they were" and told["gradients"] == 0
    # Room for a copy, a gradient and two moments of each weight, in float32.
    assert told["asked for"] == 16 * told["weights counted"]
    assert told["UNets"] == told["UNets before"] == told["UNets after a cancel"]
    assert told["stopped in"] == "fine-tuning"
    assert told["same after a cancel"] is True


def test_what_is_wrong_is_said_before_comfyui_loads_a_model_and_images_of_any_size_come_back(tmp_path):
    found = measured("inside_image_edits", "edits", tmp_path)
    assert found["loaded for bad input"] == 0
    wrong = ("prompt is empty", "prompt is empty", "instruction: it is empty")
    assert all(said.startswith(what) for said, what in zip(found["refused"], wrong, strict=True))
    for name in ("imagic", "ledits", "instruct"):
        assert found[name]["shape"] == [1, 66, 90, 3]
        # ComfyUI's VAE has latents without the factor that the UNet's are scaled by.
        assert found[name]["latent decodes to the edit"] < 1e-5
    assert found["ledits"]["mask"] == [1, 66, 90]
    assert found["batch"].startswith("image: got a batch of 2 images, requires one")
