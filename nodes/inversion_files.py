"""Save Inversion and Load Inversion."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import io, ui

from .bridge import types as sockets
from .bridge.inputs import image_input, model_input
from .bridge.tensors import one_image
from .inversion import inversion_output

if TYPE_CHECKING:
    from torch import Tensor

    from .bridge.inverted_image import InvertedImage
    from .bridge.managed_model import ManagedModel

_SUFFIX = ".safetensors"
_NONE = "(no saved inversion yet)"


class SaveInversion(io.ComfyNode):
    """Keeps an inversion as a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointSaveInversion",
            display_name="Save Inversion",
            category="Pinpoint/inversion",
            description="Keeps an inversion, with its tuned words and null text, in the output folder: the"
            " slow half of an edit is then done once.",
            is_output_node=True,
            inputs=[
                sockets.Inversion.Input("inversion", tooltip="The inversion to keep, at any stage."),
                io.String.Input(
                    "filename_prefix",
                    default="pinpoint/inversion",
                    tooltip="Where in the output folder, and how the file's name begins; it is numbered.",
                ),
            ],
            outputs=[inversion_output()],
        )

    @classmethod
    def execute(cls, inversion: InvertedImage, filename_prefix: str) -> io.NodeOutput:
        from ..locinv_core.inversion.storage import save_inversion
        from .bridge.progress import show_text

        output = folder_paths.get_output_directory()
        folder, name, number, _, _ = folder_paths.get_save_image_path(filename_prefix, output)
        path = save_inversion(inversion.inversion, Path(folder, f"{name}_{number:05}_{_SUFFIX}"))
        text = path.relative_to(output).as_posix()
        show_text(text)
        return io.NodeOutput(inversion, ui=ui.PreviewText(text))


class LoadInversion(io.ComfyNode):
    """Opens an inversion that was kept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadInversion",
            display_name="Load Inversion",
            category="Pinpoint/inversion",
            description="Opens an inversion that Save Inversion kept; it goes with its own model and image.",
            inputs=[
                model_input(),
                image_input(),
                io.Combo.Input(
                    "file",
                    options=saved_inversions() or [_NONE],
                    tooltip="An inversion in the output or the input folder. Press R if one is missing here.",
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
        from .bridge.inverted_image import InvertedImage

        if file not in saved_inversions():
            raise ValueError(f"file: there is no saved inversion {file!r} in the output and input folders")
        picture = one_image(image)
        inversion = open_inversion(folder_paths.get_annotated_filepath(file))
        inversion.check_model(model.model)
        framing = Padding.of(picture.shape[-2], picture.shape[-1], model.model.size_multiple)
        with model.ready() as ready:
            inversion.check_image(ready.encode(framing.pad_image(picture)), ready.latent_factor)
        return io.NodeOutput(InvertedImage(model, picture, framing, inversion))


def saved_inversions() -> list[str]:
    """The safetensors files in the output and input folders, in ComfyUI's annotated form, newest first."""
    places = {"output": folder_paths.get_output_directory(), "input": folder_paths.get_input_directory()}
    found = [
        (path.stat().st_mtime, f"{path.relative_to(place).as_posix()} [{kind}]")
        for kind, place in places.items()
        for path in Path(place).glob(f"**/*{_SUFFIX}")
        if path.is_file()
    ]
    return [name for _, name in sorted(found, reverse=True)]
