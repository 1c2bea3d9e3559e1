"""Find Word: a prior with no mask and no box, from the model's own attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from .bridge import types as sockets
from .bridge.inputs import image_input, model_input, prompt_input
from .bridge.parsing import words_from_text
from .bridge.tensors import image_of, one_image
from .located_priors import CATEGORY, prior_outputs

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.text.prompt import Prompt
    from ..region_core.encoders.clip import ClipEncoder
    from ..region_core.encoders.vit import VisionFeatures
    from ..region_core.object_localization.attention_localizer import Located
    from .bridge.managed_model import ManagedModel
    from .bridge.managed_networks import Managed


class FindWord(io.ComfyNode):
    """Finds the boxes of words' objects by attention."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointFindWord",
            display_name="Find Word",
            category=CATEGORY,
            description="Finds the box of what a word names, with no mask: where the model's own attention"
            " for the word lies, and which crop CLIP holds to be it.",
            is_output_node=True,
            inputs=[
                model_input(),
                image_input(),
                prompt_input(),
                io.String.Input(
                    "words", default="cat", tooltip="The words of the prompt to find, separated by commas."
                ),
                sockets.Vision.Input("vit", optional=True, tooltip="Adds boxes around what stands out in the image."),
                sockets.ClipEncoder.Input("clip", optional=True, tooltip="Adds CLIP's opinion of what each box shows."),
                io.Float.Input(
                    "clip_weight",
                    default=0.25,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="CLIP's share of a box's score; the rest is the model's attention.",
                ),
            ],
            outputs=[
                *prior_outputs(),
                io.String.Output(
                    display_name="boxes",
                    tooltip="A line word=x0,y0,x1,y1 for each word, for Prior from Boxes.",
                ),
                sockets.BoundingBox.Output(display_name="box", tooltip="The first word's box."),
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
        from ..region_core.object_localization.attention_localizer import (
            LOCATE_STAGE,
            LocateSettings,
            detection_prior,
            locate_words,
        )
        from .bridge.inverted_image import check_prompt
        from .bridge.managed_networks import all_ready
        from .bridge.progress import node_run
        from .bridge.region_drawing import bounding_box, boxed

        picture = one_image(image)
        check_prompt(prompt, model)
        wanted = words_from_text(words)
        tracker = node_run(LOCATE_STAGE)
        patchers = [model.patcher, *(patcher for one in (vit, clip) if one for patcher in one.patchers)]
        with all_ready(patchers):
            found = locate_words(
                model.model,
                None if vit is None else vit.value,
                None if clip is None else clip.value,
                picture,
                prompt,
                wanted,
                LocateSettings(clip_weight=clip_weight),
                tracker=tracker,
            )
            prior = detection_prior(found, (picture.shape[-2], picture.shape[-1]))
        tracker.show_cost()
        first = next(iter(found.values()))
        shown = image_of(boxed(picture, *_labelled(found)))
        return io.NodeOutput(
            prior,
            prior.union()[None],
            "\n".join(f"{word}={','.join(f'{side:g}' for side in one.box)}" for word, one in found.items()),
            bounding_box(first.box),
            shown,
            ui=ui.PreviewImage(shown, cls=cls),
        )


def _labelled(found: dict[str, Located]) -> tuple[list[tuple[float, float, float, float]], list[str]]:
    boxes = [located.box for located in found.values()]
    return boxes, [f"{located.phrase} {located.score:.2f}" for located in found.values()]
