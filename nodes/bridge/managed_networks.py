"""Networks and editors under ComfyUI's memory management: on its device while a node works with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import comfy.model_management
import torch
from torch import nn

from ...region_core.editors.base import WrappedEditor
from .managed_model import WholeModelPatcher

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.cost import CostTracker
    from ...region_core.editors.base import Editor
    from .previews import LatentPreview

T = TypeVar("T")


@dataclass(frozen=True)
class Managed(Generic[T]):
    """Something that computes with networks, and ComfyUI's handles on their weights."""

    value: T
    patchers: tuple[Any, ...]

    @contextmanager
    def ready(self) -> Iterator[T]:
        """The value with its networks on ComfyUI's compute device, outside inference mode, no gradients."""
        with all_ready(self.patchers):
            yield self.value


@dataclass(frozen=True)
class ManagedEditor(Managed["Editor"]):
    """An editor; what one of its edits costs, by steps (None: its own); and how its latents look."""

    cost: Callable[[int | None], float]
    preview: Callable[[Tensor], LatentPreview | None]


class EditorAmong(WrappedEditor):
    """An editor that works in turns with other networks: after each edit these are on the device again.

    ComfyUI may have put them away to make room for the editor's model.
    """

    def __init__(self, editor: Editor, patchers: Sequence[Any]) -> None:
        super().__init__(editor)
        self._patchers = patchers

    def edit(
        self,
        image: Tensor,
        masks: Tensor,
        prompt: str,
        seed: int,
        *,
        steps: int | None = None,
        tracker: CostTracker | None = None,
    ) -> Tensor:
        """What the editor makes of it."""
        edited = self.editor.edit(image, masks, prompt, seed, steps=steps, tracker=tracker)
        load(self._patchers)
        return edited


@contextmanager
def all_ready(patchers: Sequence[Any]) -> Iterator[None]:
    """These networks together on ComfyUI's compute device, outside inference mode and without gradients."""
    load(patchers)
    with torch.inference_mode(False), torch.no_grad():
        yield


def load(patchers: Sequence[Any]) -> None:
    """Have ComfyUI put these networks on its compute device, each once."""
    comfy.model_management.load_models_gpu(list(dict.fromkeys(patchers)), force_full_load=True)


def patcher_of(*networks: nn.Module) -> WholeModelPatcher:
    """ComfyUI's handle on networks that lie on the offload device."""
    devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    return WholeModelPatcher(nn.ModuleList(networks), *devices)
