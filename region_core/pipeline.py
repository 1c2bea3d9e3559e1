"""Learnable Regions from end to end: find the place, propose boxes, learn which to edit in, edit, rank."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ..locinv_core.backbones.stable_diffusion import EditModel
from ..locinv_core.cost import CostTracker
from ..locinv_core.text.prompt import parse_prompt
from .editors.base import Editor
from .encoders.clip import ClipEncoder
from .encoders.vit import PatchFeatures, VisionFeatures
from .object_localization.attention_localizer import Located
from .object_localization.word_place import edit_prompt_for, find_changed, place_of, word_to_edit
from .options import Anchors, Estimator, Sizes
from .proposals import RegionProposals
from .proposing import anchoring, propose_regions
from .scorer import RegionEdit, choose
from .search.plans import EditPlan
from .trainer import DEFAULT_PLAN, LearningSettings, learn_regions

__all__ = ["AUTO", "NONE", "FoundRegions", "RegionNetworks", "RegionRequest", "edit_region"]

AUTO, NONE = "auto", "none"


@dataclass(frozen=True, eq=False)
class RegionNetworks:
    """What edits an image, looks at it and judges it."""

    editor: Editor
    reader: EditModel | None
    """Whose attention tells where the word is."""
    vision: VisionFeatures
    guide: ClipEncoder


@dataclass(frozen=True)
class RegionRequest:
    """What is asked for.

    Attributes:
        caption: what the image shows. prompt: what it should show.
        edit_prompt: what the editor draws in a box; None is the prompt, and where a word was found, without
            the objects listed beside what it became.
        word: of the caption, whose place is looked for, so that only boxes near it are edited. "auto": the
            one noun that the prompt changes, unless anchors or sizes are random. "none": all boxes.
        anchors, sizes, k, m, min_distance, smoothing: as `propose_regions` takes them; None is `anchoring`'s
            default.
        epochs, lr, estimator, temperature, plan: as `learn_regions` takes them. seed: of all that is random.

    Raises ValueError for a number out of bounds, and for an empty word or edit prompt.
    """

    caption: str
    prompt: str
    edit_prompt: str | None = None
    word: str = AUTO
    anchors: Anchors = "dino"
    sizes: Sizes = "learned"
    k: int = 8
    m: int = 7
    min_distance: float | None = None
    smoothing: int | None = None
    epochs: int = 5
    lr: float = 3e-3
    estimator: Estimator = "expected"
    temperature: float = 1.0
    plan: EditPlan = DEFAULT_PLAN
    seed: int = 0

    def __post_init__(self) -> None:
        LearningSettings(self.epochs, self.lr, estimator=self.estimator, temperature=self.temperature)
        if not self.word.strip():
            raise ValueError(f"word: got {self.word!r}, requires a word of the caption, auto or none")
        if self.edit_prompt is not None and not self.edit_prompt.strip():
            raise ValueError(f"edit prompt is empty: got {self.edit_prompt!r}, requires what to draw in a box")
        for name in ("k", "m"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, requires 1 or more")
        apart, side = self.min_distance, self.smoothing
        if apart is not None and not (math.isfinite(apart) and apart >= 0):
            raise ValueError(f"min_distance: got {apart}, requires a finite number of patches, 0 or more")
        if side is not None and (side < 1 or side % 2 == 0):
            raise ValueError(f"smoothing: got {side}, requires an odd number of patches, 1 or more")

    @property
    def looks(self) -> bool:
        """Whether the word is looked for."""
        random = "random" in (self.anchors, self.sizes)
        return self.word != NONE and not (self.word == AUTO and random)


@dataclass(frozen=True, eq=False)
class FoundRegions:
    """The edits, where the word that they are about was found, if one was looked for, what the editor was
    told, and how far apart and how smoothed the anchors are."""

    edit: RegionEdit
    located: Located | None
    edit_prompt: str
    min_distance: float
    smoothing: int


def edit_region(
    image: Tensor, networks: RegionNetworks, request: RegionRequest, *, tracker: CostTracker | None = None
) -> FoundRegions:
    """Edit `image` (1, 3, H, W) in the boxes that are learned to be good, and rank the edits.

    Raises ValueError for a word that the caption lacks, one that the prompt leaves as it is while it changes
    others, and one that no model is there to find; for a text that the editor would cut; and as
    `propose_regions` and `learn_regions` do. What is wrong with k or m is said before any pass.
    """
    tracker = tracker if tracker is not None else CostTracker()
    editor, reader = networks.editor, networks.reader
    told = request.edit_prompt or request.prompt
    editor.check_prompt(told, "prompt" if request.edit_prompt is None else "edit prompt")
    word = _word(networks, request)
    with tracker.stage("features"):
        features = networks.vision.look(image)
        proposals, spacing = _proposed(features, request, placed=False)
    located = None if word is None else _located(image, networks, request, word, tracker)
    if located is not None:
        with tracker.stage("features"):
            proposals, spacing = _proposed(features, request, placed=True)
        if reader is not None and request.edit_prompt is None and editor.prompt_mode == "region":
            told = edit_prompt_for(reader, request.caption, request.prompt, located.word)
    scores = learn_regions(
        image,
        proposals,
        features,
        editor,
        networks.guide,
        caption=request.caption,
        prompt=request.prompt,
        edit_prompt=told,
        place=None if located is None else place_of(located, proposals.size),
        epochs=request.epochs,
        lr=request.lr,
        estimator=request.estimator,
        temperature=request.temperature,
        seed=request.seed,
        plan=request.plan,
        tracker=tracker,
    )
    return FoundRegions(choose(scores, networks.guide, tracker=tracker), located, told, *spacing)


def _proposed(
    features: PatchFeatures, request: RegionRequest, *, placed: bool
) -> tuple[RegionProposals, tuple[float, int]]:
    """The boxes, and how far apart and how smoothed their anchors are."""
    spacing = anchoring(features, request.k, request.min_distance, request.smoothing, placed=placed)
    boxes = propose_regions(
        features,
        anchors=request.anchors,
        k=request.k,
        m=request.m,
        min_distance=spacing[0],
        smoothing=spacing[1],
        sizes=request.sizes,
        seed=request.seed,
    )
    return boxes, spacing


def _word(networks: RegionNetworks, request: RegionRequest) -> str | None:
    """The word to look for, or AUTO; None where nothing is looked for, and for AUTO where no model is there
    to find it."""
    reader = networks.reader
    if not request.looks or (request.word == AUTO and reader is None):
        return None
    if reader is None:
        raise ValueError(
            f"word: got {request.word!r}, and the editor {networks.editor.name!r} has no attention to find it"
            " by, requires auto or none; or a reader, a text-to-image model that has"
        )
    if request.word == AUTO:
        return AUTO
    caption = parse_prompt(request.caption, reader.tokenizer, name="caption")
    return word_to_edit(caption, parse_prompt(request.prompt, reader.tokenizer), request.word)


def _located(
    image: Tensor, networks: RegionNetworks, request: RegionRequest, word: str, tracker: CostTracker
) -> Located | None:
    """Where the word is; None for AUTO where there is no one word to find."""
    assert networks.reader is not None
    return find_changed(
        networks.reader,
        networks.vision,
        networks.guide,
        image,
        request.caption,
        request.prompt,
        word=None if word == AUTO else word,
        tracker=tracker,
    )
