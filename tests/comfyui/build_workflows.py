"""Write the workflows that the pack brings, and make each one's thumbnail by running it.

`python tests/comfyui/build_workflows.py [--no-thumbnails]` needs what the ComfyUI tests need.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pinpoint.tests.comfyui.comfyui_server import ROOT, ComfyUI, comfyui_folder, comfyui_python
from pinpoint.tests.comfyui.workflow_files import Canvas, api_prompt

WORKFLOWS = ROOT / "workflows"
THUMBNAIL = 256

SAMPLE = "a yellow cat and a red star in a meadow"
FOX = "a yellow fox and a red star in a meadow"
BLUE = "a blue cat and a red star in a meadow"
OWN_PICTURE = (
    "**With your own picture:** choose a Stable Diffusion 1.5 checkpoint in *Load Edit Model*, put *Load"
    " Image* in the place of *Sample Picture*, and say what it shows in *Parse Prompt*."
)


def word_swap_with_a_mask(canvas: Canvas) -> None:
    """Every stage a node of its own."""
    canvas.column("1  Picture and model")
    canvas.note(
        "# Word swap with a mask\n\nThe cat becomes a fox, and nothing else changes. Press Run: the small"
        " model and the picture come with Pinpoint.\n\n" + OWN_PICTURE + " The mask: right-click the picture,"
        " *Open in MaskEditor*, and wire *Load Image*'s mask."
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and the way to noise")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    inverted = canvas.add("PinpointDDIMInvert", model=(model, 0), image=(sample, 0), prompt=(prompt, 0))
    canvas.column("3  Where the word looks")
    prior = canvas.add("PinpointPriorFromMask", mask=(sample, 1), word="cat")
    tuned = canvas.add("PinpointOptimizeTokens", inversion=(inverted, 0), prior=(prior, 0))
    canvas.add("PinpointCrossAttentionMaps", source=(tuned, 0), prior=(prior, 0))
    canvas.column("4  The edit")
    ready = canvas.add("PinpointNullTextInversion", inversion=(tuned, 0))
    edit = canvas.add("PinpointPromptToPromptEdit", inversion=(ready, 0), target=FOX, prior=(prior, 0))
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.add(
        "PinpointEditMetrics", before=(sample, 0), after=(edit, 0), mask=(sample, 1), truth=(sample, 6)
    )
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/word_swap")


def word_swap_with_a_box(canvas: Canvas) -> None:
    """LocInv in one node, with a box for each thing."""
    canvas.column("1  Picture and model")
    canvas.note(
        "# Word swap with a box\n\nA box around each thing is enough. Boxes are lines *word=x0,y0,x1,y1* in"
        " pixels;"
        " *LocInv* inverts the picture and tunes the words in one node.\n\n" + OWN_PICTURE
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and where")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    prior = canvas.add(
        "PinpointPriorFromBoxes", image=(sample, 0), boxes="cat=11,30,57,73\nstar=74,48,119,91"
    )
    canvas.column("3  Invert and tune")
    ready = canvas.add(
        "PinpointLocInv", model=(model, 0), image=(sample, 0), prompt=(prompt, 0), prior=(prior, 0)
    )
    canvas.column("4  The edit")
    edit = canvas.add("PinpointPromptToPromptEdit", inversion=(ready, 0), target=FOX, prior=(prior, 0))
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(edit, 0), mask=(edit, 2))
    canvas.add("PinpointCrossAttentionMaps", source=(edit, 4), words="fox, star")
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/box_swap")


def attribute_edit(canvas: Canvas) -> None:
    """An adjective bound to its noun."""
    canvas.column("1  Picture and model")
    canvas.note(
        "# Attribute edit with adjective binding\n\nThe yellow cat becomes a blue one. *bind_adjectives*"
        " draws *yellow* to where *cat* looks, so that the colour changes there and not on the star. The"
        " layout stays:"
        " *self_replace* is high.\n\n" + OWN_PICTURE
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and where")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    prior = canvas.add("PinpointPriorFromMask", mask=(sample, 1), word="cat")
    inverted = canvas.add("PinpointDDIMInvert", model=(model, 0), image=(sample, 0), prompt=(prompt, 0))
    canvas.column("3  Tune, with the adjective bound")
    tuned = canvas.add(
        "PinpointOptimizeTokens", inversion=(inverted, 0), prior=(prior, 0), bind_adjectives=True
    )
    canvas.add(
        "PinpointCrossAttentionMaps", source=(tuned, 0), prior=(prior, 0), words="yellow, cat, red, star"
    )
    canvas.column("4  The edit")
    ready = canvas.add("PinpointNullTextInversion", inversion=(tuned, 0))
    edit = canvas.add(
        "PinpointPromptToPromptEdit", inversion=(ready, 0), target=BLUE, prior=(prior, 0), self_replace=0.8
    )
    canvas.column("5  Look")
    canvas.add("PinpointCompare", before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.add("PinpointEditMetrics", before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.add("SaveImage", images=(edit, 0), filename_prefix="pinpoint/attribute")


def methods_side_by_side(canvas: Canvas) -> None:
    """Null-text, Direct Inversion and LocInv from one DDIM inversion."""
    canvas.column("1  Picture and model")
    canvas.note(
        "# Null-text, Direct Inversion, LocInv\n\nOne picture, one inversion, one target; three ways to the"
        " edit. Null-text is slow: it optimises at every step. Because the sample is drawn, *Edit Metrics*"
        " knows the true edited picture."
    )
    model = canvas.add("PinpointLoadEditModel")
    sample = canvas.add("PinpointSamplePicture", sample=SAMPLE)
    canvas.column("2  What it shows, and the way to noise")
    prompt = canvas.add("PinpointParsePrompt", model=(model, 0), text=SAMPLE)
    inverted = canvas.add("PinpointDDIMInvert", model=(model, 0), image=(sample, 0), prompt=(prompt, 0))
    prior = canvas.add("PinpointPriorFromMask", mask=(sample, 1), word="cat")
    canvas.column("3  Three ways")
    null_text = canvas.add(
        "PinpointNullTextInversion", "Null-text", inversion=(inverted, 0), mode="null-text"
    )
    direct = canvas.add(
        "PinpointNullTextInversion", "Direct Inversion", inversion=(inverted, 0), mode="direct"
    )
    tuned = canvas.add("PinpointOptimizeTokens", "LocInv: tokens", inversion=(inverted, 0), prior=(prior, 0))
    local = canvas.add("PinpointNullTextInversion", "LocInv: Direct Inversion", inversion=(tuned, 0))
    canvas.column("4  Three edits")
    edits = [
        canvas.add("PinpointPromptToPromptEdit", "Null-text", inversion=(null_text, 0), target=FOX),
        canvas.add("PinpointPromptToPromptEdit", "Direct Inversion", inversion=(direct, 0), target=FOX),
        canvas.add(
            "PinpointPromptToPromptEdit", "LocInv", inversion=(local, 0), target=FOX, prior=(prior, 0)
        ),
    ]
    canvas.column("5  Pictures")
    for edit, title in zip(edits, ("Null-text", "Direct Inversion", "LocInv"), strict=True):
        canvas.add("PinpointCompare", title, before=(sample, 0), after=(edit, 0), mask=(sample, 1))
    canvas.column("6  Numbers")
    for edit, title in zip(edits, ("Null-text", "Direct Inversion", "LocInv"), strict=True):
        canvas.add(
            "PinpointEditMetrics",
            title,
            before=(sample, 0),
            after=(edit, 0),
            mask=(sample, 1),
            truth=(sample, 6),
        )


BUILDERS: tuple[Callable[[Canvas], None], ...] = (
    word_swap_with_a_mask,
    word_swap_with_a_box,
    attribute_edit,
    methods_side_by_side,
)


def main() -> int:
    """Write `workflows/`."""
    parser = argparse.ArgumentParser(description="Write the workflows and their thumbnails.")
    parser.add_argument(
        "--no-thumbnails", action="store_true", help="only the workflows, without running them"
    )
    args = parser.parse_args()
    folder, python = comfyui_folder(), comfyui_python()
    if folder is None or python is None:
        print("NO COMFYUI: see make test-comfyui", file=sys.stderr)
        return 2
    WORKFLOWS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as base:
        comfyui = ComfyUI(folder, python, Path(base))
        try:
            info = comfyui.get("/object_info")
            for build in BUILDERS:
                canvas = Canvas(info)
                build(canvas)
                workflow = canvas.finished(build.__name__)
                path = WORKFLOWS / f"{build.__name__}.json"
                path.write_text(json.dumps(workflow, indent=1) + "\n", encoding="utf-8")
                print(path.relative_to(ROOT))
                if not args.no_thumbnails:
                    thumbnail(comfyui, api_prompt(workflow, info)).save(path.with_suffix(".jpg"), quality=88)
        finally:
            comfyui.stop()
    return 0


def thumbnail(comfyui: ComfyUI, prompt: dict) -> Image.Image:
    """The picture and each of its edits, side by side, as the workflow's Compare nodes show them."""
    outcome = comfyui.run(prompt)
    if outcome.status != "success":
        raise RuntimeError(f"the workflow failed: {outcome.error}")
    compared = [name for name, node in prompt.items() if node["class_type"] == "PinpointCompare"]
    pairs = [outcome.outputs[number]["pinpoint_compare"][0]["pairs"][0] for number in compared]
    shown = [pairs[0]["before"], *(pair["after"] for pair in pairs)]
    pictures = [Image.fromarray(comfyui.picture(image)) for image in shown]
    sized = [
        np.asarray(picture.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)) for picture in pictures
    ]
    return Image.fromarray(np.concatenate(sized, axis=1))


if __name__ == "__main__":
    sys.exit(main())
