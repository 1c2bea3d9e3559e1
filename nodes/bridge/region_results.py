"""What travels between the region nodes: proposals with their image, judged boxes with what judged them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ...locinv_core.cost import CostTracker

if TYPE_CHECKING:
    from torch import Tensor

    from ...region_core.editors.base import Editor
    from ...region_core.encoders.clip import ClipEncoder
    from ...region_core.encoders.vit import PatchFeatures
    from ...region_core.proposals import RegionProposals
    from ...region_core.scorer import Candidate, RegionEdit
    from ...region_core.search.edit_cache import BoxEdits
    from ...region_core.trainer import RegionScores
    from .managed_networks import Managed, ManagedEditor

RANKINGS = 4
"""How many weightings' edits are kept of one judging."""


@dataclass(frozen=True, eq=False)
class ProposedRegions:
    """Boxes on an image, and what the ViT saw in it; all on the CPU."""

    image: Tensor
    """(1, 3, H, W) in [0, 1]."""
    features: PatchFeatures
    proposals: RegionProposals


@dataclass(frozen=True, eq=False)
class JudgedRegions:
    """Boxes with their scores, and the networks that judged them, which choosing goes on with."""

    scores: RegionScores
    guide: Managed[ClipEncoder]
    editor: ManagedEditor
    _ranked: dict[tuple[float, float], RegionEdit] = field(default_factory=dict)

    def has_ranked(self, alpha: float, beta: float) -> bool:
        """Whether `ranked` has been asked for these already."""
        return (alpha, beta) in self._ranked

    def ranked(self, alpha: float, beta: float, editor: Editor, tracker: CostTracker) -> RegionEdit:
        """The edits of all anchors, ranked by S = α·S_t2i + β·S_i2i.

        Those of the last few weights are kept, so that asking again costs nothing. Each (α, β) begins with
        the edits that judging has made: what is asked first does not change what comes after. The networks
        are ready.
        """
        from ...region_core.scorer import choose

        key = (alpha, beta)
        if key not in self._ranked:
            own = replace(self.scores, edits=settled(self.scores.edits, editor))
            found = choose(own, self.guide.value, alpha=alpha, beta=beta, tracker=tracker)
            kept = replace(own, edits=settled(own.edits, self.editor.value))
            self._ranked[key] = replace(found, scores=kept)
            while len(self._ranked) > RANKINGS:
                del self._ranked[next(iter(self._ranked))]
        return self._ranked[key]


def settled(edits: BoxEdits, editor: Editor) -> BoxEdits:
    """The same edits on the CPU, in a cache of their own that this editor adds to."""
    return edits.copied(editor, "cpu")


def check_choice(choice: int, anchors: int) -> None:
    """Raise ValueError unless `choice` is the number of an anchor, or 0 for the best."""
    if not 0 <= choice <= anchors:
        raise ValueError(f"choice: got {choice}, requires an anchor from 1 to {anchors}, or 0 for the best")


def picked(found: RegionEdit, choice: int) -> Candidate:
    """The candidate of the anchor numbered `choice` from 1; 0 is the best. Raises ValueError for no such."""
    check_choice(choice, len(found.candidates))
    return next((candidate for candidate in found.candidates if candidate.index == choice - 1), found.chosen)


def finished(candidate: Candidate, edits: BoxEdits, tracker: CostTracker) -> Candidate:
    """The candidate edited in full, which it is unless the plan's finalists were others."""
    if candidate.final:
        return candidate
    from ...region_core.proposals import pixel_box

    with tracker.stage("final edits"):
        image = edits.edited([pixel_box(candidate.box, edits.size)], tracker=tracker).cpu()
    return replace(candidate, image=image, final=True)


def region_rows(proposals: RegionProposals, scores: RegionScores) -> list[dict[str, Any]]:
    """For the browser: each anchor with its boxes, their probabilities and losses, and which is chosen."""
    probabilities = scores.probabilities.tolist()
    losses = scores.losses.tolist()
    return [
        {
            "anchor": index + 1,
            "boxes": [list(box) for box in boxes],
            "probabilities": probabilities[index],
            "losses": [None if loss != loss else loss for loss in losses[index]],
            "chosen": scores.chosen[index],
        }
        for index, boxes in enumerate(proposals.pixel_boxes())
    ]


def candidate_rows(candidates: Iterable[Candidate]) -> list[dict[str, Any]]:
    """For the browser: each candidate's anchor, its box as it was edited, and scores, best first."""
    from ...region_core.proposals import pixel_box

    return [
        {
            "anchor": one.index + 1,
            "box": list(pixel_box(one.box, (one.image.shape[-2], one.image.shape[-1]))),
            "score": one.score,
            "s_t2i": one.s_t2i,
            "s_i2i": one.s_i2i,
            "final": one.final,
            "take": one.take,
            "placed": one.placed,
        }
        for one in candidates
    ]


def expected_cost(scores: RegionScores, cost: Callable[[int | None], float]) -> float:
    """NFE that choosing among the anchors' edits needs at most, where an edit of so many
    steps (None: the editor's own) costs `cost`."""
    from ...region_core.scorer import edits_to_choose_among

    return edits_to_choose_among(scores) * cost(None)
