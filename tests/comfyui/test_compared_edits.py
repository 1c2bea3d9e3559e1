"""The compared methods as nodes: each gives what the core gives for the same settings, shows its progress and
cost, stops at a cancel, runs alone when its target changes, and says what is wrong in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.imaging.io import load_image, to_uint8
from pinpoint.locinv_core.inversion.ddim_inversion import ddim_invert
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.methods.diffedit import DiffEditSettings
from pinpoint.methods.masactrl import MasaCtrlSettings
from pinpoint.methods.pix2pix_zero import Pix2PixZeroSettings
from pinpoint.methods.pnp import PlugAndPlaySettings
from pinpoint.methods.registry import recipe_named
from pinpoint.tests.comfyui.comfyui_server import ROOT, ComfyUI, Outcome
from pinpoint.tests.comfyui.prompts import SOURCE, TARGET, Node, node, word_swap

STEPS = 4
PLUG = {"guidance": 4.0, "feature_share": 0.5, "attention_share": 0.75, "attention_layers": "up_blocks"}
MASA = {"guidance": 4.0, "start": 0.25, "start_layer": 2}
DIFF = {
    "guidance": 4.0,
    "encode_share": 0.75,
    "threshold": 0.4,
    "ceiling": 2.5,
    "noises": 2,
    "noise_share": 0.5,
    "seed": 3,
}
ZERO = {"guidance": 4.0, "attention_rate": 0.2, "pairs": "a yellow cat -> a yellow fox", "templates": ""}
WIDGETS: dict[str, dict[str, Any]] = {
    "PinpointPlugAndPlayEdit": PLUG,
    "PinpointMasaCtrlEdit": MASA,
    "PinpointDiffEdit": DIFF,
    "PinpointPix2PixZeroEdit": ZERO,
}
IN_THE_CORE: dict[str, tuple[str, Any]] = {
    "PinpointPlugAndPlayEdit": (
        "pnp",
        PlugAndPlaySettings(4.0, 0.5, 0.75, attention_layers=("up_blocks",)),
    ),
    "PinpointMasaCtrlEdit": ("masactrl", MasaCtrlSettings(4.0, 0.25, 2)),
    "PinpointDiffEdit": ("diffedit", DiffEditSettings(4.0, 0.75, 0.4, 2.5, 2, 0.5, 3)),
    "PinpointPix2PixZeroEdit": (
        "pix2pix-zero",
        Pix2PixZeroSettings(4.0, 0.2, (("a yellow cat", "a yellow fox"),)),
    ),
}
KINDS = list(WIDGETS)


def compared(
    kinds: Sequence[str] = KINDS, *, steps: int = STEPS, target: str = TARGET, **changes: Any
) -> dict[str, Node]:
    """The sample's inversion, edited by each of the nodes, which are named by their kinds."""
    prompt = {
        name: part for name, part in word_swap(steps=steps).items() if name in ("model", "sample", "prompt", "invert")
    }
    for kind in kinds:
        widgets = {**WIDGETS[kind], **changes}
        prompt[kind] = node(kind, inversion=["invert", 0], target=target, **widgets)
        prompt[f"{kind} shown"] = node("PreviewImage", images=[kind, 0])
        prompt[f"{kind} rebuilt"] = node("PreviewImage", images=[kind, 1])
        prompt[f"{kind} mask"] = node("MaskPreview", mask=[kind, 2])
    return prompt


def shown(comfyui: ComfyUI, outcome: Outcome, name: str) -> np.ndarray:
    return comfyui.image(outcome.outputs[name]["images"][0]).astype(int)


@pytest.fixture(scope="module")
def outcome(comfyui: ComfyUI) -> Outcome:
    outcome = comfyui.run(compared())
    assert outcome.status == "success", outcome.error
    return outcome


@pytest.fixture(scope="module")
def in_the_core() -> dict[str, tuple[torch.Tensor, float]]:
    """(the edited image (H, W, 3), its cost) by kind of node, computed without ComfyUI."""
    model = load_edit_model("embedded")
    image = load_image(ROOT / "assets" / "samples" / "02352.png")
    source, target = (parse_prompt(text, model.tokenizer) for text in (SOURCE, TARGET))
    inversion = ddim_invert(model, model.encode(image), source, STEPS)
    found = {}
    for kind, (name, settings) in IN_THE_CORE.items():
        tracker = CostTracker()
        edit = recipe_named(name).edit(model, inversion, [target], settings, tracker=tracker)
        found[kind] = to_uint8(model.decode(edit.latents))[0].permute(1, 2, 0), tracker.total
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_node_gives_the_image_and_the_cost_that_the_core_gives(comfyui, outcome, in_the_core, kind):
    picture, cost = in_the_core[kind]
    assert np.abs(shown(comfyui, outcome, f"{kind} shown") - picture.numpy().astype(int)).max() <= 2
    assert outcome.texts[kind].startswith(f"{cost:.0f} NFE, ")
    # The settings are not the defaults, and the methods are not each other.
    others = [pixels for other, (pixels, _) in in_the_core.items() if other != kind]
    assert all((pixels.int() - picture.int()).abs().max() > 2 for pixels in others)


@pytest.mark.parametrize("kind", KINDS)
def test_progress_goes_to_the_end_and_previews_are_shown(outcome, kind):
    values = [(value, most) for name, value, most in outcome.progress if name == kind]
    steps = 3 if kind == "PinpointDiffEdit" else STEPS
    assert values[-1] == (steps, steps)
    assert outcome.previews >= len(KINDS)


def test_diffedit_keeps_the_image_outside_its_mask(comfyui, outcome):
    mask = shown(comfyui, outcome, "PinpointDiffEdit mask")[..., 0] > 127
    assert 0 < mask.mean() < 1
    edited, rebuilt = (shown(comfyui, outcome, f"PinpointDiffEdit {what}") for what in ("shown", "rebuilt"))
    moved = np.abs(edited - rebuilt).mean(axis=-1)
    # The autoencoder sees a few cells around each, so that the mask's edge is not sharp in pixels.
    assert moved[~mask].mean() < moved[mask].mean() / 2
    # The other methods say that they may change all of it.
    assert (shown(comfyui, outcome, "PinpointMasaCtrlEdit mask") == 255).all()


def test_changing_only_the_target_runs_only_the_edits_again(comfyui, outcome):
    again = comfyui.run(compared(["PinpointMasaCtrlEdit"], target="a blue cat and a red star in a meadow"))
    assert again.status == "success", again.error
    assert {name for name in again.ran if not name.endswith(("shown", "rebuilt", "mask"))} == {"PinpointMasaCtrlEdit"}


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("PinpointPlugAndPlayEdit", {"feature_layers": "mid.nowhere"}, "feature_layers: the UNet has no"),
        ("PinpointMasaCtrlEdit", {"start_layer": 999}, "start_layer: got 999"),
        ("PinpointPix2PixZeroEdit", {"pairs": "a cat, a fox"}, "pairs: got the line 'a cat, a fox'"),
        ("PinpointPix2PixZeroEdit", {"pairs": "", "templates": "a cat"}, "templates: got 'a cat'"),
        ("PinpointDiffEdit", {"target": " "}, "empty"),
    ],
)
def test_bad_input_is_said_in_one_line_on_its_node(comfyui, outcome, kind, changes, said):
    failed = comfyui.run(compared([kind], **changes))
    assert failed.status == "error" and failed.error["node_id"] == kind
    assert failed.error["exception_type"].endswith("ValueError")
    message = failed.error["exception_message"].strip()
    assert said in message and "\n" not in message


def test_a_cancel_in_the_gradient_stops_and_the_next_run_gives_the_same_image(comfyui, outcome):
    kind = "PinpointPix2PixZeroEdit"
    reached: list[str] = []

    def cancel(event: str, data: dict[str, Any]) -> None:
        if event == "progress" and data["node"] == kind and not reached:
            reached.append(kind)
            comfyui.interrupt()

    stopped = comfyui.run(compared([kind], attention_rate=0.3), cancel)
    assert stopped.status == "interrupted"
    assert [value for name, value, _ in stopped.progress if name == kind][-1] < STEPS
    again = comfyui.run(compared([kind]))
    assert again.status == "success", again.error
    assert np.array_equal(shown(comfyui, again, f"{kind} shown"), shown(comfyui, outcome, f"{kind} shown"))
