"""Runs the nodes that edit from an image in ComfyUI's own process, on tiny random models:
`python -m pinpoint.tests.comfyui.inside_image_edits HOLDER imagic|edits`, as `inside_comfyui`."""

# ruff: noqa: E402 (ComfyUI reads the command line as it is imported)
from __future__ import annotations

import copy
import gc
from collections.abc import Callable
from typing import Any

from pinpoint.tests.comfyui.inside_process import begin, tell

HOLDER, WHAT = begin()

import comfy.model_management
import torch
from diffusers import UNet2DConditionModel

from pinpoint.nodes.bridge import progress
from pinpoint.nodes.bridge.memory import ManagedModel, manage
from pinpoint.nodes.methods import NODES
from pinpoint.tests.fixtures.tiny_editors import small_model, smooth_image

BY_ID: dict[str, Any] = {node.define_schema().node_id: node for node in NODES}
ImagicEdit, LeditsEdit = BY_ID["PinpointImagicEdit"], BY_ID["PinpointLeditsEdit"]
InstructPix2PixEdit = BY_ID["PinpointInstructPix2PixEdit"]
SOURCE, TARGET = "a yellow cat and a red star", "a yellow fox and a red star"
IMAGIC: dict[str, Any] = {
    "target": TARGET,
    "steps": 2,
    "guidance": 3.0,
    "interpolation": 0.7,
    "embedding_steps": 2,
    "embedding_rate": 0.01,
    "tuning_steps": 3,
    "tuning_rate": 1e-3,
    "seed": 0,
}
LEDITS: dict[str, Any] = {
    "source": SOURCE,
    "target": TARGET,
    "steps": 2,
    "skip": 0.15,
    "guidance": 5.0,
    "threshold": 0.5,
    "seed": 0,
}
INSTRUCT: dict[str, Any] = {
    "instruction": "turn the cat into a fox",
    "steps": 2,
    "guidance": 7.5,
    "image_guidance": 1.5,
    "seed": 0,
}


def small(channels: int = 4) -> ManagedModel:
    with torch.inference_mode(False):
        return manage(small_model(unet_channels=channels))


def loads(of: list[int]) -> Callable[[], None]:
    """Have `of` note the memory asked for with each loading of models; what is returned ends that."""
    plain = comfy.model_management.load_models_gpu

    def noting(models: Any, memory_required: int = 0, **how: Any) -> None:
        of.append(memory_required)
        plain(models, memory_required=memory_required, **how)

    comfy.model_management.load_models_gpu = noting

    def end() -> None:
        comfy.model_management.load_models_gpu = plain

    return end


def living_unets() -> int:
    return sum(issubclass(type(held), UNet2DConditionModel) for held in gc.get_objects())


def imagic() -> dict[str, Any]:
    """What Imagic leaves of the model, after an edit and after a cancel."""
    with torch.inference_mode():
        return {"ours": left_by_imagic(small())}


def left_by_imagic(model: ManagedModel) -> dict[str, Any]:
    image = smooth_image().permute(0, 2, 3, 1)
    parts = [module for patcher in model.patchers for module in patcher.model]
    unet = parts[0]
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    told: dict[str, Any] = {}
    asked: list[int] = []
    end = loads(asked)
    gc.collect()
    # So that nothing is given back but what goes by itself.
    gc.disable()
    told["UNets before"] = living_unets()
    edited = ImagicEdit.execute(model=model, image=image, **IMAGIC)[0]
    told["UNets"] = living_unets()
    told["stopped in"] = stopped_in_tuning(model, image)
    told["UNets after a cancel"] = living_unets()
    gc.enable()
    end()
    told["asked for"] = asked[0]
    told["weights counted"] = sum(weight.numel() for weight in unet.parameters())
    told["changed the image"] = float((edited - image).abs().mean())
    told["same after a cancel"] = bool(torch.equal(ImagicEdit.execute(model=model, image=image, **IMAGIC)[0], edited))
    same = all(
        torch.equal(weight, was[name])
        for part, was in zip(parts, before, strict=True)
        for name, weight in part.state_dict().items()
    )
    told["weights"] = "as they were" if same else "changed"
    told["gradients"] = sum(
        weight.requires_grad or weight.grad is not None for part in parts for weight in part.parameters()
    )
    return told


def stopped_in_tuning(model: ManagedModel, image: torch.Tensor) -> str:
    """The stage in which a cancel stops the edit: it comes after the first of Adam's steps on the copy."""
    kind: Any = progress.NodeProgress
    plain, stages = kind.__call__, []

    def cancelling(self: Any, stage: str, step: int, steps: int, latents: Any) -> None:
        stages.append(stage)
        plain(self, stage, step, steps, latents)
        if stage == "fine-tuning":
            comfy.model_management.interrupt_current_processing()

    kind.__call__ = cancelling
    try:
        ImagicEdit.execute(model=model, image=image, **IMAGIC)
    except comfy.model_management.InterruptProcessingException:
        return stages[-1] if stages.count("fine-tuning") == 1 else "too late"
    finally:
        kind.__call__ = plain
    return "nothing"


def edits() -> dict[str, Any]:
    """The three nodes on an image of any size; and what is refused before ComfyUI loads a model."""
    told: dict[str, Any] = {}
    picture = smooth_image(66, 90).permute(0, 2, 3, 1)
    with torch.inference_mode():
        nodes: dict[str, tuple[Any, ManagedModel, dict[str, Any], dict[str, str]]] = {
            "imagic": (ImagicEdit, small(), IMAGIC, {"target": " "}),
            "ledits": (LeditsEdit, small(), LEDITS, {"source": ""}),
            "instruct": (InstructPix2PixEdit, small(8), INSTRUCT, {"instruction": "", "source": SOURCE}),
        }
        loaded: list[int] = []
        end = loads(loaded)
        told["refused"] = [
            refused(kind, model, picture, {**given, **changes}) for kind, model, given, changes in nodes.values()
        ]
        told["loaded for bad input"] = len(loaded)
        end()
        told["batch"] = refused(ImagicEdit, small(), picture.repeat(2, 1, 1, 1), IMAGIC)
        for name, (kind, model, given, _) in nodes.items():
            outputs = kind.execute(model=model, image=picture, **given).args
            latent = next(output for output in outputs if isinstance(output, dict))["samples"]
            decoded = model.value.decode(latent * model.value.latent_scale)
            again = decoded[..., :66, :90].permute(0, 2, 3, 1)
            told[name] = {
                "shape": list(outputs[0].shape),
                "latent decodes to the edit": float((again - outputs[0]).abs().max()),
            }
            if kind is LeditsEdit:
                told[name]["mask"] = list(outputs[2].shape)
    return told


def refused(kind: Any, model: ManagedModel, picture: torch.Tensor, given: dict[str, Any]) -> str:
    """What the node says is wrong."""
    try:
        kind.execute(model=model, image=picture, **given)
    except ValueError as error:
        return str(error)
    return ""


tell({"imagic": imagic, "edits": edits}[WHAT]())
