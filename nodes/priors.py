"""Priors: masks and boxes of words' objects, given by the user or found by a network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import folder_paths
import torch
from comfy_api.latest import io, ui

from ..locinv_core.options import KEEPS
from .bridge import types
from .bridge.inputs import advanced, choice, image_input, model_input, number, prompt_input, switch, text, whole
from .bridge.outputs import prior_outputs
from .bridge.parsing import boxes_from_text, phrases_from_text, sam_prompts, words_from_text
from .bridge.tensors import from_comfy_image, from_comfy_images, to_comfy_image, to_comfy_mask
from .loaders import network_path

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localization.priors import LocalizationPrior
    from ..locinv_core.text.prompt import Prompt
    from ..region_core.encoders.clip import ClipEncoder
    from ..region_core.encoders.vit import VisionFeatures
    from .bridge.memory import Managed, ManagedModel

CATEGORY = "Pinpoint/prior"
SAMS = "sams"
NO_SAM = "none: put a Segment Anything into models/sams"


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
        from .bridge.masks import masks_of_images

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
        from ..locinv_core.localization.priors import from_boxes
        from .bridge.masks import boxes_inside
        from .bridge.ui_payloads import boxes_shown

        with torch.inference_mode(False):
            images = from_comfy_images(image)
            size = images.shape[-2], images.shape[-1]
            prior = from_boxes(boxes_inside(boxes_from_text(boxes), size), size)
            return _output(prior, ui={"pinpoint_boxes": [boxes_shown(images[:1], boxes, cls)]})


class PriorFromSegmentAnything(io.ComfyNode):
    """A prior that Segment Anything outlines from boxes or points."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromSegmentAnything",
            display_name="Prior from Segment Anything",
            category=CATEGORY,
            description="Outlines the objects that words name, each from a box around it or from a point on it.",
            inputs=[
                io.Image.Input("image", tooltip="The image that the objects are in, one at a time."),
                choice(
                    "checkpoint",
                    sam_names(),
                    "A Segment Anything in models/sams, as .safetensors or as published (.pth), of which only the"
                    " weights are read; or a folder of SAM 2 there, in transformers' layout.",
                ),
                text(
                    "boxes",
                    "",
                    "A line word=x0,y0,x1,y1 for each box around an object, in pixels from the top left corner.",
                    multiline=True,
                    optional=True,
                ),
                text(
                    "points",
                    "",
                    "A line word=x,y for a point on the object, word!=x,y for one beside it, in"
                    " pixels. Points may go with one box.",
                    multiline=True,
                    optional=True,
                ),
                types.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="A rough prior, from Prior from Text or Find Word, say: each word's object is"
                    " outlined from the box around its mask.",
                ),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(
        cls, image: Tensor, checkpoint: str, boxes: str = "", points: str = "", prior: LocalizationPrior | None = None
    ) -> io.NodeOutput:
        from ..locinv_core.localization.prior_from_sam import SEGMENT_STAGE, prior_from_segment_anything
        from ..locinv_core.localization.prior_from_sam2 import load_outliner
        from .bridge.memory import managed
        from .bridge.progress import node_tracker

        source, prompts = from_comfy_image(image), sam_prompts(boxes, points, prior)
        found = load_outliner(sam_path(checkpoint))
        with managed(found, found.model).ready() as outliner:
            return _output(prior_from_segment_anything(outliner, source, prompts, tracker=node_tracker(SEGMENT_STAGE)))


class PriorFromText(io.ComfyNode):
    """A prior that a text detector finds."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromText",
            display_name="Prior from Text",
            category=CATEGORY,
            description="Finds the objects that words name by a text: with a box around each (Grounding DINO,"
            " OWLv2) or a rough outline (CLIPSeg, GroupViT).",
            inputs=[
                io.Image.Input("image", tooltip="The image that the objects are in, one at a time."),
                text(
                    "words",
                    "cat",
                    "A line for each word of the prompt: the word alone, or word=what to look for,"
                    " for example cat=yellow cat on the left.",
                    multiline=True,
                ),
                text(
                    "model",
                    "IDEA-Research/grounding-dino-tiny",
                    "A Grounding DINO, OWLv2, CLIPSeg or GroupViT: a folder of transformers' layout inside ComfyUI's"
                    " models folder, or a Hugging Face name that is in the local cache. Nothing is downloaded.",
                ),
                number(
                    "threshold",
                    0.0,
                    (0.0, 0.99, 0.01),
                    "Least score of an object. 0 is the model's usual: 0.3 for Grounding DINO, 0.1 for OWLv2, 0.4 for"
                    " CLIPSeg, 0.5 for GroupViT. Lower finds more.",
                ),
                choice(
                    "keep", KEEPS, "Of several objects found for a word: the one of the highest score, or all.", "best"
                ),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(
        cls, image: Tensor, words: str, model: str, threshold: float, keep: Literal["best", "all"]
    ) -> io.NodeOutput:
        from ..locinv_core.localization.prior_from_text import TEXT_STAGE, load_text_locator, prior_from_text
        from .bridge.memory import managed
        from .bridge.progress import node_tracker

        source, phrases = from_comfy_image(image), phrases_from_text(words)
        found = load_text_locator(network_path(model, "model"))
        options: dict[str, Any] = {"threshold": threshold or None, "keep": keep, "tracker": node_tracker(TEXT_STAGE)}
        with managed(found, found.model).ready() as locator:
            return _output(prior_from_text(locator, source, phrases, **options))


class FindWord(io.ComfyNode):
    """A prior from the model's own attention."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointFindWord",
            display_name="Find Word",
            category=CATEGORY,
            description="Finds the box of what a word names, with no mask: by the word's cross-attention map in the"
            " model, with CLIP reranking the boxes.",
            is_output_node=True,
            inputs=[
                model_input(),
                image_input(),
                prompt_input(),
                text("words", "cat", "The words of the prompt to find, separated by commas."),
                types.Vision.Input("vit", optional=True, tooltip="Adds boxes around what is salient in the image."),
                types.ClipEncoder.Input("clip", optional=True, tooltip="Reranks the boxes."),
                number(
                    "clip_weight",
                    0.25,
                    (0.0, 1.0, 0.05),
                    "CLIP's share of a box's score; the rest is the model's attention.",
                ),
            ],
            outputs=[
                *prior_outputs(),
                io.String.Output(
                    display_name="boxes",
                    tooltip="A line word=x0,y0,x1,y1 for each word, for Prior from Boxes.",
                ),
                types.BoundingBox.Output(display_name="box", tooltip="The first word's box."),
                io.Image.Output(display_name="image", tooltip="The boxes on the image, with their scores."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ManagedModel,
        image: Tensor,
        prompt: Prompt,
        words: str,
        clip_weight: float,
        vit: Managed[VisionFeatures] | None = None,
        clip: Managed[ClipEncoder] | None = None,
    ) -> io.NodeOutput:
        from ..locinv_core.imaging.visualize import box_overlay
        from ..region_core.object_localization.attention_localizer import (
            LOCATE_STAGE,
            LocateSettings,
            detection_prior,
            locate_words,
        )
        from .bridge.memory import all_ready
        from .bridge.payloads import check_prompt
        from .bridge.progress import node_tracker
        from .bridge.ui_payloads import bounding_box

        source = from_comfy_image(image)
        check_prompt(prompt, model)
        tracker = node_tracker(LOCATE_STAGE)
        with all_ready([patcher for one in (model, vit, clip) if one for patcher in one.patchers]):
            found = locate_words(
                model.value,
                None if vit is None else vit.value,
                None if clip is None else clip.value,
                source,
                prompt,
                words_from_text(words),
                LocateSettings(clip_weight=clip_weight),
                tracker=tracker,
            )
            prior = detection_prior(found, (source.shape[-2], source.shape[-1]))
        tracker.show_cost()
        boxes = [one.box for one in found.values()]
        labels = [f"{one.phrase} {one.score:.2f}" for one in found.values()]
        shown = to_comfy_image(box_overlay(source, boxes, labels))
        lines = [f"{word}={','.join(f'{side:g}' for side in one.box)}" for word, one in found.items()]
        more = "\n".join(lines), bounding_box(boxes[0]), shown
        return _output(prior, *more, ui=ui.PreviewImage(shown, cls=cls))


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
        from ..locinv_core.localization.priors import merge

        with torch.inference_mode(False):
            return _output(merge(*(prior for _, prior in sorted(priors.items()) if prior is not None)))


NODES = [PriorFromMask, PriorFromBoxes, PriorFromSegmentAnything, PriorFromText, FindWord, CombinePriors]


def sam_names() -> list[str]:
    """The files in models/sams and its folders of transformers' layout, with `/` on every system; if there is
    none, a line that says so."""
    if SAMS not in folder_paths.folder_names_and_paths:
        folder_paths.add_model_folder_path(SAMS, os.path.join(folder_paths.models_dir, SAMS))
    files = [
        Path(name)
        for name in folder_paths.get_filename_list(SAMS)
        if Path(name).suffix.lower() in (".safetensors", ".pth", ".pt")
    ]
    roots = [Path(root) for root in folder_paths.get_folder_paths(SAMS)]
    of_folders = [
        file
        for file in files
        if file.name == "model.safetensors" and any((root / file).with_name("config.json").is_file() for root in roots)
    ]
    found = [file for file in files if file not in of_folders]
    found.sort(key=lambda file: (file.suffix.lower() != ".safetensors", file))
    return [file.as_posix() for file in (*found, *sorted(file.parent for file in of_folders))] or [NO_SAM]


def sam_path(name: str) -> str:
    """Where the checkpoint lies. Raises ValueError for one that is gone."""
    path = None if name == NO_SAM else folder_paths.get_full_path(SAMS, name)
    folders = [Path(root, name) for root in folder_paths.get_folder_paths(SAMS)]
    path = path or next((folder for folder in folders if folder.is_dir()), None)
    if path is None:
        raise ValueError(f"checkpoint: {name!r} is not in models/sams; requires a Segment Anything there")
    return str(path)


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
    from ..locinv_core.localization.priors import from_masks
    from .bridge.masks import shaped

    source: Literal["segment", "detection"] = "segment" if kind == "outline" else "detection"
    inside = shaped(mask, **shape)
    if not bool(inside.any()):
        raise ValueError(
            f"mask: nothing of it is inside, its values are {mask.min():g} to {mask.max():g}; requires a white part."
            " Load Image gives an empty mask where nothing was drawn in the mask editor"
        )
    return from_masks({word: inside}, kind=source)


def _output(prior: LocalizationPrior, *more: Any, ui: Any = None) -> io.NodeOutput:
    return io.NodeOutput(prior, to_comfy_mask(prior.union()), *more, ui=ui)
