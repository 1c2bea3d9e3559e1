"""Learnable Regions from end to end: anchors, box proposals, the region network, edits, argmax S.

With `word` "none" it is the published algorithm. Else ours comes before it: the object that the prompt changes
is localized, and only boxes in its region are searched.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from torch import Tensor

from ..locinv_core.backbones.base import Backbone
from ..locinv_core.cost import CostTracker
from ..locinv_core.text.edit_target import edit_prompt_for, word_to_edit
from ..locinv_core.text.prompt import parse_prompt
from .anchors import ProposalSettings, propose_regions, spaced
from .editors.base import Editor
from .encoders.clip import ClipEncoder
from .encoders.vit import VisionFeatures
from .object_localization.attention_localizer import Located, locate_changed
from .scorer import RegionEdit, choose
from .search.budget import DEFAULT_PLAN, BudgetedSearch
from .search.plans import EditPlan
from .trainer import LearningSettings, RegionTask, learn_regions

AUTO, NONE = "auto", "none"


@dataclass(frozen=True, eq=False)
class RegionNetworks:
    """What edits an image, localizes the word by its cross-attention, proposes boxes and judges the edits."""

    editor: Editor
    reader: Backbone | None
    vision: VisionFeatures
    clip: ClipEncoder


@dataclass(frozen=True)
class RegionRequest:
    """What is asked for.

    Attributes:
        caption: what the image shows. prompt: what it should show.
        edit_prompt: what the editor draws in a box; None is the prompt, and where a word was localized,
            without the objects listed beside what it became.
        word: of the caption, which is localized, so that only boxes in its region are edited. "auto": the one
            noun that the prompt changes, unless anchors or sizes are random. "none": all boxes, as published.
        proposals, learning, plan: the settings of the stages.

    Raises ValueError for an empty word or edit prompt.
    """

    caption: str
    prompt: str
    edit_prompt: str | None = None
    word: str = AUTO
    proposals: ProposalSettings = field(default_factory=ProposalSettings)
    learning: LearningSettings = field(default_factory=LearningSettings)
    plan: EditPlan = DEFAULT_PLAN

    def __post_init__(self) -> None:
        if not self.word.strip():
            raise ValueError(f"word: got {self.word!r}, requires a word of the caption, auto or none")
        if self.edit_prompt is not None and not self.edit_prompt.strip():
            raise ValueError(f"edit prompt is empty: got {self.edit_prompt!r}, requires what to draw in a box")

    @classmethod
    def from_options(cls, caption: str, prompt: str, **options: Any) -> RegionRequest:
        """A request from options by name: its own, and those of `ProposalSettings` and `LearningSettings`.

        `seed` is that of both. Options that are of neither are not read.
        """

        def made(kind: Any) -> Any:
            return kind(**{one.name: options[one.name] for one in fields(kind) if one.name in options})

        own = {name: options[name] for name in ("edit_prompt", "word", "plan") if name in options}
        return cls(caption, prompt, **own, proposals=made(ProposalSettings), learning=made(LearningSettings))

    @property
    def localizes(self) -> bool:
        return self.word != NONE and not (self.word == AUTO and self.proposals.random)


@dataclass(frozen=True, eq=False)
class FoundRegions:
    """The edits, where their word is if one was localized, the editor's prompt, and the stages' settings."""

    edit: RegionEdit
    located: Located | None
    edit_prompt: str
    proposals: ProposalSettings
    plan: EditPlan


def edit_region(
    image: Tensor, networks: RegionNetworks, request: RegionRequest, *, tracker: CostTracker | None = None
) -> FoundRegions:
    """Edit `image` (1, 3, H, W) in the boxes that are learned to be good, and rank the edits.

    Raises ValueError for a word that the caption lacks, one that the prompt leaves as it is while it changes
    others, and one that there is no model to localize; for a text that the editor would cut; and as
    `propose_regions` and `learn_regions` do.
    """
    tracker = tracker if tracker is not None else CostTracker()
    editor, reader, clip = networks.editor, networks.reader, networks.clip
    edit_prompt = request.edit_prompt or request.prompt
    editor.check_prompt(edit_prompt, "prompt" if request.edit_prompt is None else "edit prompt")
    word = _word(networks, request)
    with tracker.stage("features"):
        features = networks.vision.look(image)
        settings = spaced(request.proposals, features)
        proposals = propose_regions(features, settings)
    located = region_mask = None
    if word is not None and reader is not None:
        texts = request.caption, request.prompt
        found = None if word == AUTO else word
        located = locate_changed(reader, networks.vision, clip, image, texts, word=found, tracker=tracker)
    if located is not None and reader is not None:
        region_mask = located.mask(proposals.size)
        with tracker.stage("features"):
            settings = spaced(request.proposals, features, region_known=True)
            proposals = propose_regions(features, settings)
        if request.edit_prompt is None and editor.prompt_mode == "region":
            edit_prompt = edit_prompt_for(reader.tokenizer, request.caption, request.prompt, located.word)
    task = RegionTask(image, request.caption, request.prompt, edit_prompt)
    search = BudgetedSearch(request.plan, region_mask)
    scores = learn_regions(task, proposals, features, editor, clip, request.learning, search=search, tracker=tracker)
    return FoundRegions(choose(scores, clip, tracker=tracker), located, edit_prompt, settings, request.plan)


def _word(networks: RegionNetworks, request: RegionRequest) -> str | None:
    """The word to localize, or AUTO; None where none is, and for AUTO where there is no model to do it."""
    reader = networks.reader
    if not request.localizes or (request.word == AUTO and reader is None):
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
