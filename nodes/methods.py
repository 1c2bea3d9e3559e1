"""A node for each method of editing but Prompt-to-Prompt, built from its METHOD and the fields of its settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..locinv_core.editing.settings import EditSettings
from ..methods.registry import all_methods
from .bridge import types
from .bridge.inputs import (
    EDIT_MODEL,
    choice,
    image_input,
    seed_input,
    source_input,
    switch,
    target_input,
    text,
)
from .bridge.outputs import edit_output, edit_outputs, image_output, latent_output
from .bridge.parsing import sentence_pairs_from_text, sentences_from_text, words_from_text
from .bridge.tensors import from_comfy_image, from_comfy_mask, to_comfy_image, to_comfy_mask

if TYPE_CHECKING:
    from torch import Tensor

    from ..methods.types import Method, MethodOutcome
    from .bridge.memory import Managed
    from .bridge.payloads import InvertedImage
    from .bridge.progress import NodeTracker

ELSEWHERE = {"blended", "inpaint", "learnable-regions"}
"""Methods that other nodes are: the region editors, and Learn Regions. Those of Prompt-to-Prompt are its node."""
TUNING_BYTES = 16
"""Of a weight that Adam tunes: its copy in float32, its gradient and Adam's two moments."""
MODELS = {
    "model": types.Model.Input("model", tooltip=EDIT_MODEL),
    "instruct": types.InstructModel.Input("model", tooltip="From Load InstructPix2Pix Model."),
    "clip": types.ClipEncoder.Input("clip", tooltip="From Load CLIP to Judge Edits."),
    "vit": types.Vision.Input("vit", tooltip="From Load ViT."),
}
"""Inputs by what methods need. A method that needs anything else but a mask or a prior has no node."""
TEXTS: Mapping[str, tuple[bool, Callable[[str], Any]]] = {
    "tuple[tuple[str, str], ...]": (True, sentence_pairs_from_text),
    "tuple[str, ...]": (True, sentences_from_text),
    "tuple[str, ...] | None": (False, words_from_text),
}
"""Settings that are typed as text, by their type: whether in several lines, and how they are read."""


@dataclass(frozen=True)
class Shown:
    """What a node says of its method beside the method's settings.

    inputs: the names of the others, with `settings` where these stand. stages: those of its progress bar, each with
    the setting that is its number of steps. more: inputs in the place of INPUTS.
    """

    node_id: str
    name: str
    description: str
    inputs: str = "source target prior mask settings seed"
    outputs: str = "image reconstruction mask latent"
    seed: str = "Whatever is random in the method."
    stages: Mapping[str, str] = field(default_factory=lambda: {"edit": "steps"})
    more: Mapping[str, io.Input] = field(default_factory=dict)
    experimental: bool = False


SHOWN: Mapping[str, Shown] = {
    "pnp": Shown(
        "PinpointPlugAndPlayEdit",
        "Plug-and-Play Edit",
        "Samples the target prompt with the image's own features and self-attention injected: the layout stays, the"
        " appearance follows the prompt.",
    ),
    "masactrl": Shown(
        "PinpointMasaCtrlEdit",
        "MasaCtrl Edit",
        "Samples the target prompt with mutual self-attention: target queries, source keys and values. For another pose"
        " or action of the same object.",
    ),
    "diffedit": Shown(
        "PinpointDiffEdit",
        "DiffEdit",
        "Edits where the predictions for the two prompts differ: finds the mask by itself, and leaves everything"
        " outside it as it is.",
    ),
    "pix2pix-zero": Shown(
        "PinpointPix2PixZeroEdit",
        "pix2pix-zero Edit",
        "Moves the source prompt along the direction from the old object to the new one, while cross-attention guidance"
        " keeps the attention maps at the source's.",
    ),
    "imagic": Shown(
        "PinpointImagicEdit",
        "Imagic Edit",
        "Optimizes the target's embedding and a copy of the UNet until they draw the image, and draws an interpolation"
        " between it and the target: for another pose or shape of the same object. Takes long; the model itself stays"
        " as it is.",
        inputs="target settings seed",
        outputs="image latent",
        seed="Every noise that is drawn.",
        stages={"embedding": "embedding_steps", "fine-tuning": "tuning_steps", "edit": "steps"},
        more={"target": target_input("What the image should show. Imagic takes no source prompt.")},
        experimental=True,
    ),
    "ledits++": Shown(
        "PinpointLeditsEdit",
        "LEDITS++ Edit",
        "Takes away the objects that the source alone names and adds those that the target alone names, each where its"
        " attention lies, on an inversion that is exact.",
        seed="The noises of the inversion.",
        stages={"inversion": "steps", "edit": "steps"},
    ),
    "instruct-pix2pix": Shown(
        "PinpointInstructPix2PixEdit",
        "InstructPix2Pix Edit",
        "Follows an instruction, with a model that was trained to.",
        inputs="instruction settings seed source target",
        outputs="image latent instruction",
        seed="The noise that the edit starts from.",
        more={
            "source": text(
                "source", "", "Only without an instruction: what the image shows.", multiline=True, optional=True
            ),
            "target": text(
                "target", "", "Only without an instruction: what it should show.", multiline=True, optional=True
            ),
        },
    ),
}
"""The methods that Pinpoint brings; a new method's node is named after it."""

INPUTS: Mapping[str, io.Input] = {
    "source": source_input(),
    "target": target_input(),
    "instruction": text(
        "instruction",
        "turn the yellow cat into a yellow fox",
        "What to do to the image. Empty: what turns the source into the target.",
        multiline=True,
    ),
    "prior": types.Prior.Input(
        "prior",
        optional=True,
        tooltip="Masks or boxes of the source's objects: the edit stays inside those of the objects that it changes.",
    ),
    "mask": io.Mask.Input(
        "mask",
        optional=True,
        tooltip="White where the image may change, of its size; goes before the prior. Masks of a batch are joined.",
    ),
}
OUTPUTS: Mapping[str, io.Output] = {
    "image": image_output(),
    "reconstruction": io.Image.Output(
        display_name="reconstruction", tooltip="What the method gives without an edit: how good its inversion is."
    ),
    "mask": io.Mask.Output(
        display_name="mask", tooltip="Where the edit could act, or the share of the steps in which it did."
    ),
    "latent": latent_output(),
    "instruction": io.String.Output(display_name="instruction", tooltip="The instruction that was followed."),
}


def method_node(method: Method) -> type[io.ComfyNode]:
    """The node of a method: of an inversion where its METHOD has a recipe, else of an image."""
    words = method.name.replace("++", "pp").split("-")
    own = Shown(
        f"Pinpoint{''.join(map(str.capitalize, words))}Edit", f"{method.label} Edit", f"{method.label}, {method.paper}."
    )
    shown = SHOWN.get(method.name, own)
    kind = _InversionNode if method.recipe is not None else _ImageNode
    return type(shown.node_id, (kind,), {"method": method, "shown": shown, "__doc__": shown.description})


class _InversionNode(io.ComfyNode):
    """Edits an inverted image."""

    method: Method
    shown: Shown

    @classmethod
    def define_schema(cls) -> io.Schema:
        inversion = types.Inversion.Input(
            "inversion",
            tooltip="From DDIM Invert. No null text is needed: this method samples from the inverted latents.",
        )
        return _schema(cls.shown, [inversion, target_input(), *setting_inputs(cls.method)], edit_outputs())

    @classmethod
    def execute(cls, inversion: InvertedImage, target: str, **given: Any) -> io.NodeOutput:
        from .bridge.payloads import edited_by

        assert cls.method.recipe is not None
        settings = cls.method.recipe.settings(**setting_values(cls.method, given))
        return edit_output(edited_by(cls.method.recipe.edit, inversion, target, settings))


class _ImageNode(io.ComfyNode):
    """Edits an image that needs no inversion beforehand."""

    method: Method
    shown: Shown

    @classmethod
    def define_schema(cls) -> io.Schema:
        inputs: list[io.Input] = [MODELS[need] for need in cls.method.needs if need in MODELS]
        inputs.append(image_input())
        for name in cls.shown.inputs.split():
            if name == "settings":
                inputs += setting_inputs(cls.method)
            elif name == "seed":
                inputs.append(seed_input(cls.shown.seed))
            else:
                inputs.append(cls.shown.more.get(name) or INPUTS[name])
        return _schema(cls.shown, inputs, [OUTPUTS[name] for name in cls.shown.outputs.split()])

    @classmethod
    def execute(cls, image: Tensor, seed: int, **given: Any) -> io.NodeOutput:
        from ..methods.types import EditTask, MethodModels

        method, outputs = cls.method, cls.shown.outputs.split()
        managed: dict[str, Managed[Any]] = {need: given[MODELS[need].id] for need in method.needs if need in MODELS}
        models = MethodModels(**{need: one.value for need, one in managed.items()})
        source, target, order = (given.get(name, "") for name in ("source", "target", "instruction"))
        if "instruction" in given and not (order.strip() or (source.strip() and target.strip())):
            raise ValueError("instruction: it is empty, requires an instruction, or a source and a target for one")
        prior, mask = given.get("prior"), given.get("mask")
        mask = None if mask is None else (from_comfy_mask(mask) >= 0.5).float()
        task = EditTask(from_comfy_image(image), source, target, prior, mask, order if order.strip() else None)
        values = setting_values(method, given)
        if "within_mask" in method.settings_type.__dataclass_fields__:
            values["within_mask"] = prior is not None or mask is not None
        settings = method.settings(**values)
        method.check(models, task, settings)
        stages = {stage: given.get(steps, 1) for stage, steps in cls.shown.stages.items()}
        work = partial(method.edit, models, task, settings, seed)
        results = _results(work, list(managed.values()), task.image, stages, tunes=method.kind == "tuned")
        return io.NodeOutput(*(results[name] for name in outputs))


def setting_inputs(method: Method) -> list[io.Input]:
    """An input for each of a method's settings, as the metadata of its fields says."""
    return [_setting_input(part) for part in fields(method.settings_type) if part.name != "within_mask"]


def setting_values(method: Method, given: Mapping[str, Any]) -> dict[str, Any]:
    """A method's settings from a node's inputs. An empty text, and -1 for None, leave a setting's default."""
    values: dict[str, Any] = {}
    for part in fields(method.settings_type):
        value = given.get(part.name, "")
        if str(part.type) in TEXTS:
            value = tuple(TEXTS[str(part.type)][1](value))
        elif part.default is None and value == part.metadata["min"]:
            value = ""
        if value not in ("", ()):
            values[part.name] = value
    return values


def _setting_input(part: Field[Any]) -> io.Input:
    name, default, meta = part.name, part.default, part.metadata
    tooltip, low, high, step = meta.get("help", name), meta.get("min"), meta.get("max"), meta.get("step")
    if str(part.type) in TEXTS:
        return text(name, "", tooltip, multiline=TEXTS[str(part.type)][0], optional=True)
    if isinstance(default, bool):
        return switch(name, default, tooltip)
    if meta.get("choices"):
        return choice(name, meta["choices"], tooltip, str(default))
    if isinstance(default, str):
        return text(name, default, tooltip)
    if name == "seed":
        return seed_input(tooltip)
    if default is None or isinstance(default, int):
        return io.Int.Input(name, default=low if default is None else default, min=low, max=high, tooltip=tooltip)
    fine = {"round": False} if step and step < 0.01 else {}
    return io.Float.Input(name, default=default, min=low, max=high, step=step, tooltip=tooltip, **fine)


def _results(
    work: Callable[[NodeTracker], MethodOutcome],
    managed: list[Managed[Any]],
    image: Tensor,
    stages: Mapping[str, int],
    tunes: bool,
) -> dict[str, Any]:
    """A node's outputs by name, of what `work` makes of an image (1, 3, H, W) while ComfyUI has the models ready.

    stages: the number of steps of each. tunes: Adam works on a copy of the first model's UNet.
    """
    from ..locinv_core.backbones.base import require_diffusers
    from ..locinv_core.imaging.padding import Padding
    from .bridge.memory import all_ready
    from .bridge.previews import latent_preview
    from .bridge.progress import node_tracker

    model = managed[0].value
    memory = (
        TUNING_BYTES * sum(weight.numel() for weight in require_diffusers(model, "Imagic").unet.parameters())
        if tunes
        else 0
    )
    with all_ready([patcher for one in managed for patcher in one.patchers], memory):
        tracker = node_tracker(*stages, preview=latent_preview(model, image), steps=stages)
        made = work(tracker)
        latents = made.latents
        if latents is None:
            padding = Padding.of(image.shape[-2], image.shape[-1], model.size_multiple)
            latents = model.encode(padding.pad_image(made.edited)).cpu()
    tracker.show_cost()
    return {
        "image": to_comfy_image(made.edited),
        "reconstruction": to_comfy_image(image if made.reconstruction is None else made.reconstruction),
        "mask": to_comfy_mask(image.new_ones(image.shape[-2:]) if made.mask is None else made.mask),
        "latent": {"samples": latents / model.latent_scale},
        "instruction": made.details.get("instruction", ""),
    }


def _schema(shown: Shown, inputs: list[io.Input], outputs: list[io.Output]) -> io.Schema:
    return io.Schema(
        node_id=shown.node_id,
        display_name=shown.name,
        category="Pinpoint/edit",
        description=shown.description,
        inputs=inputs,
        outputs=outputs,
        is_experimental=shown.experimental,
    )


def _has_node(method: Method) -> bool:
    """Whether a method has a node of its own, whose sockets give it what it needs."""
    if method.recipe is not None:
        return method.settings_type is not EditSettings
    first = method.needs[:1]
    return (
        method.name not in ELSEWHERE and first in (("model",), ("instruct",)) and {*method.needs} <= {*MODELS, *INPUTS}
    )


NODES = [method_node(method) for method in all_methods().values() if _has_node(method)]
