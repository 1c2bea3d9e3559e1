"""Load Edit Model, and Edit Model from MODEL+CLIP+VAE."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import folder_paths
from comfy_api.latest import io

from .bridge import types as sockets

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

CATEGORY = "Pinpoint/model"
EMBEDDED = "embedded"
CHECKPOINTS, DIFFUSERS = "checkpoints/", "diffusers/"
NO_FOLDER = "none: put a model into models/diffusers"
DTYPES = ["auto", "float32", "float16", "bfloat16"]
PREDICTIONS = ["auto", "epsilon", "v_prediction"]


def dtype_input() -> io.Input:
    """The precision of weights."""
    return io.Combo.Input(
        "dtype",
        options=DTYPES,
        default="auto",
        tooltip="Precision of the weights. 'auto' is float16 on a graphics card that is good at it, else float32.",
    )


class LoadEditModel(io.ComfyNode):
    """Opens an edit model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadEditModel",
            display_name="Load Edit Model",
            category=CATEGORY,
            description="Opens a model that images can be inverted and edited with: the small one that"
            " Pinpoint brings, or Stable Diffusion 1.x or 2.x from models/checkpoints or models/diffusers.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=model_names(),
                    default=EMBEDDED,
                    tooltip="'embedded' comes with Pinpoint and knows only the drawn scenes of its samples."
                    " For photographs choose Stable Diffusion 1.x or 2.x: a .safetensors file in"
                    " models/checkpoints or a folder in models/diffusers.",
                ),
                dtype_input(),
                io.Combo.Input(
                    "prediction",
                    options=PREDICTIONS,
                    default="auto",
                    tooltip="What the UNet predicts. 'auto' reads it from the model; say it yourself if edits"
                    " of an SD 2.x checkpoint come out as noise.",
                ),
            ],
            outputs=[sockets.Model.Output(display_name="model", tooltip="For Parse Prompt and DDIM Invert.")],
        )

    @classmethod
    def execute(cls, model: str, dtype: str, prediction: str) -> io.NodeOutput:
        from .bridge.managed_model import open_managed

        return io.NodeOutput(open_managed(path_of(model), dtype, prediction))


class EditModelFromComfyUI(io.ComfyNode):
    """Builds an edit model from what the artist has loaded and patched."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditModelFromComfyUI",
            display_name="Edit Model from MODEL+CLIP+VAE",
            category=CATEGORY,
            description="Builds an edit model from a checkpoint that is loaded already, with its LoRAs, clip"
            " skip and another VAE, if you like. Stable Diffusion 1.x and 2.x.",
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 1.x or 2.x, patched with any LoRAs."),
                io.Clip.Input("clip", tooltip="Its text encoder, with the same LoRAs and any clip skip."),
                io.Vae.Input("vae", tooltip="Its VAE, or another for the same family."),
                dtype_input(),
            ],
            outputs=[sockets.Model.Output(display_name="model", tooltip="For Parse Prompt and DDIM Invert.")],
        )

    @classmethod
    def execute(cls, model: ModelPatcher, clip: CLIP, vae: VAE, dtype: str) -> io.NodeOutput:
        import torch

        from .bridge.checkpoint import edit_model_of
        from .bridge.managed_model import manage, suitable_dtype

        return io.NodeOutput(manage(edit_model_of(model, clip, vae, getattr(torch, suitable_dtype(dtype)))))


def model_names() -> list[str]:
    """What there is to open, as it stands in a workflow: with `/` on every system."""
    files = [
        CHECKPOINTS + name.replace(os.sep, "/")
        for name in folder_paths.get_filename_list("checkpoints")
        if name.lower().endswith(".safetensors")
    ]
    folders = [
        DIFFUSERS + index.parent.relative_to(place).as_posix()
        for place in map(Path, folder_paths.get_folder_paths("diffusers"))
        for index in sorted(place.glob("**/model_index.json"))
        if index.parent != place
    ]
    return [EMBEDDED, *folders, *files]


def folder_names() -> list[str]:
    """Those of `model_names` that are folders in diffusers' layout."""
    return [name for name in model_names() if name.startswith(DIFFUSERS)]


def placed(dtype: str) -> dict[str, str]:
    """Where ComfyUI requires weights to be loaded to, and in which precision: `device` and `dtype`."""
    import comfy.model_management

    from .bridge.managed_model import suitable_dtype

    return {"device": str(comfy.model_management.unet_offload_device()), "dtype": suitable_dtype(dtype)}


def path_of(name: str) -> str:
    """What `load_edit_model` calls a model of `model_names`. Raises ValueError for one that is gone."""
    if name == EMBEDDED:
        return name
    if name.startswith(CHECKPOINTS):
        path = folder_paths.get_full_path("checkpoints", name.removeprefix(CHECKPOINTS))
        if path is not None:
            return str(path)
    for place in folder_paths.get_folder_paths("diffusers"):
        folder = Path(place, name.removeprefix(DIFFUSERS))
        if folder.is_dir():
            return str(folder)
    raise ValueError(f"model: {name!r} is no longer there; press R to see what there is")
