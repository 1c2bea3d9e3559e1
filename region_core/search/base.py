"""The hooks by which a search for boxes extends Learnable Regions; by themselves they do what is published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...locinv_core.cost import CostTracker
from ..proposals import PixelBox, RegionProposals, pixel_box
from .edit_cache import BoxEdits

if TYPE_CHECKING:
    from ..scorer import Candidate
    from ..trainer import RegionScores

EDITS_STAGE = "edits for learning"
JUDGE_STAGE = "judging"

Loss = Callable[[Tensor], Tensor]
"""Images (B, 3, H, W) to the loss of Learnable Regions Eq. 3, (B,)."""


@dataclass(frozen=True, eq=False)
class BoxPrior:
    """What is known of the boxes before any edit.

    considered: (K, M) bool, the boxes that are considered at all. added: (K, M) float32, what is added to each
    box's loss. in_region: for each anchor, whether it has boxes in the region that was given; None where none
    was. region_box: around the region, with some room.
    """

    considered: Tensor
    added: Tensor
    in_region: tuple[bool, ...] | None = None
    region_box: PixelBox | None = None

    @classmethod
    def flat(cls, proposals: RegionProposals) -> BoxPrior:
        """All boxes considered, and nothing added to their losses."""
        added = torch.zeros(proposals.k, proposals.m)
        return cls(torch.ones_like(added, dtype=torch.bool), added)


@dataclass(frozen=True, eq=False)
class Judgement:
    """Each box's loss when it was last judged, (K, M) float32, nan where it never was; and the boxes that may
    still be chosen, (K, M) bool."""

    losses: Tensor
    considered: Tensor


@dataclass(frozen=True)
class FinalEdit:
    """The edit that stands for an anchor in the end; as published, in full in the anchor's own chosen box.

    source_anchor: whose chosen box it is in; None for the box around a region. variant: 0 for the editor's edit as it
    is. full: with all of the editor's steps; else as learning has made it. in_region: in the region, if one was given.
    """

    box: PixelBox
    source_anchor: int | None
    variant: int = 0
    full: bool = True
    in_region: bool = True


class BoxSearch:
    """Which boxes are considered, how they are judged, and which edits are ranked in the end.

    As published: all boxes; an edit in full of each that is drawn; each anchor's chosen box.
    """

    steps: int | None = None
    """Of the edits that boxes are judged by; None is the editor's own number."""
    judges_first: bool = False
    """Whether boxes are judged before learning even where learning edits those that it draws."""

    def prior(self, proposals: RegionProposals) -> BoxPrior:
        return BoxPrior.flat(proposals)

    def judge(
        self, proposals: RegionProposals, edits: BoxEdits, loss: Loss, prior: BoxPrior, tracker: CostTracker
    ) -> Judgement:
        """The losses of all boxes that are considered, before learning."""
        losses = judge_round(proposals, edits, loss, prior, prior.considered, tracker, self.steps)
        return Judgement(losses, prior.considered)

    def final_edits(self, scores: RegionScores) -> list[FinalEdit]:
        """For each anchor, the edit that is ranked."""
        return [FinalEdit(box, index) for index, box in enumerate(chosen_boxes(scores))]

    def precedence(self, candidate: Candidate) -> tuple[bool, ...]:
        """What ranks candidates before their S does; lower comes first."""
        return ()


def judge_round(
    proposals: RegionProposals,
    edits: BoxEdits,
    loss: Loss,
    prior: BoxPrior,
    considered: Tensor,
    tracker: CostTracker,
    steps: int | None = None,
    *,
    stand_in: bool = False,
) -> Tensor:
    """The losses (K, M) of the boxes that are considered, each edited once with so many steps; nan elsewhere.

    stand_in: one unmasked edit seen through each box, in place of an edit of each.
    """
    boxes = proposals.pixel_boxes()
    cells = considered.nonzero().tolist()
    distinct = list(dict.fromkeys(boxes[i][j] for i, j in cells))
    found: dict[PixelBox, float] = {}
    for first in range(0, len(distinct), edits.batch):
        part = distinct[first : first + edits.batch]
        with tracker.stage(EDITS_STAGE):
            images = (edits.standing_in if stand_in else edits.edited)(part, steps, tracker=tracker)
        with tracker.stage(JUDGE_STAGE), torch.no_grad():
            found.update(zip(part, loss(images).tolist(), strict=True))
            tracker.report(first + len(part), len(distinct))
    losses = torch.full((proposals.k, proposals.m), torch.nan)
    for i, j in cells:
        losses[i, j] = found[boxes[i][j]] + float(prior.added[i, j])
    return losses


def chosen_boxes(scores: RegionScores) -> Sequence[PixelBox]:
    """The chosen box of each anchor in whole pixels."""
    return [pixel_box(box, scores.proposals.size) for box in scores.boxes]
