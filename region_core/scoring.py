"""Scoring boxes with nothing learned: every box is judged as the plan says, and each anchor takes its best.

With M boxes an anchor and edits that are kept, the network of the paper is not needed to find the least loss;
it shows what learning comes to, and is the quicker way there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..locinv_core.cost import CostTracker
from .editors.base import Editor
from .encoders.clip import ClipEncoder, CompositeLoss, Crops, GuidanceWeights
from .proposals import RegionProposals
from .search.box_prior import box_prior
from .search.budget import judge_boxes
from .search.edit_cache import BoxEdits
from .search.plans import EditPlan
from .trainer import DEFAULT_PLAN, RegionScores


def score_regions(
    image: Tensor,
    proposals: RegionProposals,
    editor: Editor,
    guide: ClipEncoder,
    *,
    caption: str,
    prompt: str,
    edit_prompt: str | None = None,
    place: Tensor | None = None,
    seed: int = 0,
    plan: EditPlan = DEFAULT_PLAN,
    weights: GuidanceWeights | None = None,
    batch: int = 8,
    tracker: CostTracker | None = None,
) -> RegionScores:
    """Judge the boxes on `image` (1, 3, H, W) by the loss of Eq. 3 and take each anchor's box of the least.

    The logits are −loss, and −inf for a box that the plan has dropped. caption: T_ROI, what the source shows
    where the edit belongs. prompt: T, what it is to become. The rest, `edit_prompt` and
    `place` too, is as in `learn_regions`. With one box an anchor there is nothing to choose, and nothing is
    edited. Raises ValueError, before any work, for texts that CLIP would cut and proposals of another
    image.
    """
    if tuple(image.shape) != (1, 3, *proposals.size):
        raise ValueError(
            f"image: got the shape {tuple(image.shape)}, requires {(1, 3, *proposals.size)} like the proposals' image"
        )
    known = box_prior(proposals, place)
    with torch.inference_mode(False), torch.no_grad():
        image = image.detach().to(guide.device, torch.float32).clone()
        loss = CompositeLoss(guide, image, prompt, caption, weights or GuidanceWeights(), Crops())
        edits = BoxEdits(editor, image, prompt, seed, edit_prompt=edit_prompt, batch=batch)
        losses = torch.full((proposals.k, proposals.m), torch.nan)
        logits = torch.zeros(proposals.k, proposals.m)
        if proposals.m > 1:
            judged = judge_boxes(plan, proposals, edits, loss, box_prior=known, tracker=tracker)
            losses = judged.losses
            logits = torch.where(judged.in_play, -losses, -torch.inf)
    return RegionScores(
        proposals=proposals,
        logits=logits,
        losses=losses,
        loss_curve=(),
        chosen=tuple(logits.argmax(dim=-1).tolist()),
        network={},
        plan=plan,
        edits=edits,
        near=known.near,
        place=known.place,
    )
