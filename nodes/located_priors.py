"""Prior from Segment Anything and Prior from Text: places that a network finds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import io

from ..locinv_core.options import KEEPS
from .bridge import types as sockets
from .bridge.place_texts import phrases_from_text, places_of
from .bridge.tensors import one_image
from .networks import place_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localization.priors import LocalizationPrior

CATEGORY = "Pinpoint/prior"
SAMS = "sams"
NONE = "none: put a Segment Anything into models/sams"
_ENDINGS = {".safetensors", ".pth"}


def prior_outputs() -> list[io.Output]:
    """A prior, and all its places as a mask."""
    return [
        sockets.Prior.Output(display_name="prior", tooltip="For Optimize Tokens, LocInv and Prompt-to-Prompt Edit."),
        io.Mask.Output(display_name="mask", tooltip="All its places in one mask."),
    ]


class PriorFromSegmentAnything(io.ComfyNode):
    """Outlines words' objects from boxes or points."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromSegmentAnything",
            display_name="Prior from Segment Anything",
            category=CATEGORY,
            description="Outlines the objects that words name, each from a box around it or from a point on it.",
            inputs=[
                io.Image.Input("image", tooltip="The image that the objects are in, one at a time."),
                io.Combo.Input(
                    "checkpoint",
                    options=sam_names(),
                    tooltip="A Segment Anything in models/sams, as .safetensors. The published .pth files are"
                    " pickles and are not read; the error says how to convert one.",
                ),
                io.String.Input(
                    "boxes",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="A line word=x0,y0,x1,y1 for each box around an object, in pixels from the top left"
                    " corner.",
                ),
                io.String.Input(
                    "points",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="A line word=x,y for a point on the object, word!=x,y for one beside it, in"
                    " pixels. Points may go with one box.",
                ),
                sockets.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="Objects found roughly, from Prior from Text or Find Word say: each word's is"
                    " outlined from the box around it.",
                ),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        checkpoint: str,
        boxes: str = "",
        points: str = "",
        prior: LocalizationPrior | None = None,
    ) -> io.NodeOutput:
        from ..locinv_core.localization.prior_from_sam import (
            SEGMENT_STAGE,
            load_segment_anything,
            prior_from_segment_anything,
        )
        from .bridge.managed_networks import Managed, patcher_of
        from .bridge.progress import node_run

        picture = one_image(image)
        places = places_of(boxes, points, prior)
        network = load_segment_anything(sam_path(checkpoint))
        with Managed(network, (patcher_of(network),)).ready() as model:
            found = prior_from_segment_anything(model, picture, places, tracker=node_run(SEGMENT_STAGE))
        return io.NodeOutput(found, found.union()[None])


class PriorFromText(io.ComfyNode):
    """Finds words' objects by what describes them."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPriorFromText",
            display_name="Prior from Text",
            category=CATEGORY,
            description="Finds the objects that words name by a text: with a box around each (Grounding DINO)"
            " or a rough outline (CLIPSeg).",
            inputs=[
                io.Image.Input("image", tooltip="The image that the objects are in, one at a time."),
                io.String.Input(
                    "words",
                    multiline=True,
                    default="cat",
                    tooltip="A line for each word of the prompt: the word alone, or word=what to look for,"
                    " for example cat=yellow cat on the left.",
                ),
                io.String.Input(
                    "model",
                    default="IDEA-Research/grounding-dino-tiny",
                    tooltip="A Grounding DINO or a CLIPSeg: a folder of transformers' layout inside ComfyUI's"
                    " models folder, or a Hugging Face name that is in the local cache. Nothing is"
                    " downloaded.",
                ),
                io.Float.Input(
                    "threshold",
                    default=0.0,
                    min=0.0,
                    max=0.99,
                    step=0.01,
                    tooltip="How sure the model must be. 0 is the model's usual: 0.3 for Grounding DINO, 0.4"
                    " for CLIPSeg. Lower finds more.",
                ),
                io.Combo.Input(
                    "keep",
                    options=list(KEEPS),
                    default="best",
                    tooltip="Of several objects found for a word: the one that the model is surest of, or all.",
                ),
            ],
            outputs=prior_outputs(),
        )

    @classmethod
    def execute(cls, image: Tensor, words: str, model: str, threshold: float, keep: str) -> io.NodeOutput:
        from ..locinv_core.localization.prior_from_text import TEXT_STAGE, load_text_locator, prior_from_text
        from .bridge.managed_networks import Managed, patcher_of
        from .bridge.progress import node_run

        picture, phrases = one_image(image), phrases_from_text(words)
        found = load_text_locator(place_of(model, "model"))
        with Managed(found, (patcher_of(found.model),)).ready() as locator:
            prior = prior_from_text(
                locator,
                picture,
                phrases,
                threshold=threshold or None,
                keep="all" if keep == "all" else "best",
                tracker=node_run(TEXT_STAGE),
            )
        return io.NodeOutput(prior, prior.union()[None])


def sam_names() -> list[str]:
    """The files in models/sams, with `/` on every system; if there is none, a line that says so."""
    if SAMS not in folder_paths.folder_names_and_paths:
        folder_paths.add_model_folder_path(SAMS, os.path.join(folder_paths.models_dir, SAMS))
    found = [
        name.replace(os.sep, "/")
        for name in folder_paths.get_filename_list(SAMS)
        if Path(name).suffix.lower() in _ENDINGS
    ]
    return sorted(found, key=lambda name: (name.endswith(".pth"), name)) or [NONE]


def sam_path(name: str) -> str:
    """Where the checkpoint lies. Raises ValueError for one that is gone."""
    path = None if name == NONE else folder_paths.get_full_path(SAMS, name)
    if path is None:
        raise ValueError(
            f"checkpoint: {name!r} is not in models/sams; requires a Segment Anything there as .safetensors"
        )
    return str(path)
