"""The list of Pinpoint's nodes that ComfyUI asks for."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .anchor_proposals import ProposeAnchors
from .compared_edits import DiffEdit, MasaCtrlEdit, Pix2PixZeroEdit, PlugAndPlayEdit
from .find_word import FindWord
from .image_edits import ImagicEdit, LeditsEdit
from .instructed_edit import InstructPix2PixEdit, LoadInstructPix2Pix
from .inversion import DDIMInvert, NullTextInversion
from .inversion_files import LoadInversion, SaveInversion
from .loaders import EditModelFromComfyUI, LoadEditModel
from .located_priors import PriorFromSegmentAnything, PriorFromText
from .networks import LoadCLIP, LoadViT
from .parse_prompt import ParsePrompt
from .pick_edit import PickBestEdit
from .priors import CombinePriors, PriorFromBoxes, PriorFromMask
from .prompt_to_prompt import PromptToPromptEdit
from .region_editors import EditorAmused, EditorBlended, EditorComfyUISampler, EditorInpaint, EditorLocInv
from .region_scorer import LearnRegions, ScoreRegions
from .samples import SampleImage
from .token_optimizer import LocInv, OptimizeTokens
from .viewers import Compare, CrossAttentionMaps, EditMetrics

NODES: list[type[io.ComfyNode]] = [
    LoadEditModel,
    EditModelFromComfyUI,
    SampleImage,
    ParsePrompt,
    DDIMInvert,
    NullTextInversion,
    LocInv,
    SaveInversion,
    LoadInversion,
    PriorFromMask,
    PriorFromBoxes,
    PriorFromSegmentAnything,
    PriorFromText,
    FindWord,
    CombinePriors,
    OptimizeTokens,
    PromptToPromptEdit,
    PlugAndPlayEdit,
    MasaCtrlEdit,
    DiffEdit,
    Pix2PixZeroEdit,
    LeditsEdit,
    ImagicEdit,
    LoadInstructPix2Pix,
    InstructPix2PixEdit,
    CrossAttentionMaps,
    Compare,
    EditMetrics,
    LoadViT,
    LoadCLIP,
    ProposeAnchors,
    ScoreRegions,
    LearnRegions,
    PickBestEdit,
    EditorBlended,
    EditorLocInv,
    EditorInpaint,
    EditorAmused,
    EditorComfyUISampler,
]


class PinpointExtension(ComfyExtension):
    """Pinpoint in ComfyUI."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
