"""Ranking the anchors' edits by the quality score S (Learnable Regions §3.3, Eq. 7); all are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..locinv_core.cost import CostTracker
from .encoders.clip import ClipEncoder
from .search.base import BoxSearch, FinalEdit

if TYPE_CHECKING:
    from .search.edit_cache import BoxEdits
    from .trainer import RegionScores

CHOOSE_STAGE = "choosing"
FINAL_STAGE = "final edits"


def quality_score(s_t2i: Tensor, s_i2i: Tensor, alpha: float = 2.0, beta: float = 1.0) -> Tensor:
    """S = α·S_t2i + β·S_i2i (Learnable Regions Eq. 7), elementwise."""
    return alpha * s_t2i + beta * s_i2i


@dataclass(frozen=True, eq=False)
class Candidate:
    """One anchor's edit and its score.

    index: which of the K anchors it is the edit of. box: x0, y0, x1, y1 in pixels, the last two exclusive. anchor: row
    and column of the patch of the box's anchor, or of its middle. s_t2i, s_i2i: cosines of the edit with the prompt
    and with the source. score: S. image: (1, 3, H, W), float32 in [0, 1], on the CPU. final: edited in full.
    """

    index: int
    edit: FinalEdit
    box: tuple[float, float, float, float]
    anchor: tuple[int, int]
    s_t2i: float
    s_i2i: float
    score: float
    image: Tensor
    final: bool = True


@dataclass(frozen=True, eq=False)
class RegionEdit:
    """The K candidates, best first, so that a person can overrule the choice."""

    candidates: tuple[Candidate, ...]
    scores: RegionScores

    @property
    def chosen(self) -> Candidate:
        """The best candidate: of the highest S, as published."""
        return self.candidates[0]

    @property
    def image(self) -> Tensor:
        return self.chosen.image


def choose(
    scores: RegionScores,
    clip: ClipEncoder,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    tracker: CostTracker | None = None,
) -> RegionEdit:
    """Edit in each anchor's chosen box, or as the search plans, and rank the edits by S.

    Edits that learning has made already, and boxes that several anchors have chosen, cost nothing more.
    """
    tracker, edits = tracker or CostTracker(), scores.edits
    finals = scores.search.final_edits(scores)
    with torch.no_grad():
        with tracker.stage(CHOOSE_STAGE):
            prompt = clip.encode_texts([edits.prompt])
            source = clip.encode_images(edits.image)
        with tracker.stage(FINAL_STAGE):
            images = _images(edits, finals, tracker)
        with tracker.stage(CHOOSE_STAGE):
            encoded = torch.cat([clip.encode_images(part) for part in images.split(edits.batch)])
            # Both encoders give unit vectors.
            s_t2i, s_i2i = (encoded @ prompt.T)[:, 0], (encoded @ source.T)[:, 0]
            total = quality_score(s_t2i, s_i2i, alpha, beta)
            tracker.report(1, 1)
    candidates = []
    for index, edit in enumerate(finals):
        t2i, i2i, score = (float(part[index]) for part in (s_t2i, s_i2i, total))
        image, final = images[index : index + 1].cpu(), edit.full or edits.in_full(edit.box)
        candidates.append(Candidate(index, edit, *_position(edit, scores), t2i, i2i, score, image, final))
    return RegionEdit(rank(candidates, scores.search), scores)


def rank(candidates: Sequence[Candidate], search: BoxSearch) -> tuple[Candidate, ...]:
    """Highest S first, after what the search puts before it; equal ones stay in the order of their anchors."""
    return tuple(sorted(candidates, key=lambda one: (*search.precedence(one), -one.score)))


def final_edit_count(scores: RegionScores) -> int:
    """How many edits in full `choose` makes, those that learning has made already among them."""
    return len({(edit.box, edit.variant) for edit in scores.search.final_edits(scores) if edit.full})


def _images(edits: BoxEdits, finals: list[FinalEdit], tracker: CostTracker) -> Tensor:
    """The images (K, 3, H, W) of the final edits."""
    for variant in sorted({edit.variant for edit in finals if edit.full}):
        boxes = [edit.box for edit in finals if edit.full and edit.variant == variant]
        edits.edited(boxes, variant=variant, tracker=tracker)
    images = (edits.edited([one.box], variant=one.variant)[0] if one.full else edits.best(one.box) for one in finals)
    return torch.stack([image for image in images if image is not None])


def _position(edit: FinalEdit, scores: RegionScores) -> tuple[tuple[float, float, float, float], tuple[int, int]]:
    """The box, and the row and column of the patch in its middle."""
    patch, (x0, y0, x1, y1) = scores.proposals.patch, edit.box
    if edit.source_anchor is None:
        return (float(x0), float(y0), float(x1), float(y1)), ((y0 + y1) // 2 // patch, (x0 + x1) // 2 // patch)
    x0, y0, x1, y1 = scores.boxes[edit.source_anchor].tolist()
    row, column = scores.proposals.anchors[edit.source_anchor].tolist()
    return (x0, y0, x1, y1), (row, column)
