"""Nodes that open models: edit models, from a file or from MODEL, CLIP and VAE, and the ViT and CLIP of the regions."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths
from comfy.samplers import SCHEDULER_NAMES
from comfy_api.latest import io

from .bridge import types
from .bridge.inputs import choice, text
from .bridge.outputs import model_output

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import CLIP, VAE

CATEGORY = "Pinpoint/model"
EMBEDDED = "embedded"
EVEN_STEPS = "auto"
CHECKPOINTS, DIFFUSERS = "checkpoints/", "diffusers/"
NO_FOLDER = "none: put a model into models/diffusers"
_NAME = (
    "'embedded' comes with Pinpoint and knows only the drawn scenes of its samples. Else a folder of"
    " transformers' layout inside ComfyUI's models folder, or a Hugging Face name, such as {}."
)


def dtype_input() -> io.Input:
    """The precision of weights."""
    return choice(
        "dtype",
        ["auto", "float32", "float16", "bfloat16"],
        "Precision of the weights. 'auto' is float16 on a graphics card that is good at it, else float32.",
        "auto",
    )


def folder_input(tooltip: str, *first: str) -> io.Input:
    """A model in diffusers' layout, from models/diffusers; before those, the names in `first`."""
    folders = [name for name in model_names() if name.startswith(DIFFUSERS)]
    return choice("model", [*first, *folders] or [NO_FOLDER], tooltip, first[0] if first else None)


class LoadEditModel(io.ComfyNode):
    """Opens an edit model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadEditModel",
            display_name="Load Edit Model",
            category=CATEGORY,
            description="Opens a model that images can be inverted and edited with: the small one that"
            " Pinpoint brings, or Stable Diffusion 1.x, 2.x or SDXL from models/checkpoints or models/diffusers.",
            inputs=[
                choice(
                    "model",
                    model_names(),
                    "'embedded' comes with Pinpoint and knows only the drawn scenes of its samples."
                    " For photographs choose Stable Diffusion 1.x, 2.x or SDXL: a .safetensors file in"
                    " models/checkpoints or a folder in models/diffusers.",
                    EMBEDDED,
                ),
                dtype_input(),
                choice(
                    "prediction",
                    ["auto", "epsilon", "v_prediction"],
                    "What the UNet predicts. 'auto' reads it from the model; set it yourself if edits"
                    " of an SD 2.x checkpoint come out as noise.",
                    "auto",
                ),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def execute(cls, model: str, dtype: str, prediction: Any) -> io.NodeOutput:
        from ..locinv_core.backbones.loading import load_edit_model
        from .bridge.memory import manage, offloaded

        return io.NodeOutput(manage(load_edit_model(path_of(model), **offloaded(dtype), prediction=prediction)))


class EditModelFromComfyUI(io.ComfyNode):
    """Edits with ComfyUI's own MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditModelFromComfyUI",
            display_name="Edit Model from MODEL+CLIP+VAE",
            category=CATEGORY,
            description="Edits with the checkpoint that is loaded already, as it is patched: LoRAs, quantized"
            " weights, FreeU, a ControlNet. Stable Diffusion 1.x, 2.x and SDXL; nothing is loaded twice.",
            inputs=[
                io.Model.Input("model", tooltip="Stable Diffusion 1.x, 2.x or SDXL, with any LoRAs and patches."),
                io.Clip.Input("clip", tooltip="Its text encoder, with the same LoRAs and any clip skip."),
                io.Vae.Input("vae", tooltip="Its VAE, or another for the same family."),
                choice(
                    "scheduler",
                    [EVEN_STEPS, *SCHEDULER_NAMES],
                    "Which steps an inversion and an edit take: 'auto' spaces them evenly, as papers do; else as"
                    " KSampler's scheduler of this name.",
                    EVEN_STEPS,
                ),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="Brings what is not words, such as a ControlNet, to every pass. Its words are not read.",
                ),
                io.Conditioning.Input(
                    "negative", optional=True, tooltip="In place of the empty prompt that guidance leads away from."
                ),
            ],
            outputs=[model_output()],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: CLIP,
        vae: VAE,
        scheduler: str = EVEN_STEPS,
        conditioning: Any = None,
        negative: Any = None,
    ) -> io.NodeOutput:
        from .bridge.memory import NativeModel
        from .native.backbone import ComfyBackbone

        backbone = ComfyBackbone(model, clip, vae, scheduler, conditioning, negative)
        return io.NodeOutput(NativeModel(backbone, (model,)))


class EmbeddedCheckpoint(io.ComfyNode):
    """Gives the embedded model as ComfyUI's own parts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEmbeddedCheckpoint",
            display_name="Load Embedded Checkpoint",
            category=CATEGORY,
            description="The small model that Pinpoint brings, as MODEL, CLIP and VAE: KSampler and every other node"
            " run on it with no download. It knows only the drawn scenes of its samples, at 128x128 pixels.",
            inputs=[],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="For KSampler and Edit Model from MODEL+CLIP+VAE."),
                io.Clip.Output(display_name="CLIP", tooltip="Its text encoder, for CLIP Text Encode."),
                io.Vae.Output(display_name="VAE", tooltip="Its VAE, of 8 channels: encode an image for KSampler."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from .native.embedded_parts import embedded_parts

        return io.NodeOutput(*embedded_parts())


class LoadInstructPix2Pix(io.ComfyNode):
    """Opens a model that follows instructions."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadInstructPix2Pix",
            display_name="Load InstructPix2Pix Model",
            category=CATEGORY,
            description="Opens an InstructPix2Pix model, whose UNet reads the image and an instruction.",
            inputs=[
                folder_input("An InstructPix2Pix model (8 channels) in diffusers' layout, from models/diffusers."),
                dtype_input(),
            ],
            outputs=[types.InstructModel.Output(display_name="model", tooltip="For InstructPix2Pix Edit.")],
        )

    @classmethod
    def execute(cls, model: str, dtype: str) -> io.NodeOutput:
        from ..methods.instruct_pix2pix import load_instruct_model
        from .bridge.memory import manage, offloaded

        path = path_of(model, "an InstructPix2Pix model")
        return io.NodeOutput(manage(load_instruct_model(path, **offloaded(dtype))))


class LoadViT(io.ComfyNode):
    """Opens a self-supervised ViT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadViT",
            display_name="Load ViT",
            category="Pinpoint/regions",
            description="Opens a DINO or DINOv2, whose attention shows what is salient in an image.",
            inputs=[text("name", EMBEDDED, _NAME.format("facebook/dino-vitb16"))],
            outputs=[types.Vision.Output(display_name="vit", tooltip="For Propose Anchors and Find Word.")],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        from ..region_core.encoders.vit import load_vit
        from .bridge.memory import managed

        vit = load_vit(network_path(name, "name"))
        return io.NodeOutput(managed(vit, vit.model))


class LoadCLIP(io.ComfyNode):
    """Opens a CLIP with both of its encoders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadCLIP",
            display_name="Load CLIP to Judge Edits",
            category="Pinpoint/regions",
            description="Opens a CLIP with both of its encoders, which measures how well an image fits a text."
            " A CLIP of ComfyUI's own loaders has only the text encoder.",
            inputs=[text("name", EMBEDDED, _NAME.format("openai/clip-vit-base-patch16"))],
            outputs=[
                types.ClipEncoder.Output(display_name="clip", tooltip="For Learn Regions, Score Regions and Find Word.")
            ],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        from ..region_core.encoders.clip import load_clip
        from .bridge.memory import managed

        clip = load_clip(network_path(name, "name"))
        return io.NodeOutput(managed(clip, clip.model))


NODES = [LoadEditModel, EditModelFromComfyUI, EmbeddedCheckpoint, LoadInstructPix2Pix, LoadViT, LoadCLIP]


def model_names() -> list[str]:
    """The edit models that can be opened, as they stand in a workflow: with `/` on every system."""
    files = [
        CHECKPOINTS + name.replace(os.sep, "/")
        for name in folder_paths.get_filename_list("checkpoints")
        if name.lower().endswith(".safetensors")
    ]
    folders = [
        DIFFUSERS + index.parent.relative_to(root).as_posix()
        for root in map(Path, folder_paths.get_folder_paths("diffusers"))
        for index in sorted(root.glob("**/model_index.json"))
        if index.parent != root
    ]
    return [EMBEDDED, *folders, *files]


def path_of(name: str, kind: str = "a model") -> str:
    """What the core's loaders call a model of `model_names`.

    Raises ValueError for one that is gone, and where there is none of its kind.
    """
    if name == NO_FOLDER:
        raise ValueError(f"model: there is none in models/diffusers; requires {kind} there, in diffusers' layout")
    if name == EMBEDDED:
        return name
    if name.startswith(CHECKPOINTS):
        path = folder_paths.get_full_path("checkpoints", name.removeprefix(CHECKPOINTS))
        if path is not None:
            return str(path)
    for root in folder_paths.get_folder_paths("diffusers"):
        folder = Path(root, name.removeprefix(DIFFUSERS))
        if folder.is_dir():
            return str(folder)
    raise ValueError(f"model: {name!r} is no longer there; press R to refresh the list")


def network_path(name: str, field: str) -> str:
    """What the core's loaders call a network: a folder inside ComfyUI's models folder by its path, else the name.

    Raises ValueError, naming the field, for an empty name.
    """
    if not name.strip():
        raise ValueError(f"{field}: it is empty, requires 'embedded', a folder in models, or a Hugging Face name")
    folder = Path(folder_paths.models_dir, name.strip())
    return str(folder) if folder.is_dir() else name.strip()
