"""Edit plans: which edits boxes are judged by for learning, and how many are edited in full in the end.

The published code edits afresh at every iteration, about 9,000 NFE an image. Nothing here needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace


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

    final_count: None edits every anchor's. With a number, so many boxes are edited in full, those that were
    judged to have the least loss, and the others keep the edit that they were judged by.
    """

    name: str
    rounds: tuple[Round, ...]
    final_count: int | None = None

    def __post_init__(self) -> None:
        if not self.rounds:
            raise ValueError(f"plan {self.name!r}: got no round, requires at least one")
        if self.final_count is not None and self.final_count < 1:
            raise ValueError(f"finalists: got {self.final_count}, requires 1 or more")

    def with_final_count(self, final_count: int | None) -> EditPlan:
        """The same plan with another number of final edits; None leaves its own."""
        return self if final_count is None else replace(self, final_count=final_count)


PLANS: Mapping[str, EditPlan] = {
    plan.name: plan
    for plan in (
        EditPlan("full", (Round(),)),  # every box in full
        EditPlan("preview", (Round(steps=3),)),  # every box with few steps
        EditPlan("shortlist", (Round(steps=3),), final_count=2),  # and only the two boxes of least loss in full
        EditPlan("stand-in", (Round(stand_in=True),)),  # one unmasked edit stands in for every box
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
