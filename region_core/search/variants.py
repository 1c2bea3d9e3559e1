"""The final edits on a budget: the boxes edited in full, and variants in place of boxes out of the region."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from .base import FinalEdit, chosen_boxes

if TYPE_CHECKING:
    from ..trainer import RegionScores


def budgeted_edits(scores: RegionScores, final_count: int | None) -> list[FinalEdit]:
    """For each anchor, the edit that is ranked; at most `final_count` boxes are edited in full, None all.

    In full are the boxes of least loss, in the region if one was given. An anchor without any has a further variant in
    another's box, or, where the editor has no more of them, one in the box around the region.
    """
    boxes, inside = chosen_boxes(scores), scores.prior.in_region
    full = set(range(len(boxes)))
    if all(scores.edits.best(box) is not None for box in boxes):
        full = _of_least_loss(scores, final_count)
    finals = [
        FinalEdit(box, index, full=index in full, in_region=inside is None or inside[index])
        for index, box in enumerate(boxes)
    ]
    if inside is None or not all(inside[index] for index in full):
        return finals
    outside = [index for index in range(len(boxes)) if not inside[index]]
    own = {boxes[index]: index for index in sorted(full, reverse=True)}  # one anchor of each box
    first = [finals[index] for index in reversed(own.values())]
    room = len(outside) if final_count is None else max(0, final_count - len(first))
    for index, further in zip(outside[:room], _further(first, scores, len(outside)), strict=False):
        finals[index] = further
    return finals


def _of_least_loss(scores: RegionScores, final_count: int | None) -> set[int]:
    """The anchors in the region whose boxes are the `final_count` of least loss; all where that is not known."""
    boxes, inside = chosen_boxes(scores), scores.prior.in_region
    candidates = [index for index in range(len(boxes)) if inside is None or inside[index]]
    losses = scores.losses[torch.arange(len(boxes)), torch.tensor(scores.chosen)]
    if final_count is None or bool(losses[candidates].isnan().any()):
        return set(candidates)
    order = [index for index in torch.argsort(losses, stable=True).tolist() if index in candidates]
    best = set(list(dict.fromkeys(boxes[index] for index in order))[:final_count])
    return {index for index in candidates if boxes[index] in best}


def _further(first: list[FinalEdit], scores: RegionScores, count: int) -> list[FinalEdit]:
    """Further edits, best first: variants in the boxes by turns, then those in the box around the region."""
    variants, region = scores.edits.editor.variants, scores.prior.region_box
    last = 1 + count if variants is None else variants
    further = [FinalEdit(one.box, one.source_anchor, variant) for variant in range(1, last) for one in first]
    if variants is not None and region is not None and region not in {one.box for one in first}:
        further += [FinalEdit(region, None, variant) for variant in range(variants)]
    return further
