"""Judging boxes by an edit plan, without editing every one of them in full; what a plan costs.

The published code edits afresh at every iteration, about 9,000 NFE an image. Here an edit is
made once, and a plan says how many steps it gets and which boxes get any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...locinv_core.cost import CostTracker
from ..proposals import PixelBox, RegionProposals
from .edit_cache import BoxEdits
from .plans import EditPlan

EDITS_STAGE = "edits for learning"
JUDGE_STAGE = "judging"


@dataclass(frozen=True, eq=False)
class BoxPrior:
    """What is known of the boxes before any edit."""

    in_play: Tensor
    """(K, M) bool: the boxes that are considered at all."""
    added: Tensor
    """(K, M) float32: what is added to each box's loss."""
    near: tuple[bool, ...] | None = None
    """For each anchor, whether it has boxes near the place that was given; None where none was."""
    place: PixelBox | None = None
    """The box around the place, with some room."""

    @classmethod
    def unplaced(cls, proposals: RegionProposals) -> BoxPrior:
        """All boxes in play, and nothing added to their losses."""
        added = torch.zeros(proposals.k, proposals.m)
        return cls(torch.ones_like(added, dtype=torch.bool), added)


@dataclass(frozen=True, eq=False)
class Judgement:
    """What the rounds found."""

    losses: Tensor
    """(K, M) float32: each box's loss in the last round that it was in; nan where it was in none."""
    in_play: Tensor
    """(K, M) bool: the boxes that every round has kept."""


def judge_boxes(
    plan: EditPlan,
    proposals: RegionProposals,
    edits: BoxEdits,
    loss: Callable[[Tensor], Tensor],
    *,
    box_prior: BoxPrior | None = None,
    tracker: CostTracker | None = None,
) -> Judgement:
    """Go through the plan's rounds; `loss` maps images (B, 3, H, W) to (B,).

    box_prior: None has all boxes in play and adds nothing to their losses. Boxes that clipping has made the
    same are edited and judged once.
    """
    tracker = tracker or CostTracker()
    boxes = proposals.pixel_boxes()
    losses = torch.full((proposals.k, proposals.m), math.nan)
    box_prior = box_prior or BoxPrior.unplaced(proposals)
    in_play = box_prior.in_play
    for turn in plan.rounds:
        found: dict[PixelBox, float] = {}
        wanted = list(dict.fromkeys(boxes[i][j] for i, j in in_play.nonzero().tolist()))
        for first in range(0, len(wanted), edits.batch):
            part = wanted[first : first + edits.batch]
            with tracker.stage(EDITS_STAGE):
                make = edits.standing_in if turn.stand_in else edits.edited
                images = make(part, turn.steps, tracker=tracker)
            with tracker.stage(JUDGE_STAGE), torch.no_grad():
                found.update(zip(part, loss(images).tolist(), strict=True))
                tracker.report(first + len(part), len(wanted))
        for i, j in in_play.nonzero().tolist():
            losses[i, j] = found[boxes[i][j]] + float(box_prior.added[i, j])
        in_play = torch.stack([_kept(row, losses[i], in_play[i], turn.keep) for i, row in enumerate(boxes)])
    return Judgement(losses, in_play)


def forecast(
    plan: EditPlan,
    proposals: RegionProposals,
    cost: Callable[[int | None], float],
    *,
    learned: bool = True,
    in_play: Tensor | None = None,
) -> float:
    """NFE that the plan and its final edits need at most; `cost` is of one edit, by steps.

    learned: False leaves the rounds out, as for boxes that there is nothing to choose from. in_play: (K, M)
    bool, the boxes that are considered at all; None is all of them.
    """
    boxes = proposals.pixel_boxes()
    if in_play is not None:
        rows = zip(boxes, in_play.tolist(), strict=True)
        boxes = [[box for box, alive in zip(row, kept, strict=True) if alive] for row, kept in rows]
    distinct = len({box for row in boxes for box in row})
    left = [len(set(row)) for row in boxes]
    edited: dict[int | None, int] = {}
    for turn in plan.rounds if learned else ():
        count = 1 if turn.stand_in else min(distinct, sum(left))
        edited[turn.steps] = edited.get(turn.steps, 0) + count
        left = [math.ceil(count * turn.keep) for count in left]
    final_count = min(len(boxes), plan.final_count or len(boxes))
    own = plan.rounds[-1]
    if not (learned and own.steps is None and not own.stand_in):
        edited[None] = edited.get(None, 0) + final_count
    return sum(count * cost(steps) for steps, count in edited.items())


def _kept(boxes: Sequence[PixelBox], losses: Tensor, in_play: Tensor, keep: float) -> Tensor:
    """Which boxes of an anchor stay in play, (M,) bool; boxes that are the same share their fate."""
    alive = [j for j in torch.argsort(losses, stable=True).tolist() if in_play[j]]
    distinct = list(dict.fromkeys(boxes[j] for j in alive))
    best = set(distinct[: math.ceil(len(distinct) * keep)])
    return torch.tensor([bool(in_play[j]) and box in best for j, box in enumerate(boxes)])
