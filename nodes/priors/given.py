"""Priors that the user gives: masks, boxes, and several priors joined."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from comfy_api.latest import io

from ..bridge import types
from ..bridge.inputs import advanced, choice, number, switch, text, whole
from ..bridge.outputs import prior_output, prior_outputs
from ..bridge.parsing import boxes_from_text
from ..bridge.tensors import from_comfy_images, to_comfy_mask

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.localization.priors import LocalizationPrior

CATEGORY = "Pinpoint/prior"


class PriorFromMask(io.ComfyNode):
    """A prior from a mask."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromMask",
            display_name="Prior from Mask",
            category=CATEGORY,
            description="The object that a word names is inside this mask, from the mask editor or from a"
            " segmentation node.",
            is_input_list=True,
            inputs=[
                io.Mask.Input(
                    "mask",
                    tooltip="White where the object is. The masks of a batch are joined, unless as many images are"
                    " wired: then image i has mask i.",
                ),
                text(
                    "word", "cat", "The word of the prompt that names the object. The second cat of a prompt is cat#2."
                ),
                choice(
                    "kind",
                    ["outline", "box"],
                    "'outline' if the mask follows the object's edge, 'box' if it is only roughly around it: then"
                    " the word's attention is optimized to stay inside it, not to fill it.",
                    "outline",
                ),
                *mask_inputs(),
            ],
            outputs=prior_outputs(several=True),
        )

    @classmethod
    def execute(cls, mask: list[Tensor], image: list[Tensor] | None = None, **settings: list[Any]) -> io.NodeOutput:
        from ..bridge.masks import masks_of_images

        with torch.inference_mode(False):
            masks = masks_of_images(mask, image or [])
            count = max(len(masks), *(len(values) for values in settings.values()))
            made = []
            for number in range(count):
                # As ComfyUI repeats the last of a shorter list.
                here = {name: values[min(number, len(values) - 1)] for name, values in settings.items()}
                made.append(mask_prior(masks[min(number, len(masks) - 1)], **here))
            return io.NodeOutput(made, [to_comfy_mask(prior.union()) for prior in made])


class PriorFromBoxes(io.ComfyNode):
    """A prior from boxes."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromBoxes",
            display_name="Prior from Boxes",
            category=CATEGORY,
            description="The objects that words name are inside these boxes.",
            inputs=[
                io.Image.Input("image", tooltip="The image that the boxes are drawn on."),
                text(
                    "boxes",
                    "cat=11,30,57,73",
                    "A line word=x0,y0,x1,y1 for each box, in pixels from the top left corner; x1 and"
                    " y1 are just outside. Several boxes of one word are joined.",
                    multiline=True,
                ),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(cls, image: Tensor, boxes: str) -> io.NodeOutput:
        from ...locinv_core.localization.priors import from_boxes
        from ..bridge.ui_payloads import boxes_shown

        with torch.inference_mode(False):
            images = from_comfy_images(image)
            size = images.shape[-2], images.shape[-1]
            prior = from_boxes(boxes_from_text(boxes), size)
            return prior_output(prior, ui={"pinpoint_boxes": [boxes_shown(images[:1], boxes, cls)]})


class CombinePriors(io.ComfyNode):
    """Joins the words of several priors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointCombinePriors",
            display_name="Combine Priors",
            category=CATEGORY,
            description="One prior with the words of several. A word that several priors have gets all of its masks.",
            inputs=[
                types.Prior.Input("prior_a", tooltip="The first prior."),
                types.Prior.Input("prior_b", tooltip="Another prior, of the same image."),
                types.Prior.Input("prior_c", optional=True, tooltip="One more, if you like."),
                types.Prior.Input("prior_d", optional=True, tooltip="One more, if you like."),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(cls, **priors: LocalizationPrior | None) -> io.NodeOutput:
        from ...locinv_core.localization.priors import merge

        with torch.inference_mode(False):
            return prior_output(merge(*(prior for _, prior in sorted(priors.items()) if prior is not None)))


NODES = [PriorFromMask, PriorFromBoxes, CombinePriors]


def mask_inputs() -> list[io.Input]:
    """How a mask is brought to its image, and its shape changed; optional."""
    optional = {"optional": True}
    return [
        io.Image.Input(
            "image",
            optional=True,
            tooltip="The image that the mask belongs to, if the mask has another size: it is resized. A batch or a"
            " list of images with as many masks gives a prior each, in a list, as Rebatch Images makes of images.",
        ),
        *map(
            advanced,
            (
                whole(
                    "grow", 0, (-512, 512), "By how many pixels it grows on every side; below 0 it shrinks.", **optional
                ),
                number("blur", 0.0, (0.0, 128.0, 0.5), "Rounds the outline: a Gaussian blur's pixels.", **optional),
                switch("invert", False, "Black is where the object is.", **optional),
                number("threshold", 0.5, (0.01, 1.0, 0.01), "A soft mask's object: from this value up.", **optional),
            ),
        ),
    ]


def mask_prior(mask: Tensor, word: str, kind: str, **shape: Any) -> LocalizationPrior:
    """The prior of a soft mask (H, W) whose shape is changed first. Raises ValueError if nothing is left of it."""
    from ...locinv_core.localization.priors import from_masks
    from ..bridge.masks import shaped

    source: Literal["segment", "detection"] = "segment" if kind == "outline" else "detection"
    inside = shaped(mask, **shape)
    if not bool(inside.any()):
        raise ValueError(
            f"mask: nothing of it is inside, its values are {mask.min():g} to {mask.max():g}; requires a white part."
            " Load Image gives an empty mask where nothing was drawn in the mask editor"
        )
    return from_masks({word: inside}, kind=source)
