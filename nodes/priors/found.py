"""Priors that a network finds: Segment Anything, a detector by a text, the model's own attention."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import folder_paths
from comfy_api.latest import io, ui

from ...locinv_core.options import KEEPS
from ..bridge import types
from ..bridge.inputs import choice, image_input, model_input, number, prompt_input, text
from ..bridge.outputs import prior_output, prior_outputs
from ..bridge.parsing import phrases_from_text, sam_prompts, words_from_text
from ..bridge.tensors import from_comfy_image, to_comfy_image
from ..loaders import network_path

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.localization.priors import LocalizationPrior
    from ...locinv_core.text.prompt import Prompt
    from ...region_core.encoders.clip import ClipEncoder
    from ...region_core.encoders.vit import VisionFeatures
    from ..bridge.memory import Managed, ManagedModel

CATEGORY = "Pinpoint/prior"
SAMS = "sams"
NO_SAM = "none: put a Segment Anything into models/sams"


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
        from ...locinv_core.localization.prior_sources.from_sam import SEGMENT_STAGE, prior_from_segment_anything
        from ...locinv_core.localization.prior_sources.from_sam2 import load_outliner
        from ..bridge.memory import managed
        from ..bridge.progress import node_tracker

        source, prompts = from_comfy_image(image), sam_prompts(boxes, points, prior)
        found = load_outliner(sam_path(checkpoint))
        with managed(found, found.model).ready() as outliner:
            return prior_output(
                prior_from_segment_anything(outliner, source, prompts, tracker=node_tracker(SEGMENT_STAGE))
            )


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
        from ...locinv_core.localization.prior_sources.from_text import TEXT_STAGE, load_text_locator, prior_from_text
        from ..bridge.memory import managed
        from ..bridge.progress import node_tracker

        source, phrases = from_comfy_image(image), phrases_from_text(words)
        found = load_text_locator(network_path(model, "model"))
        options: dict[str, Any] = {"threshold": threshold or None, "keep": keep, "tracker": node_tracker(TEXT_STAGE)}
        with managed(found, found.model).ready() as locator:
            return prior_output(prior_from_text(locator, source, phrases, **options))


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
        from ...locinv_core.imaging.visualize import box_overlay
        from ...region_core.object_localization.attention_localizer import (
            LOCATE_STAGE,
            LocateSettings,
            detection_prior,
            locate_words,
        )
        from ..bridge.memory import all_ready
        from ..bridge.payloads import check_prompt
        from ..bridge.progress import node_tracker
        from ..bridge.ui_payloads import bounding_box

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
        return prior_output(prior, *more, ui=ui.PreviewImage(shown, cls=cls))


NODES = [PriorFromSegmentAnything, PriorFromText, FindWord]


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
