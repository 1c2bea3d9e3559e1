"""Priors from what other packs detect: SEGS of the Impact Pack, and BBOX."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from comfy_api.latest import io

from ..bridge.inputs import choice, number, text
from ..bridge.outputs import prior_output, prior_outputs
from ..bridge.tensors import from_comfy_images
from .given import CATEGORY, mask_prior

if TYPE_CHECKING:
    from torch import Tensor

Segs, BBox = io.Custom("SEGS"), io.Custom("BBOX")
WORD = "The word of the prompt that names the object. Combine Priors joins the priors of several words."


class PriorFromSegs(io.ComfyNode):
    """A prior from SEGS."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromSEGS",
            display_name="Prior from SEGS",
            category=CATEGORY,
            description="The object that a word names is where the Impact Pack's detectors found it.",
            inputs=[
                Segs.Input("segs", tooltip="Of the image to edit: from a detector, or filtered."),
                text("word", "cat", WORD),
                choice(
                    "kind",
                    ["outline", "box"],
                    "'outline' for the masks of a segmentation, 'box' if they are only roughly around the object.",
                    "outline",
                ),
                text("label", "", "Only detections with this label; empty: all of them, joined.", optional=True),
                number("confidence", 0.0, (0.0, 1.0, 0.01), "Only detections from this confidence up.", optional=True),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(cls, segs: Any, word: str, kind: str, label: str = "", confidence: float = 0.0) -> io.NodeOutput:
        from ..bridge.masks import mask_of_segs

        with torch.inference_mode(False):
            prior = mask_prior(mask_of_segs(segs, label.strip(), confidence), word, kind)
            return prior_output(prior)


class PriorFromBBox(io.ComfyNode):
    """A prior from BBOX."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromBBOX",
            display_name="Prior from BBOX",
            category=CATEGORY,
            description="The object that a word names is inside these boxes of another pack's node.",
            inputs=[
                io.Image.Input("image", tooltip="The image that the boxes belong to."),
                BBox.Input("bboxes", tooltip="Boxes in pixels; they are joined."),
                text("word", "cat", WORD),
                choice(
                    "form",
                    ["corners", "size"],
                    "'corners' if a box is x0, y0, x1, y1, as detectors, Florence-2 and SAM 2 nodes have it; 'size' if"
                    " it is x, y, width, height, as in KJNodes.",
                    "corners",
                ),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(cls, image: Tensor, bboxes: Any, word: str, form: str) -> io.NodeOutput:
        from ...locinv_core.localization.priors import from_boxes
        from ..bridge.masks import boxes_of_bbox

        with torch.inference_mode(False):
            images = from_comfy_images(image)
            size = images.shape[-2], images.shape[-1]
            prior = from_boxes({word: boxes_of_bbox(bboxes, form)}, size)
            return prior_output(prior)


NODES = [PriorFromSegs, PriorFromBBox]
