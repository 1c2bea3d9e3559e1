"""An edit model under ComfyUI's memory management, so that it makes room for us and we for it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import comfy.model_management
import comfy.model_patcher
import torch
from torch import nn

if TYPE_CHECKING:
    from ...locinv_core.backbones.stable_diffusion import EditModel


class PinpointModel(nn.Module):
    """The networks of an edit model as one module: ComfyUI moves them together."""

    def __init__(self, model: EditModel) -> None:
        super().__init__()
        self.unet, self.vae, self.text_encoder = model.unet, model.vae, model.text_encoder


class WholeModelPatcher(comfy.model_patcher.ModelPatcher):
    """Moves a model as a whole, and outside inference mode.

    ComfyUI moves weights inside inference mode, where a copy becomes an inference tensor that no gradient can
    pass; and it moves parts of a model only where the layers are its own.
    """

    def load(self, *args: Any, **kwargs: Any) -> None:
        with torch.inference_mode(False), torch.no_grad():
            super().load(*args, **{**kwargs, "full_load": True})

    def unpatch_model(self, *args: Any, **kwargs: Any) -> None:
        with torch.inference_mode(False), torch.no_grad():
            super().unpatch_model(*args, **kwargs)

    def partially_unload(self, *args: Any, **kwargs: Any) -> int:
        # Nothing was freed: ComfyUI goes on to unload all of it.
        return 0


@dataclass(frozen=True)
class ManagedModel:
    """An edit model and ComfyUI's handle on its weights."""

    model: EditModel
    patcher: WholeModelPatcher

    @contextmanager
    def ready(self, memory: int = 0) -> Iterator[EditModel]:
        """The model on ComfyUI's compute device, outside inference mode and without gradients.

        What needs gradients turns them on itself. memory: bytes that the work takes beside the weights:
        ComfyUI makes room for them, and has them back afterwards.
        """
        comfy.model_management.load_models_gpu([self.patcher], memory_required=memory, force_full_load=True)
        try:
            with torch.inference_mode(False), torch.no_grad():
                yield self.model
        finally:
            if memory:
                comfy.model_management.soft_empty_cache()


def manage(model: EditModel) -> ManagedModel:
    """Put an edit model, which lies on the offload device, under ComfyUI's memory management."""
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return ManagedModel(model, WholeModelPatcher(PinpointModel(model), *devices))


def suitable_dtype(dtype: str) -> str:
    """`dtype`, or, for "auto", what suits ComfyUI's compute device."""
    if dtype != "auto":
        return dtype
    device = comfy.model_management.get_torch_device()
    half = device.type == "cuda" and comfy.model_management.should_use_fp16(device)
    return "float16" if half else "float32"


def open_managed(path: str, dtype: str, prediction: Any) -> ManagedModel:
    """Open a model by `load_edit_model`'s name for it."""
    from ...locinv_core.backbones.loading import load_edit_model

    offload = str(comfy.model_management.unet_offload_device())
    return manage(load_edit_model(path, device=offload, dtype=suitable_dtype(dtype), prediction=prediction))
