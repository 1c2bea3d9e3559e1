"""Nodes of inversion: DDIM Invert, Null-Text Inversion, and an inversion saved to a file and loaded again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import io, ui

from .bridge import types
from .bridge.inputs import (
    choice,
    guidance_input,
    image_input,
    model_input,
    null_input,
    number,
    prompt_input,
    steps_input,
    text,
    whole,
)
from .bridge.outputs import inversion_output
from .bridge.tensors import from_comfy_image

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localization.priors import LocalizationPrior
    from ..locinv_core.options import NullMethod
    from ..locinv_core.text.prompt import Prompt
    from .bridge.memory import ManagedModel
    from .bridge.payloads import InvertedImage
    from .bridge.progress import NodeTracker

CATEGORY = "Pinpoint/inversion"
_SUFFIX = ".safetensors"


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
                types.Inversion.Input("inversion", tooltip="From DDIM Invert or Optimize Tokens."),
                null_input("mode"),
                guidance_input("Only for 'null-text': the guidance scale of the edit that will follow."),
                whole(
                    "inner_steps",
                    10,
                    (1, 100),
                    "Only for 'null-text': steps of Adam at each timestep, at most; it stops early"
                    " when the image is matched.",
                ),
                number(
                    "learning_rate",
                    0.01,
                    (0.0001, 1.0, 0.0001),
                    "Only for 'null-text': Adam's learning rate at the first step; it falls from there.",
                    round=False,
                ),
            ],
            outputs=[inversion_output()],
        )

    @classmethod
    def execute(
        cls, inversion: InvertedImage, mode: NullMethod, guidance: float, inner_steps: int, learning_rate: float
    ) -> io.NodeOutput:
        from ..locinv_core.inversion.null_text import NullTextSettings, reconstruct_by
        from .bridge.progress import node_tracker

        settings = NullTextSettings(inner_steps=inner_steps, learning_rate=learning_rate)
        tracker = node_tracker("null-text", preview=inversion.preview())
        with inversion.model.ready() as model:
            ready = reconstruct_by(mode, model, inversion.inversion, guidance, settings, tracker=tracker)
        tracker.show_cost()
        return io.NodeOutput(inversion.with_inversion(ready))


class SaveInversion(io.ComfyNode):
    """Saves an inversion to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointSaveInversion",
            display_name="Save Inversion",
            category=CATEGORY,
            description="Saves an inversion, with its optimized tokens and null text, in the output folder: the"
            " slow half of an edit is then done once.",
            is_output_node=True,
            inputs=[
                types.Inversion.Input("inversion", tooltip="The inversion to save, at any stage."),
                text(
                    "filename_prefix",
                    "pinpoint/inversion",
                    "Where in the output folder, and how the file's name begins; it is numbered.",
                ),
            ],
            outputs=[
                inversion_output(),
                io.String.Output(display_name="file", tooltip="The file's name in the output folder."),
            ],
        )

    @classmethod
    def execute(cls, inversion: InvertedImage, filename_prefix: str) -> io.NodeOutput:
        from ..locinv_core.inversion.storage import save_inversion

        output = folder_paths.get_output_directory()
        folder, name, number, _, _ = folder_paths.get_save_image_path(filename_prefix, output)
        path = save_inversion(inversion.inversion, Path(folder, f"{name}_{number:05}_{_SUFFIX}"))
        saved_as = path.relative_to(output).as_posix()
        return io.NodeOutput(inversion, saved_as, ui=ui.PreviewText(saved_as))


class LoadInversion(io.ComfyNode):
    """Opens an inversion that was saved."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadInversion",
            display_name="Load Inversion",
            category=CATEGORY,
            description="Opens an inversion that Save Inversion saved; it goes with its own model and image.",
            inputs=[
                model_input(),
                image_input(),
                choice(
                    "file",
                    saved_inversions() or ["(no saved inversion yet)"],
                    "An inversion in the output or the input folder. Press R if one is missing here.",
                ),
            ],
            outputs=[inversion_output()],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **others: object) -> tuple[str, float]:
        path = Path(folder_paths.get_annotated_filepath(file))
        return file, path.stat().st_mtime if path.is_file() else 0.0

    @classmethod
    def execute(cls, model: ManagedModel, image: Tensor, file: str) -> io.NodeOutput:
        from ..locinv_core.imaging.padding import Padding
        from ..locinv_core.inversion.storage import open_inversion
        from .bridge.payloads import InvertedImage

        if file not in saved_inversions():
            raise ValueError(f"file: there is no saved inversion {file!r} in the output and input folders")
        source = from_comfy_image(image)
        inversion = open_inversion(folder_paths.get_annotated_filepath(file))
        inversion.check_model(model.value)
        padding = Padding.of(source.shape[-2], source.shape[-1], model.value.size_multiple)
        with model.ready() as ready:
            inversion.check_image(ready.encode(padding.pad_image(source)), ready.latent_factor)
        return io.NodeOutput(InvertedImage(model, source, padding, inversion))


NODES = [DDIMInvert, NullTextInversion, SaveInversion, LoadInversion]


def invert(
    model: ManagedModel,
    image: Tensor,
    prompt: Prompt,
    steps: int,
    *later_stages: str,
    prior: LocalizationPrior | None = None,
) -> tuple[InvertedImage, NodeTracker]:
    """The image's DDIM inversion, and its cost tracker, whose bar has room for `later_stages`.

    A `prior` given is checked against the image before any work.
    """
    from ..locinv_core.imaging.padding import Padding
    from ..locinv_core.inversion.ddim_inversion import ddim_invert
    from .bridge.payloads import InvertedImage, check_prompt
    from .bridge.previews import LatentPreview
    from .bridge.progress import node_tracker

    source = from_comfy_image(image)
    check_prompt(prompt, model)
    model.value.schedule.timesteps(steps)
    padding = Padding.of(source.shape[-2], source.shape[-1], model.value.size_multiple)
    if prior is not None:
        prior.padded(padding)
    padded = padding.pad_image(source)
    with model.ready() as ready:
        latents = ready.encode(padded)
        tracker = node_tracker("inversion", *later_stages, preview=LatentPreview.fit(latents, padded))
        inversion = ddim_invert(ready, latents, prompt, steps, tracker=tracker)
    return InvertedImage(model, source, padding, inversion), tracker


def saved_inversions() -> list[str]:
    """The safetensors files in the output and input folders, in ComfyUI's annotated form, newest first."""
    roots = {"output": folder_paths.get_output_directory(), "input": folder_paths.get_input_directory()}
    found = [
        (path.stat().st_mtime, f"{path.relative_to(root).as_posix()} [{kind}]")
        for kind, root in roots.items()
        for path in Path(root).glob(f"**/*{_SUFFIX}")
        if path.is_file()
    ]
    return [name for _, name in sorted(found, reverse=True)]
