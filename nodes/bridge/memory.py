"""Models, networks and editors under ComfyUI's memory management: on its device while a node works with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

import comfy.model_management
import comfy.model_patcher
import torch
from torch import nn

from ...region_core.editors.base import WrappedEditor

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.backbones.base import Backbone
    from ...locinv_core.backbones.stable_diffusion import EditModel
    from ...region_core.editors.base import Editor
    from ..native.backbone import ComfyBackbone
    from .previews import LatentPreview

T = TypeVar("T")


class PinpointModel(nn.ModuleList):
    """Networks that ComfyUI moves together, by a name of their own in its log."""


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
class Managed(Generic[T]):
    """Something that computes with networks, and ComfyUI's handles on their weights."""

    value: T
    patchers: tuple[Any, ...]

    @contextmanager
    def ready(self, memory: int = 0) -> Iterator[T]:
        """The value with its networks on ComfyUI's compute device, outside inference mode, no gradients.

        What needs gradients turns them on itself. memory: bytes that the work takes beside the weights:
        ComfyUI makes room for them, and has them back afterwards.
        """
        try:
            with all_ready(self.patchers, memory):
                yield self.value
        finally:
            if memory:
                comfy.model_management.soft_empty_cache()


ManagedModel: TypeAlias = "Managed[Backbone]"


@dataclass(frozen=True)
class NativeModel(Managed["ComfyBackbone"]):
    """A backbone over ComfyUI's own MODEL, CLIP and VAE, which ComfyUI moves as it always does."""

    @contextmanager
    def ready(self, memory: int = 0) -> Iterator[ComfyBackbone]:
        """The backbone with its MODEL on ComfyUI's compute device, outside inference mode, no gradients."""
        self.value.load(memory)
        try:
            with torch.inference_mode(False), torch.no_grad():
                yield self.value
        finally:
            self.value.release()


@dataclass(frozen=True)
class ManagedEditor(Managed["Editor"]):
    """An editor, and how its latents of an image look (None: they cannot be shown)."""

    preview: Callable[[Tensor], LatentPreview | None]


def manage(model: EditModel) -> ManagedModel:
    """Put an edit model, which lies on the offload device, under ComfyUI's memory management."""
    return managed(model, *model.networks)


def managed(value: T, *networks: nn.Module) -> Managed[T]:
    """Put what computes with networks, which lie on the offload device, under ComfyUI's memory management."""
    return Managed(value, (patcher_of(*networks),))


def patcher_of(*networks: nn.Module) -> WholeModelPatcher:
    """ComfyUI's handle on networks that lie on the offload device."""
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return WholeModelPatcher(PinpointModel(networks), *devices)


class EditorAmong(WrappedEditor):
    """An editor that works in turns with other networks: after each edit these are on the device again.

    ComfyUI may have put them away to make room for the editor's model.
    """

    def __init__(self, editor: Editor, patchers: Sequence[Any]) -> None:
        super().__init__(editor)
        self._patchers = patchers

    def edit(self, *args: Any, **options: Any) -> Tensor:
        """What the editor makes of it."""
        edited = self.editor.edit(*args, **options)
        load(self._patchers)
        return edited


@contextmanager
def all_ready(patchers: Sequence[Any], memory: int = 0) -> Iterator[None]:
    """These networks together on ComfyUI's compute device, outside inference mode and without gradients."""
    load(patchers, memory)
    with torch.inference_mode(False), torch.no_grad():
        yield


def load(patchers: Sequence[Any], memory: int = 0) -> None:
    """Have ComfyUI put these networks on its compute device, each once, with room for `memory` bytes more.

    ComfyUI's own models may stay there in part, as it finds room; they move in inference mode only.
    """
    each = list(dict.fromkeys(patchers))
    with torch.inference_mode():
        for whole in (False, True):
            group = [patcher for patcher in each if isinstance(patcher, WholeModelPatcher) is whole]
            if group:
                comfy.model_management.load_models_gpu(group, memory_required=memory, force_full_load=whole)


def suitable_dtype(dtype: str) -> str:
    """`dtype`, or, for "auto", what suits ComfyUI's compute device."""
    if dtype != "auto":
        return dtype
    device = comfy.model_management.get_torch_device()
    half = device.type == "cuda" and comfy.model_management.should_use_fp16(device)
    return "float16" if half else "float32"


def offloaded(dtype: str) -> dict[str, str]:
    """Where ComfyUI requires weights to be loaded to, and in which precision: `device` and `dtype`."""
    return {"device": str(comfy.model_management.unet_offload_device()), "dtype": suitable_dtype(dtype)}
