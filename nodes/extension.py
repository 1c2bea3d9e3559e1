"""The list of Pinpoint's nodes that ComfyUI asks for."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .edit import PromptToPromptEdit
from .inversion import DDIMInvert, NullTextInversion
from .inversion_files import LoadInversion, SaveInversion
from .models import EditModelFromComfyUI, LoadEditModel
from .priors import CombinePriors, PriorFromBoxes, PriorFromMask
from .prompts import ParsePrompt
from .samples import SamplePicture
from .see import Compare, CrossAttentionMaps, EditMetrics
from .tokens import LocInv, OptimizeTokens

NODES: list[type[io.ComfyNode]] = [
    LoadEditModel,
    EditModelFromComfyUI,
    SamplePicture,
    ParsePrompt,
    DDIMInvert,
    NullTextInversion,
    LocInv,
    SaveInversion,
    LoadInversion,
    PriorFromMask,
    PriorFromBoxes,
    CombinePriors,
    OptimizeTokens,
    PromptToPromptEdit,
    CrossAttentionMaps,
    Compare,
    EditMetrics,
]


class PinpointExtension(ComfyExtension):
    """Pinpoint in ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
