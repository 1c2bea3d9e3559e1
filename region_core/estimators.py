"""Estimators of the gradient that the region network learns by (Learnable Regions §3.1), and ours.

`StraightThrough` is published; `Expected` is ours and exact: an anchor has only M boxes, so that the expectation
Σ π_j·L_j is a sum, once each has been judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..locinv_core.cost import CostTracker
from .proposals import PixelBox, RegionProposals, box_masks
from .region_network import gumbel_choice
from .search.base import EDITS_STAGE, Judgement, Loss
from .search.edit_cache import BoxEdits

if TYPE_CHECKING:
    from .trainer import LearningSettings

Objective = Callable[[Tensor, float], tuple[Tensor, float]]
"""Logits (K, M), −inf for boxes that are not considered, and the share of the steps done, to what Adam
minimises () and the loss of Learnable Regions Eq. 3."""


class StraightThrough:
    """As published: draws a box for each anchor by Gumbel-softmax, edits in it, and learns through the mask.

    steps: of the edits; None is the editor's own number. A box is edited once, as the noise stays the same.
    """

    def __init__(
        self,
        proposals: RegionProposals,
        edits: BoxEdits,
        loss: Loss,
        settings: LearningSettings,
        steps: int | None = None,
        tracker: CostTracker | None = None,
    ) -> None:
        self.boxes, self.edits, self.loss, self.steps = proposals.pixel_boxes(), edits, loss, steps
        self.temperature, self.generator = settings.temperature, torch.Generator().manual_seed(settings.seed)
        self.tracker = tracker or CostTracker()

    def __call__(self, logits: Tensor, done: float) -> tuple[Tensor, float]:
        """What is minimised, and the drawn boxes' loss."""
        choice = gumbel_choice(logits, self.temperature, self.generator)
        losses, estimates = self.judge(choice.detach().argmax(dim=-1).cpu())
        return (choice * estimates.to(choice)).sum(dim=-1).mean(), float(losses.mean())

    def judge(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Edit in the drawn boxes (K,): their losses (K,), and what the gradient says of every box's (K, M)."""
        self.edit(drawn)
        return self.through_the_mask(drawn)

    def edit(self, drawn: Tensor) -> None:
        with self.tracker.stage(EDITS_STAGE):
            self.edits.edited(self.drawn_boxes(drawn), self.steps, tracker=self.tracker)

    def through_the_mask(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """`straight_through_losses` of the drawn boxes, whose edits are made."""
        boxes = self.drawn_boxes(drawn)
        images = torch.stack([self._images(row, box) for row, box in zip(self.boxes, boxes, strict=True)])
        return straight_through_losses(drawn.to(images.device), images, self.loss)

    def drawn_boxes(self, drawn: Tensor) -> list[PixelBox]:
        """The boxes that are drawn, one of each anchor."""
        return [row[j] for row, j in zip(self.boxes, drawn.tolist(), strict=True)]

    def _images(self, boxes: list[PixelBox], drawn: PixelBox) -> Tensor:
        """X_j for each box of an anchor, (M, 3, H, W); a box without an edit shows the drawn box's through
        its own mask."""
        edit, source = self.edits.best(drawn), self.edits.image[0]
        assert edit is not None
        own = [self.edits.best(box) for box in boxes]
        pairs = zip(own, box_masks(boxes, self.edits.size).to(source), strict=True)
        return torch.stack([torch.where(mask > 0, edit, source) if one is None else one for one, mask in pairs])


class Remembering(StraightThrough):
    """Ours: a box that was judged before has its own loss in place of the gradient's guess.

    The guess is linear, and poor for boxes that are much larger or smaller. Without `remember` the guesses stay.
    added: (K, M), part of the boxes' losses whatever their edits. lazy: boxes are edited when they are drawn; else
    `judged` has them all.
    """

    def __init__(self, *published: Any, judged: Judgement, added: Tensor, lazy: bool, remember: bool) -> None:
        super().__init__(*published)
        self.judged, self.added, self.lazy, self.remember = judged, added, lazy, remember

    def judge(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """As published where a loss is not known; `judged` learns the losses of boxes that were edited."""
        known = self.judged.losses
        if self.lazy:
            self.edit(drawn)
        if self.remember and bool((known.isfinite() | ~self.judged.considered).all()):
            return known.gather(1, drawn[:, None]), known.nan_to_num()
        losses, guesses = self.through_the_mask(drawn)
        losses = losses + self.added.gather(1, drawn[:, None])[:, 0].to(losses)
        guesses = guesses + self.added.to(guesses)
        if self.lazy:
            found = dict(zip(self.drawn_boxes(drawn), losses.tolist(), strict=True))
            for i, row in enumerate(self.boxes):
                for j, box in enumerate(row):
                    known[i, j] = found.get(box, known[i, j])
        return losses, torch.where(known.isfinite(), known, guesses.cpu()) if self.remember else guesses


class Expected:
    """Ours: Σ π_j·L_j over the boxes considered, with a reward for the scores' entropy that fades to nothing.

    exploration: the reward at the start, in deviations of the boxes' losses.
    """

    def __init__(self, judged: Judgement, exploration: float) -> None:
        self.losses = judged.losses.nan_to_num()
        spread = judged.losses[judged.considered]
        self.exploration = exploration * float(spread.std()) if len(spread) > 1 else 0.0

    def __call__(self, logits: Tensor, done: float) -> tuple[Tensor, float]:
        """What is minimised, and the expected loss."""
        loss = expected_loss(logits, self.losses.to(logits))
        log_scores = F.log_softmax(logits, dim=-1)
        # What is not considered has a score of 0 and a logarithm of −inf, and no part in the entropy.
        finite = log_scores.masked_fill(logits == -math.inf, 0.0)
        entropy = -(log_scores.exp() * finite).sum(dim=-1).mean()
        return loss - self.exploration * (1 - done) * entropy, float(loss.detach())


def straight_through_image(choice: Tensor, images: Tensor) -> Tensor:
    """X_o = Σ_j y_j·X_j for choices (K, M) among images (K, M, 3, H, W): (K, 3, H, W), differentiable in y.

    With X_j = m_j·edit + (1 − m_j)·source this is m·edit + (1 − m)·source for the mask m = Σ_j y_j·m_j.
    """
    return torch.einsum("km,kmchw->kchw", choice, images)


def straight_through_losses(drawn: Tensor, images: Tensor, loss: Loss) -> tuple[Tensor, Tensor]:
    """What the gradient through the mask says of every box, from the loss of the drawn ones alone.

    drawn: (K,) long. images: (K, M, 3, H, W), X_j. Returns the drawn boxes' losses (K,) and, for every box,
    L_drawn + ∂L/∂y_j − ∂L/∂y_drawn (K, M), both without gradient. Σ_j y_j times the latter has the gradient
    in y that the loss itself has (up to a constant for each anchor, which a softmax does not feel).
    """
    choice = F.one_hot(drawn, images.shape[1]).to(images).requires_grad_(True)
    losses = loss(straight_through_image(choice, images))
    (slopes,) = torch.autograd.grad(losses.sum(), choice)
    losses = losses.detach()
    return losses, losses[:, None] + slopes - slopes.gather(1, drawn[:, None])


def expected_loss(logits: Tensor, losses: Tensor) -> Tensor:
    """Σ_j π_j·L_j with π = Softmax(logits), mean over anchors: (K, M) and (K, M) to (); exact.

    A box whose logit is −inf has no part in it, whatever its loss.
    """
    probabilities = F.softmax(logits, dim=-1)
    return torch.where(probabilities > 0, probabilities * losses, 0.0).sum(dim=-1).mean()
