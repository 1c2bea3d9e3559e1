"""Load InstructPix2Pix Model, and InstructPix2Pix Edit: an image and an order."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from comfy_api.latest import io

from .bridge import types as sockets
from .bridge.edited_image import CATEGORY, image_output, latent_output
from .bridge.inputs import guidance_input, image_input, scale_input, seed_input, steps_input
from .bridge.tensors import image_of, one_image
from .image_edits import edited_from, latent_of
from .loaders import CATEGORY as MODEL_CATEGORY
from .loaders import NO_FOLDER, dtype_input, folder_names, path_of, placed

if TYPE_CHECKING:
    from torch import Tensor

    from .bridge.managed_model import ManagedModel


class LoadInstructPix2Pix(io.ComfyNode):
    """Opens a model that follows orders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadInstructPix2Pix",
            display_name="Load InstructPix2Pix Model",
            category=MODEL_CATEGORY,
            description="Opens an InstructPix2Pix model, whose UNet reads the image and an order.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=folder_names() or [NO_FOLDER],
                    tooltip="An InstructPix2Pix model (8 channels) in diffusers' layout, from models/diffusers.",
                ),
                dtype_input(),
            ],
            outputs=[sockets.InstructModel.Output(display_name="model", tooltip="For InstructPix2Pix Edit.")],
        )

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        from ..methods.instruct_pix2pix import load_instruct_model
        from .bridge.managed_model import manage

        if model == NO_FOLDER:
            raise ValueError(
                "model: there is none in models/diffusers; requires an InstructPix2Pix model there, in"
                " diffusers' layout"
            )
        return io.NodeOutput(manage(load_instruct_model(path_of(model), **placed(dtype))))


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
                sockets.InstructModel.Input("model", tooltip="From Load InstructPix2Pix Model."),
                image_input(),
                io.String.Input(
                    "instruction",
                    multiline=True,
                    default="turn the yellow cat into a yellow fox",
                    tooltip="What to do to the image. Empty: what turns the source into the target.",
                ),
                steps_input("DDIM steps. 50 is usual; fewer are faster.", 1),
                guidance_input("How strongly the edit follows the order; 7.5 is usual."),
                scale_input(
                    "image_guidance",
                    1.5,
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
        from ..methods.image_methods import edit_instructed, instruction_of
        from ..methods.instruct_pix2pix import InstructPix2PixSettings
        from ..methods.types import EditTask, MethodModels

        if not (instruction.strip() or (source.strip() and target.strip())):
            raise ValueError("instruction: it is empty, requires an order, or a source and a target to make one of")
        order = instruction if instruction.strip() else None
        task = EditTask(one_image(image), source, target, instruction=order)
        settings = InstructPix2PixSettings(steps, guidance, image_guidance)
        followed = instruction_of(model.model, task, settings)
        work = partial(edit_instructed, MethodModels(instruct=model.model), task, settings, seed)
        outcome = edited_from(model, task.image, work, {"edit": steps})
        return io.NodeOutput(image_of(outcome.edited), latent_of(outcome, model.model), followed.text)
