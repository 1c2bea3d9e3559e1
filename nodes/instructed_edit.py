"""InstructPix2Pix Edit: an image and an instruction."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from comfy_api.latest import io

from .bridge import types
from .bridge.inputs import guidance_input, image_input, number, seed_input, steps_input
from .bridge.outputs import image_output, latent_output
from .bridge.tensors import from_comfy_image, to_comfy_image
from .image_edits import CATEGORY, edited_from, latent_of

if TYPE_CHECKING:
    from torch import Tensor

    from .bridge.memory import ManagedModel


class InstructPix2PixEdit(io.ComfyNode):
    """InstructPix2Pix: does to the image what it is told."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointInstructPix2PixEdit",
            display_name="InstructPix2Pix Edit",
            category=CATEGORY,
            description="Does to the image what an order says, with a model that was trained to.",
            inputs=[
                types.InstructModel.Input("model", tooltip="From Load InstructPix2Pix Model."),
                image_input(),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="turn the yellow cat into a yellow fox",
                    tooltip="What to do to the image. Empty: what turns the source into the target.",
                ),
                steps_input("DDIM steps. 50 is usual; fewer are faster.", least=1),
                guidance_input("How strongly the edit follows the order; 7.5 is usual."),
                number(
                    "image_guidance",
                    1.5,
                    (0.0, 100.0, 0.1),
                    "How strongly the edit keeps to the image: 1.5 is usual, more changes less.",
                ),
                seed_input("The noise that the edit starts from."),
                io.String.Input(
                    "source",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="Only without an instruction: what the image shows.",
                ),
                io.String.Input(
                    "target",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="Only without an instruction: what it should show.",
                ),
            ],
            outputs=[
                image_output(),
                latent_output(),
                io.String.Output(display_name="instruction", tooltip="The order that was followed."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ManagedModel,
        image: Tensor,
        instruction: str,
        steps: int,
        guidance: float,
        image_guidance: float,
        seed: int,
        source: str = "",
        target: str = "",
    ) -> io.NodeOutput:
        from ..methods.instruct_pix2pix import METHOD, InstructPix2PixSettings, instruction_of
        from ..methods.types import EditTask, MethodModels

        if not (instruction.strip() or (source.strip() and target.strip())):
            raise ValueError("instruction: it is empty, requires an order, or a source and a target to make one of")
        order = instruction if instruction.strip() else None
        task = EditTask(from_comfy_image(image), source, target, instruction=order)
        settings = InstructPix2PixSettings(steps, guidance, image_guidance)
        models = MethodModels(instruct=model.value)
        followed = instruction_of(models, task, settings)
        work = partial(METHOD.edit, models, task, settings, seed)
        outcome = edited_from(model, task.image, work, {"edit": steps})
        return io.NodeOutput(to_comfy_image(outcome.edited), latent_of(outcome, model.value), followed.text)


NODES = [InstructPix2PixEdit]
