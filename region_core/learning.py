"""Learning which box of each anchor the edit should use (paper §3.1 and §3.2).

Two estimators of the gradient, behind one switch. `straight-through` is the paper's: draw a box by
Gumbel-softmax, edit in it, and send the loss's gradient back through the mask. `expected` is exact: there are
only M choices an anchor, so the expectation Σ π_j·L_j over all of them is a sum, once each has an edit.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from ..locinv_core.run import Run
from .budget import EDITS_STAGE, PLANS, EditPlan, Judgement, judge_boxes
from .edit_cache import BoxEdits
from .features import PatchFeatures
from .guidance import CompositeLoss, Crops, GuidanceWeights, Guide
from .proposals import PixelBox, RegionProposals, box_masks, roi_features
from .region_network import RegionNetwork, gumbel_choice

if TYPE_CHECKING:
    from .editors import Editor

Estimator = Literal["expected", "straight-through"]
ESTIMATORS: tuple[str, ...] = get_args(Estimator)
LEARN_STAGE = "learning"

Objective = Callable[[Tensor, float], tuple[Tensor, float]]
"""Logits (K, M) and the share of the steps done, to what Adam minimises () and the loss of Eq. 3."""
DEFAULT_PLAN = PLANS["screened"]


@dataclass(frozen=True)
class LearningSettings:
    """How the network is trained: Adam at `lr` for `epochs` of `iterations` steps, all K anchors in each.

    The paper has 5 epochs at 3e-3, the published code 10 iterations an epoch. `temperature` is
    Gumbel-softmax's, for `straight-through` alone. `exploration` is for `expected` alone: the softmax scores'
    entropy is rewarded by so many deviations of the boxes' losses, less at each step and not at all at the
    end. Without it (0, the paper's loss) the anchors run together to whichever box is good for most of them
    and stay there. `seed` fixes the network's first weights, the draws and the editor's noise.
    """

    epochs: int = 5
    lr: float = 3e-3
    iterations: int = 10
    estimator: Estimator = "expected"
    temperature: float = 1.0
    exploration: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, wants 1 or more")
        for name in ("lr", "temperature"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: got {value}, wants a number above 0")
        if not (math.isfinite(self.exploration) and self.exploration >= 0):
            raise ValueError(f"exploration: got {self.exploration}, wants a number, 0 or more")
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator: got {self.estimator!r}, wants one of {', '.join(ESTIMATORS)}")

    @property
    def steps(self) -> int:
        """Adam's steps in all."""
        return self.epochs * self.iterations


@dataclass(frozen=True, eq=False)
class RegionScores:
    """What was learned about the boxes of one picture."""

    proposals: RegionProposals
    logits: Tensor
    """(K, M) π, float32; −inf for a box that the plan has dropped."""
    losses: Tensor
    """(K, M) float32: each box's loss where it was last judged; nan where it never was."""
    loss_curve: tuple[float, ...]
    """The loss at each of Adam's steps, mean over anchors."""
    chosen: tuple[int, ...]
    """For each anchor, the box of the highest softmax score."""
    network: dict[str, Tensor]
    """The region network's weights."""
    plan: EditPlan
    edits: BoxEdits = field(repr=False)
    """The edits made so far, which choosing goes on with."""

    @property
    def probabilities(self) -> Tensor:
        """Softmax([π_1, …, π_M]) of each anchor, (K, M)."""
        return F.softmax(self.logits, dim=-1)

    @property
    def boxes(self) -> Tensor:
        """The chosen box of each anchor, (K, 4) in pixels."""
        return self.proposals.boxes[torch.arange(self.proposals.k), torch.tensor(self.chosen)]


def learn_regions(
    image: Tensor,
    proposals: RegionProposals,
    features: PatchFeatures,
    editor: Editor,
    guide: Guide,
    *,
    caption: str,
    prompt: str,
    epochs: int = 5,
    lr: float = 3e-3,
    iterations: int = 10,
    estimator: Estimator = "expected",
    temperature: float = 1.0,
    exploration: float = 1.0,
    seed: int = 0,
    plan: EditPlan = DEFAULT_PLAN,
    weights: GuidanceWeights | None = None,
    crops: Crops | None = None,
    batch: int = 8,
    run: Run | None = None,
) -> RegionScores:
    """Train a region network on `image` (1, 3, H, W) and choose a box for each anchor.

    caption: T_ROI, what the source shows where the edit belongs. prompt: T, what it is to become. The other
    arguments are those of `LearningSettings`, `EditPlan`, `GuidanceWeights` and `Crops`; `batch` is how many
    boxes are edited at a time. With one box an anchor there is nothing to learn, and nothing is edited.
    Raises ValueError, before any work, for texts that CLIP would cut, proposals or features of another
    picture, and settings out of bounds.
    """
    settings = LearningSettings(epochs, lr, iterations, estimator, temperature, exploration, seed)
    _check_picture(image, proposals, features)
    run = run or Run()
    with torch.inference_mode(False), torch.enable_grad():
        # What comes from a caller's inference mode (ComfyUI's) could not take part in a gradient.
        image = image.detach().to(guide.device, torch.float32).clone()
        loss = CompositeLoss(guide, image, prompt, caption, weights or GuidanceWeights(), crops or Crops())
        edits = BoxEdits(editor, image, prompt, seed, batch=batch)
        maps = standardised(features.features.detach().to(image).clone())
        pooled = roi_features(maps, proposals.boxes, proposals.patch)  # Eq. 1
        network = RegionNetwork(maps.shape[0], proposals.m, seed=seed).to(image.device)
        judged = _unjudged(proposals)
        curve: list[float] = []
        if proposals.m > 1:
            # Straight-through edits only in the boxes that it draws, unless the plan has to see all of them.
            lazy = estimator == "straight-through" and plan.rounds[1:] == () and not plan.rounds[0].stand_in
            if not lazy:
                judged = judge_boxes(plan, proposals, edits, loss, run=run)
            steps = plan.rounds[-1].steps if lazy else None
            objective: Objective = (
                _Expected(judged, settings)
                if estimator == "expected"
                else _StraightThrough(proposals, edits, loss, judged, settings, steps, lazy, run)
            )
            curve = train_network(network, pooled, objective, settings, run=run)
        with torch.no_grad():
            logits = _in_play(network(pooled), judged.in_play).float().cpu()
    return RegionScores(
        proposals=proposals,
        logits=logits,
        losses=judged.losses,
        loss_curve=tuple(curve),
        chosen=tuple(logits.argmax(dim=-1).tolist()),
        network={name: weight.detach().cpu() for name, weight in network.state_dict().items()},
        plan=plan,
        edits=edits,
    )


def train_network(
    network: RegionNetwork,
    pooled: Tensor,
    objective: Objective,
    settings: LearningSettings,
    *,
    run: Run | None = None,
) -> list[float]:
    """Adam on `objective`; returns the loss of Eq. 3 at each step.

    pooled: (K, M·d, 7, 7), [f_1 … f_M] of each anchor.
    """
    run = run or Run()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    curve = []
    for step in range(settings.steps):
        minimised, loss = objective(network(pooled), step / settings.steps)  # Eq. 2, then Eq. 3
        optimizer.zero_grad()
        minimised.backward()
        optimizer.step()
        curve.append(loss)
        with run.stage(LEARN_STAGE):
            run.report(step + 1, settings.steps)
    return curve


def expected_loss(logits: Tensor, losses: Tensor) -> Tensor:
    """Σ_j π_j·L_j with π = Softmax(logits), mean over anchors: (K, M) and (K, M) to (); exact.

    A box whose logit is −inf has no part in it, whatever its loss.
    """
    probabilities = F.softmax(logits, dim=-1)
    return torch.where(probabilities > 0, probabilities * losses, 0.0).sum(dim=-1).mean()


def straight_through_image(choice: Tensor, pictures: Tensor) -> Tensor:
    """X_o = Σ_j y_j·X_j for choices (K, M) among pictures (K, M, 3, H, W): (K, 3, H, W), differentiable in y.

    With X_j = m_j·edit + (1 − m_j)·source this is m·edit + (1 − m)·source for the mask m = Σ_j y_j·m_j.
    Forward, y is one-hot, and X_o the picture of the box that was drawn.
    """
    return torch.einsum("km,kmchw->kchw", choice, pictures)


def standardised(features: Tensor) -> Tensor:
    """Features (d, h, w) with mean 0 and deviation 1 over the picture, channel by channel."""
    centred = features - features.mean(dim=(1, 2), keepdim=True)
    return centred / centred.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)


class _Expected:
    def __init__(self, judged: Judgement, settings: LearningSettings) -> None:
        self.in_play, self.losses = judged.in_play, judged.losses.nan_to_num()
        spread = judged.losses[judged.in_play]
        self.exploration = settings.exploration * float(spread.std()) if len(spread) > 1 else 0.0

    def __call__(self, logits: Tensor, done: float) -> tuple[Tensor, float]:
        in_play = _in_play(logits, self.in_play)
        loss = expected_loss(in_play, self.losses.to(logits))
        log_scores = F.log_softmax(in_play, dim=-1)
        # What is out of play has a score of 0 and a logarithm of −inf, and no part in the entropy.
        finite = log_scores.masked_fill(~self.in_play.to(logits.device), 0.0)
        entropy = -(log_scores.exp() * finite).sum(dim=-1).mean()
        return loss - self.exploration * (1 - done) * entropy, float(loss.detach())


class _StraightThrough:
    """Draws, edits what was drawn (each box once), and sends the gradient through the composite."""

    def __init__(
        self,
        proposals: RegionProposals,
        edits: BoxEdits,
        loss: CompositeLoss,
        judged: Judgement,
        settings: LearningSettings,
        steps: int | None,
        lazy: bool,
        run: Run,
    ) -> None:
        self.boxes, self.edits, self.loss, self.judged = proposals.pixel_boxes(), edits, loss, judged
        self.temperature, self.steps, self.lazy, self.run = settings.temperature, steps, lazy, run
        self.generator = torch.Generator().manual_seed(settings.seed)

    def __call__(self, logits: Tensor, done: float) -> tuple[Tensor, float]:
        choice = gumbel_choice(
            _in_play(logits, self.judged.in_play), self.temperature, self.generator, hard=True
        )
        drawn = choice.detach().argmax(dim=-1).tolist()
        if self.lazy:
            with self.run.stage(EDITS_STAGE):
                self.edits.edited(
                    [row[j] for row, j in zip(self.boxes, drawn, strict=True)], self.steps, run=self.run
                )
        pictures = torch.stack([self._pictures(row, j) for row, j in zip(self.boxes, drawn, strict=True)])
        losses = self.loss(straight_through_image(choice, pictures))
        if self.lazy:
            for i, j in enumerate(drawn):
                self.judged.losses[i, j] = float(losses[i].detach())
        return losses.mean(), float(losses.detach().mean())

    def _pictures(self, boxes: list[PixelBox], drawn: int) -> Tensor:
        """X_j for each box of an anchor, (M, 3, H, W); a box without an edit shows the drawn box's through
        its own mask."""
        edit = self.edits.best(boxes[drawn])
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


def _in_play(logits: Tensor, in_play: Tensor) -> Tensor:
    return logits.masked_fill(~in_play.to(logits.device), -math.inf)


def _unjudged(proposals: RegionProposals) -> Judgement:
    losses = torch.full((proposals.k, proposals.m), math.nan)
    return Judgement(losses, torch.ones_like(losses, dtype=torch.bool))


def _check_picture(image: Tensor, proposals: RegionProposals, features: PatchFeatures) -> None:
    height, width = proposals.size
    if tuple(image.shape) != (1, 3, height, width):
        raise ValueError(
            f"image: got the shape {tuple(image.shape)}, wants {(1, 3, height, width)} like the"
            " proposals' picture"
        )
    if features.size != proposals.size or features.grid != tuple(proposals.grid):
        raise ValueError(
            f"features: got a grid of {features.grid} on a picture of {features.size}, wants the proposals'"
            f" {tuple(proposals.grid)} on {proposals.size}"
        )
