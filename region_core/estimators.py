"""The two estimators of the gradient that the region network learns by (paper §3.1; DESIGN §3).

`straight-through` is the paper's: draw a box by Gumbel-softmax, edit in it, and take the loss's gradient
through the mask that composites edit and source. `expected` is exact: there are only M choices an anchor, so
the expectation Σ π_j·L_j is a sum, once each has been judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..locinv_core.cost import CostTracker
from .proposals import PixelBox, RegionProposals, box_masks
from .region_network import gumbel_choice
from .search.budget import EDITS_STAGE, Judgement
from .search.edit_cache import BoxEdits

Objective = Callable[[Tensor, float], tuple[Tensor, float]]
"""Logits (K, M) and the share of the steps done, to what Adam minimises () and the loss of Eq. 3."""


def expected_loss(logits: Tensor, losses: Tensor) -> Tensor:
    """Σ_j π_j·L_j with π = Softmax(logits), mean over anchors: (K, M) and (K, M) to (); exact.

    A box whose logit is −inf has no part in it, whatever its loss.
    """
    probabilities = F.softmax(logits, dim=-1)
    return torch.where(probabilities > 0, probabilities * losses, 0.0).sum(dim=-1).mean()


def straight_through_image(choice: Tensor, images: Tensor) -> Tensor:
    """X_o = Σ_j y_j·X_j for choices (K, M) among images (K, M, 3, H, W): (K, 3, H, W), differentiable in y.

    With X_j = m_j·edit + (1 − m_j)·source this is m·edit + (1 − m)·source for the mask m = Σ_j y_j·m_j.
    Forward, y is one-hot, and X_o the image of the box that was drawn.
    """
    return torch.einsum("km,kmchw->kchw", choice, images)


def straight_through_losses(drawn: Tensor, images: Tensor, loss: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
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


def in_play_only(logits: Tensor, in_play: Tensor) -> Tensor:
    """Logits (K, M) with −inf for the boxes that a plan has dropped."""
    return logits.masked_fill(~in_play.to(logits.device), -math.inf)


class Expected:
    """Σ π_j·L_j over the boxes in play, with a reward for the scores' entropy that fades to nothing.

    exploration: the reward at the start, in deviations of the boxes' losses.
    """

    def __init__(self, judged: Judgement, exploration: float) -> None:
        self.in_play, self.losses = judged.in_play, judged.losses.nan_to_num()
        spread = judged.losses[judged.in_play]
        self.exploration = exploration * float(spread.std()) if len(spread) > 1 else 0.0

    def __call__(self, logits: Tensor, done: float) -> tuple[Tensor, float]:
        """What is minimised, and the expected loss."""
        in_play = in_play_only(logits, self.in_play)
        loss = expected_loss(in_play, self.losses.to(logits))
        log_scores = F.log_softmax(in_play, dim=-1)
        # What is out of play has a score of 0 and a logarithm of −inf, and no part in the entropy.
        finite = log_scores.masked_fill(~self.in_play.to(logits.device), 0.0)
        entropy = -(log_scores.exp() * finite).sum(dim=-1).mean()
        return loss - self.exploration * (1 - done) * entropy, float(loss.detach())


class StraightThrough:
    """Draws a box for each anchor, edits what was drawn (each box once), and learns through the mask.

    The gradient is a linear guess at boxes that were not drawn, and a poor one at boxes much larger or
    smaller: a mask that paints a box half right says to paint everything. With `remember`, a box that has
    been drawn before, and so judged, has its own loss in place of the guess. `added` (K, M) is part of the
    boxes' losses that their edits have no say in. `lazy`: boxes are edited, with `steps`, when they are
    drawn; otherwise `judged` has every box in play.
    """

    def __init__(
        self,
        proposals: RegionProposals,
        edits: BoxEdits,
        loss: Callable[[Tensor], Tensor],
        judged: Judgement,
        added: Tensor,
        *,
        temperature: float,
        remember: bool,
        lazy: bool,
        steps: int | None,
        seed: int,
        tracker: CostTracker,
    ) -> None:
        self.boxes, self.edits, self.loss, self.judged = proposals.pixel_boxes(), edits, loss, judged
        self.added = added
        self.temperature, self.remember, self.lazy, self.steps = temperature, remember, lazy, steps
        self.generator, self.run = torch.Generator().manual_seed(seed), tracker

    def __call__(self, logits: Tensor, done: float) -> tuple[Tensor, float]:
        """What is minimised, and the drawn boxes' loss."""
        in_play = self.judged.in_play
        choice = gumbel_choice(in_play_only(logits, in_play), self.temperature, self.generator)
        drawn = choice.detach().argmax(dim=-1).cpu()
        boxes = [row[j] for row, j in zip(self.boxes, drawn.tolist(), strict=True)]
        if self.lazy:
            with self.run.stage(EDITS_STAGE):
                self.edits.edited(boxes, self.steps, tracker=self.run)
        known = self.judged.losses
        if not (self.remember and bool((known.isfinite() | ~in_play).all())):
            images = torch.stack([self._images(row, box) for row, box in zip(self.boxes, boxes, strict=True)])
            losses, guesses = straight_through_losses(drawn.to(images.device), images, self.loss)
            losses = losses + self.added.gather(1, drawn[:, None])[:, 0].to(losses)
            guesses = guesses + self.added.to(guesses)
            self._learn_of(boxes, losses.tolist())
            estimates = torch.where(known.isfinite(), known, guesses.cpu()) if self.remember else guesses
            loss = float(losses.mean())
        else:
            estimates, loss = known.nan_to_num(), float(known.gather(1, drawn[:, None]).mean())
        return (choice * estimates.to(choice)).sum(dim=-1).mean(), loss

    def _learn_of(self, boxes: list[PixelBox], losses: list[float]) -> None:
        found = dict(zip(boxes, losses, strict=True))
        for i, row in enumerate(self.boxes):
            for j, box in enumerate(row):
                if self.lazy and box in found:
                    self.judged.losses[i, j] = found[box]

    def _images(self, boxes: list[PixelBox], drawn: PixelBox) -> Tensor:
        """X_j for each box of an anchor, (M, 3, H, W); a box without an edit shows the drawn box's through
        its own mask."""
        edit = self.edits.best(drawn)
        assert edit is not None
        source = self.edits.image[0]
        masks = box_masks(boxes, self.edits.size).to(source)
        known = [self.edits.best(box) for box in boxes]
        return torch.stack(
            [
                torch.where(mask > 0, edit, source) if own is None else own
                for own, mask in zip(known, masks, strict=True)
            ]
        )
