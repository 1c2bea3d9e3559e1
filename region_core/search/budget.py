"""Searching on a budget: boxes are judged in the rounds of an edit plan, those in a region alone if one is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...locinv_core.cost import CostTracker
from ..proposals import PixelBox, RegionProposals
from .base import BoxPrior, BoxSearch, FinalEdit, Judgement, Loss, judge_round
from .box_prior import region_prior
from .edit_cache import BoxEdits
from .plans import PLANS, EditPlan
from .variants import budgeted_edits

if TYPE_CHECKING:
    from ..scorer import Candidate
    from ..trainer import RegionScores

DEFAULT_PLAN = PLANS["preview"]


@dataclass(frozen=True, eq=False)
class BudgetedSearch(BoxSearch):
    """A search that judges boxes as `plan` says, and edits only in `region_mask` if one is given.

    region_mask: (H, W) from 0 to 1, where the object to be edited is; see `box_prior`. An anchor without a box in
    the region has a further variant of another's edit.
    """

    plan: EditPlan = DEFAULT_PLAN
    region_mask: Tensor | None = None

    @property
    def steps(self) -> int | None:  # type: ignore[override]
        return self.plan.rounds[-1].steps

    @property
    def judges_first(self) -> bool:  # type: ignore[override]
        return len(self.plan.rounds) > 1 or self.plan.rounds[0].stand_in

    def prior(self, proposals: RegionProposals) -> BoxPrior:
        """The boxes in the region. Raises ValueError for a mask of another size than the image, or empty."""
        return BoxPrior.flat(proposals) if self.region_mask is None else region_prior(proposals, self.region_mask)

    def judge(
        self, proposals: RegionProposals, edits: BoxEdits, loss: Loss, prior: BoxPrior, tracker: CostTracker
    ) -> Judgement:
        """The plan's rounds: each judges the boxes that the one before has kept."""
        losses = torch.full((proposals.k, proposals.m), math.nan)
        considered, boxes = prior.considered, proposals.pixel_boxes()
        for turn in self.plan.rounds:
            found = judge_round(proposals, edits, loss, prior, considered, tracker, turn.steps, stand_in=turn.stand_in)
            losses = torch.where(considered, found, losses)
            rows = zip(boxes, losses, considered, strict=True)
            considered = torch.stack([_kept(*row, turn.keep) for row in rows])
        return Judgement(losses, considered)

    def final_edits(self, scores: RegionScores) -> list[FinalEdit]:
        """Edits in full of as many boxes as the plan says; see `variants.budgeted_edits`."""
        return budgeted_edits(scores, self.plan.final_count)

    def precedence(self, candidate: Candidate) -> tuple[bool, ...]:
        """Edits in the region before any other, and then edits in full."""
        return not candidate.edit.in_region, not candidate.final

    def judging_cost(self, proposals: RegionProposals, cost: Callable[[int | None], float]) -> float:
        """NFE that judging the boxes needs, without the final edits; `cost` is of one edit, by steps."""
        if proposals.m == 1:
            return 0.0
        rows = zip(proposals.pixel_boxes(), self.prior(proposals).considered.tolist(), strict=True)
        boxes = [{box for box, kept in zip(row, alive, strict=True) if kept} for row, alive in rows]
        left = [len(row) for row in boxes]
        total = 0.0
        for turn in self.plan.rounds:
            count = 1 if turn.stand_in else min(len(set().union(*boxes)), sum(left))
            total += count * cost(turn.steps)
            left = [math.ceil(kept * turn.keep) for kept in left]
        return total


def _kept(boxes: Sequence[PixelBox], losses: Tensor, considered: Tensor, keep: float) -> Tensor:
    """Which boxes of an anchor a round keeps, (M,) bool; boxes that are the same share their fate."""
    alive = [j for j in torch.argsort(losses, stable=True).tolist() if considered[j]]
    distinct = list(dict.fromkeys(boxes[j] for j in alive))
    best = set(distinct[: math.ceil(len(distinct) * keep)])
    return torch.tensor([bool(considered[j]) and box in best for j, box in enumerate(boxes)])
