"""Learning which box of each anchor to edit in: the region network, trained on one image (Learnable Regions §3).

How the gradient is estimated is chosen in `estimators`, and which boxes are considered and judged by a
`search.base.BoxSearch`, which by itself does what is published.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..locinv_core.cost import CostTracker
from .encoders.clip import ClipEncoder
from .encoders.vit import PatchFeatures
from .estimators import Expected, Objective, Remembering
from .losses import CompositeLoss, Crops, LossWeights
from .options import ESTIMATORS, Estimator
from .proposals import RegionProposals, check_counts, roi_features
from .region_network import RegionNetwork
from .search.base import BoxPrior, BoxSearch, Judgement
from .search.edit_cache import BoxEdits

if TYPE_CHECKING:
    from .editors.base import Editor

LEARN_STAGE = "learning"


@dataclass(frozen=True)
class LearningSettings:
    """How the network is trained: Adam at `lr` for `epochs` of `iterations` steps, all K anchors in each.

    Published are 5 epochs at 3e-3; the published code has 10 iterations an epoch. For `straight-through` alone are
    Gumbel-softmax's `temperature` and `remember`: a box that was drawn before has its known loss in place of the
    gradient's guess (False as published). `exploration` is for `expected` alone: the softmax scores' entropy is
    rewarded by so many deviations of the boxes' losses, less at each step; without it (0, as published) the anchors
    run together. `seed` fixes the network's first weights, the draws and the editor's noise; `batch` is how many
    boxes are edited at a time.
    """

    epochs: int = 5
    lr: float = 3e-3
    iterations: int = 10
    estimator: Estimator = "expected"
    temperature: float = 1.0
    exploration: float = 1.0
    remember: bool = True
    seed: int = 0
    weights: LossWeights = field(default_factory=LossWeights)
    crops: Crops = field(default_factory=Crops)
    batch: int = 8

    def __post_init__(self) -> None:
        check_counts(self, "epochs", "iterations", "batch")
        for name in ("lr", "temperature"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name}: got {value}, requires a number above 0")
        if not (math.isfinite(self.exploration) and self.exploration >= 0):
            raise ValueError(f"exploration: got {self.exploration}, requires a number, 0 or more")
        if self.estimator not in ESTIMATORS:
            raise ValueError(f"estimator: got {self.estimator!r}, requires one of {', '.join(ESTIMATORS)}")

    @property
    def steps(self) -> int:
        return self.epochs * self.iterations


@dataclass(frozen=True, eq=False)
class RegionTask:
    """An image and what it is to become.

    image: X, (1, 3, H, W) in [0, 1]. caption: T_ROI, what it shows where the edit belongs. prompt: T.
    edit_prompt: what the editor draws in a box; None is T, as published, with all that it names.
    """

    image: Tensor
    caption: str
    prompt: str
    edit_prompt: str | None = None

    def edits_and_loss(
        self, editor: Editor, clip: ClipEncoder, settings: LearningSettings
    ) -> tuple[BoxEdits, CompositeLoss]:
        """The image's edits by box, none made yet, and their loss (Learnable Regions Eq. 3), on CLIP's device."""
        # What comes from a caller's inference mode (ComfyUI's) could not take part in a gradient.
        image = self.image.detach().to(clip.device, torch.float32).clone()
        loss = CompositeLoss(clip, image, self.prompt, self.caption, settings.weights, settings.crops)
        edits = BoxEdits(editor, image, self.prompt, settings.seed, edit_prompt=self.edit_prompt, batch=settings.batch)
        return edits, loss


@dataclass(frozen=True, eq=False)
class RegionScores:
    """What was learned about the boxes of one image.

    logits: π, (K, M) float32; −inf for a box that is not considered. losses: those of the `Judgement`. loss_curve: the
    loss at each of Adam's steps, mean over anchors. network: its weights. edits: ranking goes on with them.
    """

    proposals: RegionProposals
    logits: Tensor
    losses: Tensor
    loss_curve: tuple[float, ...]
    network: dict[str, Tensor]
    edits: BoxEdits = field(repr=False)
    search: BoxSearch
    prior: BoxPrior

    @property
    def chosen(self) -> tuple[int, ...]:
        """For each anchor, the box of the highest softmax score."""
        return tuple(self.logits.argmax(dim=-1).tolist())

    @property
    def probabilities(self) -> Tensor:
        """Softmax([π_1, …, π_M]) of each anchor, (K, M)."""
        return F.softmax(self.logits, dim=-1)

    @property
    def boxes(self) -> Tensor:
        """The chosen box of each anchor, (K, 4) in pixels."""
        return self.proposals.boxes[torch.arange(self.proposals.k), torch.tensor(self.chosen)]


def learn_regions(
    task: RegionTask,
    proposals: RegionProposals,
    features: PatchFeatures,
    editor: Editor,
    clip: ClipEncoder,
    settings: LearningSettings | None = None,
    *,
    search: BoxSearch | None = None,
    tracker: CostTracker | None = None,
) -> RegionScores:
    """Train a region network on the task's image and choose a box for each anchor.

    search: None considers all boxes, as published. With one box an anchor nothing is edited. Raises ValueError, before
    any work, for texts that CLIP would cut and proposals or features of another image; later as `train_network`.
    """
    settings, search, tracker = settings or LearningSettings(), search or BoxSearch(), tracker or CostTracker()
    _check_image(task.image, proposals)
    if features.size != proposals.size or features.grid != tuple(proposals.grid):
        raise ValueError(
            f"features: got a grid of {features.grid} on an image of {features.size}, requires the proposals'"
            f" {tuple(proposals.grid)} on {proposals.size}"
        )
    prior = search.prior(proposals)
    with torch.inference_mode(False), torch.enable_grad():
        edits, loss = task.edits_and_loss(editor, clip, settings)
        maps = standardised(features.features.detach().to(edits.image).clone())
        pooled = roi_features(maps, proposals.boxes, proposals.patch)  # Learnable Regions Eq. 1
        network = RegionNetwork(maps.shape[0], proposals.m, seed=settings.seed).to(edits.image.device)
        judged = Judgement(torch.full_like(prior.added, math.nan), prior.considered)
        curve: list[float] = []
        if proposals.m > 1:
            lazy = settings.estimator == "straight-through" and not search.judges_first
            if not lazy:
                judged = search.judge(proposals, edits, loss, prior, tracker)
            objective: Objective = Expected(judged, settings.exploration)
            if settings.estimator == "straight-through":
                published = proposals, edits, loss, settings, search.steps, tracker
                own = settings.remember
                objective = Remembering(*published, judged=judged, added=prior.added, lazy=lazy, remember=own)
            curve = train_network(network, pooled, objective, settings, considered=judged.considered, tracker=tracker)
        with torch.no_grad():
            logits = _among(network(pooled), judged.considered, settings.lr).float().cpu()
    weights = {name: weight.detach().cpu() for name, weight in network.state_dict().items()}
    return RegionScores(proposals, logits, judged.losses, tuple(curve), weights, edits, search, prior)


def train_network(
    network: RegionNetwork,
    pooled: Tensor,
    objective: Objective,
    settings: LearningSettings,
    *,
    considered: Tensor | None = None,
    tracker: CostTracker | None = None,
) -> list[float]:
    """Adam on `objective`; returns the loss of Learnable Regions Eq. 3 at each step.

    pooled: (K, M·d, 7, 7), [f_1 … f_M] of each anchor. considered: (K, M) bool; None is all boxes. Raises
    ValueError where the network's numbers overflow at this learning rate.
    """
    tracker = tracker or CostTracker()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    curve = []
    for step in range(settings.steps):
        with tracker.stage(LEARN_STAGE):
            logits = _among(network(pooled), considered, settings.lr)  # Learnable Regions Eq. 2
            minimised, loss = objective(logits, step / settings.steps)  # Learnable Regions Eq. 3
            optimizer.zero_grad()
            minimised.backward()
            optimizer.step()
            curve.append(loss)
            tracker.report(step + 1, settings.steps)
    return curve


def score_regions(
    task: RegionTask,
    proposals: RegionProposals,
    editor: Editor,
    clip: ClipEncoder,
    settings: LearningSettings | None = None,
    *,
    search: BoxSearch | None = None,
    tracker: CostTracker | None = None,
) -> RegionScores:
    """Take each anchor's box of least loss, with nothing learned: ours, and what learning is compared with.

    The logits are −loss. Of the settings, `seed`, `weights`, `crops` and `batch` are read. Otherwise as
    `learn_regions`.
    """
    settings, search = settings or LearningSettings(), search or BoxSearch()
    _check_image(task.image, proposals)
    prior = search.prior(proposals)
    with torch.inference_mode(False), torch.no_grad():
        edits, loss = task.edits_and_loss(editor, clip, settings)
        losses, logits = torch.full_like(prior.added, math.nan), torch.zeros_like(prior.added)
        if proposals.m > 1:
            judged = search.judge(proposals, edits, loss, prior, tracker or CostTracker())
            losses, logits = judged.losses, torch.where(judged.considered, -judged.losses, -math.inf)
    return RegionScores(proposals, logits, losses, (), {}, edits, search, prior)


def standardised(features: Tensor) -> Tensor:
    """Features (d, h, w) with mean 0 and deviation 1 over the image, channel by channel."""
    centred = features - features.mean(dim=(1, 2), keepdim=True)
    return centred / centred.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)


def _among(logits: Tensor, considered: Tensor | None, lr: float) -> Tensor:
    """The network's logits (K, M), −inf for boxes that are not considered; ValueError where they overflow."""
    if not bool(torch.isfinite(logits).all()):
        raise ValueError(f"lr: got {lr}, and the network's numbers are no longer finite, requires a smaller one")
    return logits if considered is None else logits.masked_fill(~considered.to(logits.device), -math.inf)


def _check_image(image: Tensor, proposals: RegionProposals) -> None:
    got, wanted = tuple(image.shape), (1, 3, *proposals.size)
    if got != wanted:
        raise ValueError(f"image: got the shape {got}, requires {wanted} like the proposals' image")
