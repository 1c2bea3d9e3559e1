"""Prior from Mask, Prior from Boxes, Combine Priors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from .bridge import types as sockets
from .bridge.parsing import boxes_from_text
from .bridge.tensors import images_of, mask_of
from .bridge.ui_payloads import Shown, boxes_shown
from .located_priors import CATEGORY, prior_outputs

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localization.priors import LocalizationPrior

WORD_TOOLTIP = "The word of the prompt that names the object. The second cat of a prompt is cat#2."


class PriorFromMask(io.ComfyNode):
    """Says where a word's object is by a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromMask",
            display_name="Prior from Mask",
            category=CATEGORY,
            description="Says where the object is that a word names: inside the mask. Any mask of the"
            " image's size will do, from the mask editor or from a segmentation node.",
            inputs=[
                io.Mask.Input(
                    "mask",
                    tooltip="White where the object is, of the image's size. The masks of a batch are joined.",
                ),
                io.String.Input("word", default="cat", tooltip=WORD_TOOLTIP),
                io.Combo.Input(
                    "kind",
                    options=["outline", "box"],
                    default="outline",
                    tooltip="'outline' if the mask follows the object's edge, 'box' if it is only roughly"
                    " around it: then words are tuned to stay inside it, not to fill it.",
                ),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(cls, mask: Tensor, word: str, kind: str) -> io.NodeOutput:
        from ..locinv_core.localization.priors import from_masks

        with torch.inference_mode(False):
            return _output(from_masks({word: mask_of(mask)}, kind="segment" if kind == "outline" else "detection"))


class PriorFromBoxes(io.ComfyNode):
    """Says where words' objects are by boxes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromBoxes",
            display_name="Prior from Boxes",
            category=CATEGORY,
            description="Says where the objects are that words name: each inside its box.",
            inputs=[
                io.Image.Input("image", tooltip="The image that the boxes are drawn on."),
                io.String.Input(
                    "boxes",
                    multiline=True,
                    default="cat=11,30,57,73",
                    tooltip="A line word=x0,y0,x1,y1 for each box, in pixels from the top left corner; x1 and"
                    " y1 are just outside. Several boxes of one word are joined.",
                ),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(cls, image: Tensor, boxes: str) -> io.NodeOutput:
        from ..locinv_core.localization.priors import from_boxes

        with torch.inference_mode(False):
            images = images_of(image)
            height, width = images.shape[-2:]
            prior = from_boxes(boxes_from_text(boxes), (height, width))
            shown = {"pinpoint_boxes": [boxes_shown(images[:1], boxes, cls)]}
            return _output(prior, shown)


class CombinePriors(io.ComfyNode):
    """Puts the words of several priors into one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointCombinePriors",
            display_name="Combine Priors",
            category=CATEGORY,
            description="Puts the places of several words together. A word that several priors have gets all"
            " of its places.",
            inputs=[
                sockets.Prior.Input("prior_a", tooltip="The first prior."),
                sockets.Prior.Input("prior_b", tooltip="Another prior, of the same image."),
                sockets.Prior.Input("prior_c", optional=True, tooltip="One more, if you like."),
                sockets.Prior.Input("prior_d", optional=True, tooltip="One more, if you like."),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(
        cls,
        prior_a: LocalizationPrior,
        prior_b: LocalizationPrior,
        prior_c: LocalizationPrior | None = None,
        prior_d: LocalizationPrior | None = None,
    ) -> io.NodeOutput:
        from ..locinv_core.localization.priors import merge

        with torch.inference_mode(False):
            return _output(merge(*(prior for prior in (prior_a, prior_b, prior_c, prior_d) if prior is not None)))


def _output(prior: LocalizationPrior, shown: Shown | None = None) -> io.NodeOutput:
    return io.NodeOutput(prior, prior.union()[None], ui=shown)
