"""Sample Image: an image that the pack brings, with its mask, its boxes, its prompts and its true edit."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io

from ..assets import SAMPLES
from .bridge.inputs import choice


class SampleImage(io.ComfyNode):
    """An image to try an edit on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointSamplePicture",
            display_name="Sample Image",
            category="Pinpoint/model",
            description="A drawn image to try the embedded model on. Because it is drawn, the mask of its"
            " object and the true edited image are known exactly.",
            inputs=[choice("sample", [scene["source"] for scene in scenes()], "Which image, by what it shows.")],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The image."),
                io.Mask.Output(display_name="mask", tooltip="The mask of the object that the sample edit changes."),
                io.String.Output(display_name="word", tooltip="The word that names it."),
                io.String.Output(display_name="source", tooltip="What the image shows."),
                io.String.Output(display_name="target", tooltip="What it should show."),
                io.String.Output(display_name="boxes", tooltip="A box for each of its objects, for Prior from Boxes."),
                io.Image.Output(display_name="truth", tooltip="Ground truth: the true edited image."),
            ],
        )

    @classmethod
    def execute(cls, sample: str) -> io.NodeOutput:
        from ..locinv_core.imaging.io import load_image
        from ..locinv_core.localization.priors import from_mask_files
        from .bridge.tensors import to_comfy_image, to_comfy_mask

        scene = next(scene for scene in scenes() if scene["source"] == sample)
        obj = next(obj for obj in scene["objects"] if obj["edited"])
        mask = to_comfy_mask(from_mask_files({obj["noun"]: SAMPLES / obj["mask"]}).union())
        boxes = "\n".join(f"{obj['noun']}={','.join(str(side) for side in obj['box'])}" for obj in scene["objects"])
        image, truth = (to_comfy_image(load_image(SAMPLES / scene[key])) for key in ("image", "target_image"))
        return io.NodeOutput(image, mask, obj["noun"], scene["source"], scene["target"], boxes, truth)


NODES = [SampleImage]


def scenes() -> list[dict[str, Any]]:
    """The sample scenes, as their file describes them."""
    found: list[dict[str, Any]] = json.loads((SAMPLES / "scenes.json").read_text(encoding="utf-8"))["scenes"]
    return found
