"""Editors as sockets: what changes the image inside a box, for Learn Regions and Score Regions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import comfy.samplers
from comfy_api.latest import io

from .bridge import types
from .bridge.inputs import EDIT_MODEL, choice, model_input, number, source_input, text, whole
from .loaders import EMBEDDED, dtype_input, folder_input, path_of

if TYPE_CHECKING:
    from comfy.model_patcher import ModelPatcher
    from comfy.sd import VAE

    from .bridge.memory import ManagedModel

CATEGORY = "Pinpoint/regions/editors"


def _editor_output() -> io.Output:
    return types.Editor.Output(display_name="editor", tooltip="For Learn Regions and Score Regions.")


def _strength_input(name: str, default: float) -> io.Input:
    return number(name, default, (0.01, 1.0, 0.01), "How far an edit may go from the image: 1 draws the box anew.")


def _guidance_input(name: str, default: float) -> io.Input:
    tooltip = "Classifier-free guidance scale: how strongly the edit follows its prompt; 1 is none."
    return number(name, default, (1.0, 30.0, 0.1), tooltip)


def _steps_input(default: int) -> io.Input:
    return whole("steps", default, (1, 1000), "An edit's steps.")


def _editing_inputs(strength: float, guidance: float, steps: int) -> list[io.Input]:
    """How Pinpoint's own editors edit, with the defaults of one of them."""
    batch = "Boxes edited at a time: more is faster on a graphics card, and takes more of its memory."
    return [
        _strength_input("strength", strength),
        _guidance_input("guidance", guidance),
        _steps_input(steps),
        whole("batch", 4, (1, 64), batch),
        text("negative", "", "What the edit should not show. Empty: no negative prompt.", optional=True),
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
                model_input(EDIT_MODEL),
                *_editing_inputs(0.75, 7.5, 50),
                number(
                    "window",
                    1.5,
                    (0.0, 10.0, 0.1),
                    "Each box is edited in a window so many times its size, enlarged to the image's, so that the new"
                    " object comes out whole and in the box. 0: in the whole image.",
                    optional=True,
                ),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(cls, model: ManagedModel, window: float = 1.5, **editing: Any) -> io.NodeOutput:
        from ..region_core.editors.blended import BlendedEditor

        editor = BlendedEditor(model.value, window=window or None, **editing)
        return _output(editor, model.patchers)


class EditorLocInv(io.ComfyNode):
    """Edits with LocInv: the object changes in the shape that it has."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditorLocInv",
            display_name="Editor: LocInv",
            category=CATEGORY,
            description="Edits inside a box with any edit model, by LocInv: the image is inverted once, and"
            " the object in the box keeps its position, its size and its pose.",
            inputs=[
                model_input(EDIT_MODEL),
                source_input(
                    "What the image shows, for the edit model. The prompt of Learn Regions, or its"
                    " edit_prompt, should say the same but for one object."
                ),
                _guidance_input("guidance", 7.5),
                _steps_input(20),
                text(
                    "word",
                    "",
                    "The word of the source whose object a box holds. Empty: the one noun that the prompt changes.",
                    optional=True,
                ),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(cls, model: ManagedModel, source: str, guidance: float, steps: int, word: str = "") -> io.NodeOutput:
        from ..region_core.editors.locinv import LocInvEditor

        return _output(LocInvEditor(model.value, source, word.strip() or None, guidance, steps), model.patchers)


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
                folder_input(
                    "A Stable Diffusion inpainting model (9 channels) in diffusers' layout, from models/diffusers."
                ),
                dtype_input(),
                *_editing_inputs(0.75, 7.5, 50),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(cls, model: str, dtype: str, **editing: Any) -> io.NodeOutput:
        from ..region_core.editors.registry import load_editor
        from .bridge.memory import manage, offloaded

        path = path_of(model, "an inpainting model")
        editor: Any = load_editor("inpaint", path, **offloaded(dtype), **editing)
        return _output(editor, manage(editor.model).patchers)


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
                folder_input(
                    "An aMUSEd in diffusers' layout, from models/diffusers. 'embedded' comes with"
                    " Pinpoint and knows only the drawn scenes of its samples.",
                    EMBEDDED,
                ),
                dtype_input(),
                *_editing_inputs(1.0, 10.0, 12),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(cls, model: str, dtype: str, **editing: Any) -> io.NodeOutput:
        from ..region_core.editors.registry import load_editor
        from .bridge.memory import ManagedEditor, offloaded, patcher_of

        editor: Any = load_editor("amused", path_of(model), **offloaded(dtype), **editing)
        parts = editor.model
        patcher = patcher_of(parts.vqvae, parts.transformer, parts.text_encoder)
        # Tokens are no latents that a preview could show.
        return io.NodeOutput(ManagedEditor(editor, (patcher,), lambda image: None))


class EditorComfyUISampler(io.ComfyNode):
    """Edits with any MODEL that ComfyUI samples."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        samplers = comfy.samplers.KSampler
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
                choice("sampler_name", samplers.SAMPLERS, "The sampler.", "euler"),
                choice("scheduler", samplers.SCHEDULERS, "How the noise levels are spread over the steps.", "normal"),
                _steps_input(20),
                _guidance_input("cfg", 7.0),
                _strength_input("denoise", 0.8),
            ],
            outputs=[_editor_output()],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, vae: VAE, positive: Any, negative: Any, sampler_name: str, **sampling: Any
    ) -> io.NodeOutput:
        from .bridge.comfy_sampler import ComfyUISampler
        from .bridge.memory import ManagedEditor

        editor = ComfyUISampler(model, vae, positive, negative, sampler_name, **sampling)
        # ComfyUI's own sampling loads its weights by itself.
        return io.NodeOutput(ManagedEditor(editor, (), editor.preview))


NODES = [EditorBlended, EditorLocInv, EditorInpaint, EditorAmused, EditorComfyUISampler]


def _output(editor: Any, patchers: tuple[Any, ...]) -> io.NodeOutput:
    """A diffusion editor and ComfyUI's handles on its model."""
    from .bridge.memory import ManagedEditor
    from .bridge.previews import latent_preview

    return io.NodeOutput(ManagedEditor(editor, patchers, lambda image: latent_preview(editor.model, image)))
