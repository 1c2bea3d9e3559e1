"""Editors as sockets: what changes the image inside a box, for Learn Regions and Score Regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.samplers
from comfy_api.latest import io

from .bridge import types as sockets
from .loaders import EMBEDDED, NO_FOLDER, dtype_input, folder_names, path_of, placed

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

    from .bridge.managed_model import ManagedModel
    from .bridge.managed_networks import ManagedEditor

CATEGORY = "Pinpoint/regions/editors"


def _editor_output() -> io.Output:
    return sockets.Editor.Output(display_name="editor", tooltip="For Learn Regions and Score Regions.")


def _strength_input(name: str, default: float) -> io.Input:
    return io.Float.Input(
        name,
        default=default,
        min=0.01,
        max=1.0,
        step=0.01,
        tooltip="How far an edit may go from the image: 1 draws the box anew.",
    )


def _guidance_input(name: str, default: float) -> io.Input:
    return io.Float.Input(
        name,
        default=default,
        min=1.0,
        max=30.0,
        step=0.1,
        tooltip="Classifier-free guidance scale: how strongly the edit follows its prompt; 1 is none.",
    )


def _steps_input(default: int) -> io.Input:
    return io.Int.Input("steps", default=default, min=1, max=1000, tooltip="An edit's steps.")


def _negative_input() -> io.Input:
    return io.String.Input(
        "negative", default="", optional=True, tooltip="What the edit should not show. Empty: nothing said."
    )


def _batch_input() -> io.Input:
    return io.Int.Input(
        "batch",
        default=4,
        min=1,
        max=64,
        tooltip="Boxes edited at a time: more is faster on a graphics card, and takes more of its memory.",
    )


def _editing_inputs(strength: float, guidance: float, steps: int) -> list[io.Input]:
    """How Pinpoint's own editors edit, with the defaults of one of them."""
    return [
        _strength_input("strength", strength),
        _guidance_input("guidance", guidance),
        _steps_input(steps),
        _batch_input(),
        _negative_input(),
    ]


class EditorBlended(io.ComfyNode):
    """Edits with any edit model, blended with the image at every step."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditorBlended",
            display_name="Editor: Blended Diffusion",
            category=CATEGORY,
            description="Edits inside a box with any edit model: what lies outside is put back after every step.",
            inputs=[
                sockets.Model.Input("model", tooltip="From Load Edit Model, or from your MODEL, CLIP and VAE."),
                *_editing_inputs(0.75, 7.5, 50),
                io.Float.Input(
                    "window",
                    default=1.5,
                    min=0.0,
                    max=10.0,
                    step=0.1,
                    optional=True,
                    tooltip="Each box is edited in a window so many times its size, enlarged to the"
                    " image's, so that the new object comes out whole and in the box. 0: in the whole"
                    " image.",
                ),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(
        cls,
        model: ManagedModel,
        strength: float,
        guidance: float,
        steps: int,
        batch: int,
        negative: str = "",
        window: float = 1.5,
    ) -> io.NodeOutput:
        from ..region_core.editors.blended import BlendedEditor

        editor = BlendedEditor(model.model, strength, guidance, steps, negative, batch=batch, window=window or None)
        return io.NodeOutput(_diffusion(editor, model.patcher))


class EditorLocInv(io.ComfyNode):
    """Edits with LocInv: the object changes in the shape that it has."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditorLocInv",
            display_name="Editor: LocInv",
            category=CATEGORY,
            description="Edits inside a box with any edit model, by LocInv: the image is inverted once, and"
            " the object in the box keeps its place, its size and its pose.",
            inputs=[
                sockets.Model.Input("model", tooltip="From Load Edit Model, or from your MODEL, CLIP and VAE."),
                io.String.Input(
                    "source",
                    multiline=True,
                    default="a yellow cat and a red star in a meadow",
                    tooltip="What the image shows, for the edit model. The prompt of Learn Regions, or its"
                    " edit_prompt, should say the same but for one object.",
                ),
                _guidance_input("guidance", 7.5),
                _steps_input(20),
                io.String.Input(
                    "word",
                    default="",
                    optional=True,
                    tooltip="The word of the source whose place a box is. Empty: the one noun that the prompt changes.",
                ),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(cls, model: ManagedModel, source: str, guidance: float, steps: int, word: str = "") -> io.NodeOutput:
        from ..region_core.editors.locinv import LocInvEditor
        from .bridge.managed_networks import ManagedEditor
        from .bridge.previews import latent_preview

        editor = LocInvEditor(model.model, source, word.strip() or None, guidance, steps)
        handle = (model.patcher,)
        return io.NodeOutput(
            ManagedEditor(editor, handle, editor.cost, lambda image: latent_preview(editor.model, image))
        )


class EditorInpaint(io.ComfyNode):
    """Edits with a Stable Diffusion inpainting model."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditorInpaint",
            display_name="Editor: SD Inpainting",
            category=CATEGORY,
            description="Edits inside a box with a Stable Diffusion that was trained to fill holes: its UNet"
            " reads the mask.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=folder_names() or [NO_FOLDER],
                    tooltip="A Stable Diffusion inpainting model (9 channels) in diffusers' layout, from"
                    " models/diffusers.",
                ),
                dtype_input(),
                *_editing_inputs(0.75, 7.5, 50),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(cls, model: str, dtype: str, **editing: Any) -> io.NodeOutput:
        from ..region_core.editors.registry import load_editor
        from .bridge.managed_model import manage

        if model == NO_FOLDER:
            raise ValueError(
                "model: there is none in models/diffusers; requires an inpainting model there, in diffusers' layout"
            )
        editor: Any = load_editor("inpaint", path_of(model), **placed(dtype), **editing)
        return io.NodeOutput(_diffusion(editor, manage(editor.model).patcher))


class EditorAmused(io.ComfyNode):
    """Edits with aMUSEd, which fills in masked tokens."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditorAmused",
            display_name="Editor: aMUSEd",
            category=CATEGORY,
            description="Edits inside a box with aMUSEd, the open Muse: the image's tokens in the box are"
            " predicted again, in few steps.",
            inputs=[
                io.Combo.Input(
                    "model",
                    options=[EMBEDDED, *folder_names()],
                    tooltip="An aMUSEd in diffusers' layout, from models/diffusers. 'embedded' comes with"
                    " Pinpoint and knows only the drawn scenes of its samples.",
                ),
                dtype_input(),
                *_editing_inputs(1.0, 10.0, 12),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(cls, model: str, dtype: str, **editing: Any) -> io.NodeOutput:
        from ..region_core.editors.registry import load_editor
        from .bridge.managed_networks import ManagedEditor, patcher_of

        editor: Any = load_editor("amused", path_of(model), **placed(dtype), **editing)
        parts = editor.model
        patcher = patcher_of(parts.vqvae, parts.transformer, parts.text_encoder)
        # Tokens are no latents that a preview could show.
        return io.NodeOutput(ManagedEditor(editor, (patcher,), editor.cost, lambda image: None))


class EditorComfyUISampler(io.ComfyNode):
    """Edits with any MODEL that ComfyUI samples."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditorComfyUISampler",
            display_name="Editor: ComfyUI Sampler",
            category=CATEGORY,
            description="Edits inside a box with any model that ComfyUI can sample (SDXL, Flux, …), as a"
            " KSampler with a noise mask does.",
            inputs=[
                io.Model.Input("model", tooltip="The model that edits are sampled with."),
                io.Vae.Input("vae", tooltip="Its VAE."),
                io.Conditioning.Input(
                    "positive",
                    tooltip="What the edit should show: the edit_prompt of Learn Regions, or its prompt,"
                    " encoded for this model.",
                ),
                io.Conditioning.Input("negative", tooltip="What it should not show."),
                io.Combo.Input(
                    "sampler_name",
                    options=list(comfy.samplers.KSampler.SAMPLERS),
                    default="euler",
                    tooltip="The sampler.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(comfy.samplers.KSampler.SCHEDULERS),
                    default="normal",
                    tooltip="How the noise levels are spread over the steps.",
                ),
                _steps_input(20),
                _guidance_input("cfg", 7.0),
                _strength_input("denoise", 0.8),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        vae: VAE,
        positive: Any,
        negative: Any,
        sampler_name: str,
        scheduler: str,
        steps: int,
        cfg: float,
        denoise: float,
    ) -> io.NodeOutput:
        from .bridge.comfy_sampler import ComfyUISampler
        from .bridge.managed_networks import ManagedEditor

        editor = ComfyUISampler(model, vae, positive, negative, sampler_name, scheduler, steps, cfg, denoise)
        # ComfyUI's own sampling has its weights loaded by itself.
        return io.NodeOutput(ManagedEditor(editor, (), editor.cost, editor.preview))


def _diffusion(editor: Any, patcher: Any) -> ManagedEditor:
    """A diffusion editor whose model ComfyUI has a handle on."""
    from .bridge.managed_networks import ManagedEditor
    from .bridge.previews import latent_preview

    return ManagedEditor(editor, (patcher,), editor.cost, lambda image: latent_preview(editor.model, image))
