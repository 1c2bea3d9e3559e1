"""Edit plans: how the boxes are judged for learning without editing every one of them in full.

The published code edits afresh at every iteration, about 9,000 NFE an image. Here an edit is
made once, and a plan says how many steps it gets and which boxes get any.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...locinv_core.cost import CostTracker
from ..proposals import PixelBox, RegionProposals
from .edit_cache import BoxEdits

EDITS_STAGE = "edits for learning"
JUDGE_STAGE = "judging"


@dataclass(frozen=True)
class Round:
    """One round of judging: the boxes still in play are edited, and the best of each anchor stay in play.

    steps: the editor's steps; None is its own full number. stand_in: one unmasked edit of that many steps is
    seen through every box, in place of an edit of each. keep: the share of an anchor's distinct boxes that
    stay in play, rounded up.
    """

    steps: int | None = None
    keep: float = 1.0
    stand_in: bool = False

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps of a round: got {self.steps}, requires 1 or more")
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep of a round: got {self.keep}, requires a share above 0 and up to 1")


@dataclass(frozen=True)
class EditPlan:
    """The rounds that boxes are judged in, and how many anchors' chosen boxes are then edited in full.

    finalists: None edits every anchor's. With a number, so many boxes are edited in full, those that were
    judged to have the least loss, and the others keep the edit that they were judged by.
    """

    name: str
    rounds: tuple[Round, ...]
    finalists: int | None = None

    def __post_init__(self) -> None:
        if not self.rounds:
            raise ValueError(f"plan {self.name!r}: got no round, requires at least one")
        if self.finalists is not None and self.finalists < 1:
            raise ValueError(f"finalists: got {self.finalists}, requires 1 or more")

    def with_finalists(self, finalists: int | None) -> EditPlan:
        """The same plan with another number of finalists; None leaves its own."""
        return self if finalists is None else replace(self, finalists=finalists)


PLANS: Mapping[str, EditPlan] = {
    plan.name: plan
    for plan in (
        # Every box in full.
        EditPlan("full", (Round(),)),
        # Every box with few steps.
        EditPlan("preview", (Round(steps=3),)),
        # The same, and only the two boxes of least loss in full.
        EditPlan("shortlist", (Round(steps=3),), finalists=2),
        # One unmasked edit stands in for every box.
        EditPlan("stand-in", (Round(stand_in=True),)),
        # Successive halving: half of the boxes, twice the steps.
        EditPlan("halving", (Round(steps=2, keep=0.5), Round(steps=4))),
        # The stand-in drops half of the boxes, and the rest have a preview of their own.
        EditPlan("screened", (Round(stand_in=True, keep=0.5), Round(steps=4))),
    )
}


def plan_named(name: str) -> EditPlan:
    """The plan called `name`. Raises ValueError, listing the plans, for another name."""
    if name not in PLANS:
        raise ValueError(f"plan: got {name!r}, requires one of {', '.join(PLANS)}")
    return PLANS[name]


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

    outset: None has all boxes in play and adds nothing to their losses. Boxes that clipping has made the
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
    """NFE that the plan and its finalists need at most; `cost` is of one edit, by steps.

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
    finalists = min(len(boxes), plan.finalists or len(boxes))
    own = plan.rounds[-1]
    if not (learned and own.steps is None and not own.stand_in):
        edited[None] = edited.get(None, 0) + finalists
    return sum(count * cost(steps) for steps, count in edited.items())


def _kept(boxes: Sequence[PixelBox], losses: Tensor, in_play: Tensor, keep: float) -> Tensor:
    """Which boxes of an anchor stay in play, (M,) bool; boxes that are the same share their fate."""
    alive = [j for j in torch.argsort(losses, stable=True).tolist() if in_play[j]]
    distinct = list(dict.fromkeys(boxes[j] for j in alive))
    best = set(distinct[: math.ceil(len(distinct) * keep)])
    return torch.tensor([bool(in_play[j]) and box in best for j, box in enumerate(boxes)])
