"""DDIM Invert and Null-Text Inversion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..locinv_core.options import NULL_METHODS, NullMethod
from .bridge import types as sockets
from .bridge.inputs import guidance_input, image_input, model_input, prompt_input, steps_input
from .bridge.tensors import one_image

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localization.priors import LocalizationPrior
    from ..locinv_core.text.prompt import Prompt
    from .bridge.inverted_image import InvertedImage
    from .bridge.managed_model import ManagedModel
    from .bridge.progress import NodeRun

CATEGORY = "Pinpoint/inversion"
NULL_TOOLTIP = (
    "How guided sampling is made to give the image back. 'direct' (Direct Inversion) costs nothing and is"
    " exact; 'null-text' optimises the empty prompt, slowly; 'negative-prompt' and 'proximal' put the prompt"
    " itself in its place; 'none' is plain DDIM."
)


def inversion_output() -> io.Output:
    """The socket of an inversion that comes out."""
    return sockets.Inversion.Output(
        display_name="inversion",
        tooltip="For Optimize Tokens, Null-Text Inversion and Prompt-to-Prompt Edit.",
    )


class DDIMInvert(io.ComfyNode):
    """Turns an image into noise that turns back into it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointDDIMInvert",
            display_name="DDIM Invert",
            category=CATEGORY,
            description="Finds the noise that the model would have made this image from: the start of every edit.",
            inputs=[model_input(), image_input(), prompt_input(), steps_input()],
            outputs=[inversion_output()],
        )

    @classmethod
    def execute(cls, model: ManagedModel, image: Tensor, prompt: Prompt, steps: int) -> io.NodeOutput:
        inverted, tracker = invert(model, image, prompt, steps)
        tracker.show_cost()
        return io.NodeOutput(inverted)


class NullTextInversion(io.ComfyNode):
    """Makes an inversion ready for guided sampling."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointNullTextInversion",
            display_name="Null-Text Inversion",
            category=CATEGORY,
            description="Makes guided sampling give the image back, so that an edit changes only what its"
            " prompt changes. Put it after Optimize Tokens, if that is used.",
            inputs=[
                sockets.Inversion.Input("inversion", tooltip="From DDIM Invert or Optimize Tokens."),
                io.Combo.Input("mode", options=list(NULL_METHODS), default="direct", tooltip=NULL_TOOLTIP),
                guidance_input("Only for 'null-text': the guidance scale of the edit that will follow."),
                io.Int.Input(
                    "inner_steps",
                    default=10,
                    min=1,
                    max=100,
                    tooltip="Only for 'null-text': steps of Adam at each timestep, at most; it stops early"
                    " when the image is matched.",
                ),
                io.Float.Input(
                    "learning_rate",
                    default=0.01,
                    min=0.0001,
                    max=1.0,
                    step=0.0001,
                    round=False,
                    tooltip="Only for 'null-text': Adam's learning rate at the first step; it falls from there.",
                ),
            ],
            outputs=[inversion_output()],
        )

    @classmethod
    def execute(
        cls,
        inversion: InvertedImage,
        mode: NullMethod,
        guidance: float,
        inner_steps: int,
        learning_rate: float,
    ) -> io.NodeOutput:
        from ..locinv_core.inversion.null_text import NullTextSettings, reconstruct_by
        from .bridge.progress import node_run

        settings = NullTextSettings(inner_steps=inner_steps, learning_rate=learning_rate)
        tracker = node_run("null-text", preview=inversion.preview())
        with inversion.model.ready() as model:
            ready = reconstruct_by(mode, model, inversion.inversion, guidance, settings, tracker=tracker)
        tracker.show_cost()
        return io.NodeOutput(inversion.with_inversion(ready))


def invert(
    model: ManagedModel,
    image: Tensor,
    prompt: Prompt,
    steps: int,
    *later_stages: str,
    prior: LocalizationPrior | None = None,
) -> tuple[InvertedImage, NodeRun]:
    """The image's DDIM inversion, and the run that it was made in, whose bar has room for `later_stages`.

    A `prior` given is checked against the image before any work.
    """
    from ..locinv_core.imaging.padding import Padding
    from ..locinv_core.inversion.ddim_inversion import ddim_invert
    from .bridge.inverted_image import InvertedImage, check_prompt
    from .bridge.previews import LatentPreview
    from .bridge.progress import node_run

    picture = one_image(image)
    check_prompt(prompt, model)
    model.model.schedule.timesteps(steps)
    height, width = picture.shape[-2:]
    framing = Padding.of(height, width, model.model.size_multiple)
    if prior is not None:
        prior.padded(framing)
    padded = framing.pad_image(picture)
    with model.ready() as ready:
        latents = ready.encode(padded)
        tracker = node_run("inversion", *later_stages, preview=LatentPreview.fit(latents, padded))
        inversion = ddim_invert(ready, latents, prompt, steps, tracker=tracker)
    return InvertedImage(model, picture, framing, inversion), tracker
