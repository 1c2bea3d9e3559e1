"""Learning which box of each anchor the edit should use: the region network, trained on one image (paper
§3.1 and §3.2). How the gradient is estimated is `estimators`' business, and what is edited the plan's."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from ..locinv_core.cost import CostTracker
from .encoders.clip import ClipEncoder, CompositeLoss, Crops, GuidanceWeights
from .encoders.vit import PatchFeatures
from .estimators import Expected, Objective, StraightThrough, in_play_only
from .options import ESTIMATORS, Estimator
from .proposals import PixelBox, RegionProposals, roi_features
from .region_network import RegionNetwork
from .search.box_prior import box_prior
from .search.budget import Judgement, judge_boxes
from .search.edit_cache import BoxEdits
from .search.plans import PLANS, EditPlan

if TYPE_CHECKING:
    from .editors.base import Editor

LEARN_STAGE = "learning"
DEFAULT_PLAN = PLANS["preview"]


@dataclass(frozen=True)
class LearningSettings:
    """How the network is trained: Adam at `lr` for `epochs` of `iterations` steps, all K anchors in each.

    The paper has 5 epochs at 3e-3, the published code 10 iterations an epoch. `temperature` is
    Gumbel-softmax's, for `straight-through` alone, and so is `remember`: a box that was drawn before has its
    known loss in place of the gradient's guess (False: the paper's estimator as it is). `exploration` is for
    `expected` alone: the softmax scores' entropy is rewarded by so many deviations of the boxes' losses, less
    at each step and not at all at the end. Without it (0, the paper's loss) the anchors run together to
    whichever box is good for most of them and stay there. `seed` fixes the network's first weights, the
    draws and the editor's noise.
    """

    epochs: int = 5
    lr: float = 3e-3
    iterations: int = 10
    estimator: Estimator = "expected"
    temperature: float = 1.0
    exploration: float = 1.0
    remember: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "iterations"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: got {getattr(self, name)}, requires 1 or more")
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
        """Adam's steps in all."""
        return self.epochs * self.iterations


@dataclass(frozen=True, eq=False)
class RegionScores:
    """What was learned about the boxes of one image."""

    proposals: RegionProposals
    logits: Tensor
    """(K, M) π, float32; −inf for a box that the plan has dropped."""
    losses: Tensor
    """(K, M) float32: each box's loss where it was last judged; nan where it never was. With a place, 1 − its
    fit is in it."""
    loss_curve: tuple[float, ...]
    """The loss at each of Adam's steps, mean over anchors."""
    chosen: tuple[int, ...]
    """For each anchor, the box of the highest softmax score."""
    network: dict[str, Tensor]
    """The region network's weights."""
    plan: EditPlan
    edits: BoxEdits = field(repr=False)
    """The edits made so far, which choosing goes on with."""
    near: tuple[bool, ...] | None = None
    """For each anchor, whether it has boxes near the place that was given; None where none was."""
    place: PixelBox | None = None
    """The box around that place."""

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
    guide: ClipEncoder,
    *,
    caption: str,
    prompt: str,
    edit_prompt: str | None = None,
    place: Tensor | None = None,
    epochs: int = 5,
    lr: float = 3e-3,
    iterations: int = 10,
    estimator: Estimator = "expected",
    temperature: float = 1.0,
    exploration: float = 1.0,
    remember: bool = True,
    seed: int = 0,
    plan: EditPlan = DEFAULT_PLAN,
    weights: GuidanceWeights | None = None,
    crops: Crops | None = None,
    batch: int = 8,
    tracker: CostTracker | None = None,
) -> RegionScores:
    """Train a region network on `image` (1, 3, H, W) and choose a box for each anchor.

    caption: T_ROI, what the source shows where the edit belongs. prompt: T, what it is to become.
    edit_prompt: what the editor is told to draw in a box. None is T, as in the paper; where T names what
    surrounds the object too, an editor draws that into the box as well. place: (H, W) from 0 to 1, where the
    object to be edited is, if that is known: boxes far from it are not considered (`places.considered`), and a
    box's loss has 1 − its fit added. None considers all, as in the paper. The others are those of
    `LearningSettings`, `EditPlan`, `GuidanceWeights` and `Crops`; `batch` is how many boxes are edited at a
    time. With one box an anchor there is nothing to learn, and nothing is edited.
    Raises ValueError, before any work, for texts that CLIP would cut, proposals or features of another
    image, and settings out of bounds; later for an `lr` whose steps overflow.
    """
    settings = LearningSettings(epochs, lr, iterations, estimator, temperature, exploration, remember, seed)
    _check_image(image, proposals, features)
    known = box_prior(proposals, place)
    tracker = tracker or CostTracker()
    with torch.inference_mode(False), torch.enable_grad():
        # What comes from a caller's inference mode (ComfyUI's) could not take part in a gradient.
        image = image.detach().to(guide.device, torch.float32).clone()
        loss = CompositeLoss(guide, image, prompt, caption, weights or GuidanceWeights(), crops or Crops())
        edits = BoxEdits(editor, image, prompt, seed, edit_prompt=edit_prompt, batch=batch)
        maps = standardised(features.features.detach().to(image).clone())
        pooled = roi_features(maps, proposals.boxes, proposals.patch)  # Eq. 1
        network = RegionNetwork(maps.shape[0], proposals.m, seed=seed).to(image.device)
        judged = Judgement(torch.full_like(known.added, math.nan), known.in_play)
        curve: list[float] = []
        if proposals.m > 1:
            # Straight-through edits only in the boxes that it draws, unless the plan has to see all of them.
            lazy = estimator == "straight-through" and plan.rounds[1:] == () and not plan.rounds[0].stand_in
            if not lazy:
                judged = judge_boxes(plan, proposals, edits, loss, box_prior=known, tracker=tracker)
            objective: Objective
            if estimator == "expected":
                objective = Expected(judged, exploration)
            else:
                objective = StraightThrough(
                    proposals,
                    edits,
                    loss,
                    judged,
                    known.added,
                    temperature=temperature,
                    remember=remember,
                    lazy=lazy,
                    steps=plan.rounds[-1].steps,
                    seed=seed,
                    tracker=tracker,
                )
            curve = train_network(network, pooled, objective, settings, tracker=tracker)
        with torch.no_grad():
            logits = in_play_only(_finite(network(pooled), lr), judged.in_play).float().cpu()
    return RegionScores(
        proposals=proposals,
        logits=logits,
        losses=judged.losses,
        loss_curve=tuple(curve),
        chosen=tuple(logits.argmax(dim=-1).tolist()),
        network={name: weight.detach().cpu() for name, weight in network.state_dict().items()},
        plan=plan,
        edits=edits,
        near=known.near,
        place=known.place,
    )


def train_network(
    network: RegionNetwork,
    pooled: Tensor,
    objective: Objective,
    settings: LearningSettings,
    *,
    tracker: CostTracker | None = None,
) -> list[float]:
    """Adam on `objective`; returns the loss of Eq. 3 at each step.

    pooled: (K, M·d, 7, 7), [f_1 … f_M] of each anchor. Raises ValueError where the learning rate is so large
    that the network's numbers overflow.
    """
    tracker = tracker or CostTracker()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    curve = []
    for step in range(settings.steps):
        with tracker.stage(LEARN_STAGE):
            logits = _finite(network(pooled), settings.lr)  # Eq. 2
            minimised, loss = objective(logits, step / settings.steps)  # Eq. 3
            optimizer.zero_grad()
            minimised.backward()
            optimizer.step()
            curve.append(loss)
            tracker.report(step + 1, settings.steps)
    return curve


def standardised(features: Tensor) -> Tensor:
    """Features (d, h, w) with mean 0 and deviation 1 over the image, channel by channel."""
    centred = features - features.mean(dim=(1, 2), keepdim=True)
    return centred / centred.square().mean(dim=(1, 2), keepdim=True).sqrt().clamp_min(1e-6)


def _finite(logits: Tensor, lr: float) -> Tensor:
    """The network's logits (K, M). Raises ValueError if training has driven them out of float32's range."""
    if not bool(torch.isfinite(logits).all()):
        raise ValueError(f"lr: got {lr}, and the network's numbers are no longer finite, requires a smaller one")
    return logits


def _check_image(image: Tensor, proposals: RegionProposals, features: PatchFeatures) -> None:
    height, width = proposals.size
    if tuple(image.shape) != (1, 3, height, width):
        raise ValueError(
            f"image: got the shape {tuple(image.shape)}, requires {(1, 3, height, width)} like the proposals' image"
        )
    if features.size != proposals.size or features.grid != tuple(proposals.grid):
        raise ValueError(
            f"features: got a grid of {features.grid} on an image of {features.size}, requires the proposals'"
            f" {tuple(proposals.grid)} on {proposals.size}"
        )
