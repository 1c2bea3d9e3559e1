"""Choosing among the anchors' edits by the quality score S (paper §3.3, Eq. 7); all are kept, ranked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..locinv_core.cost import CostTracker
from .encoders.clip import ClipEncoder, quality
from .proposals import PixelBox, pixel_box
from .trainer import RegionScores

CHOOSE_STAGE = "choosing"
FINAL_STAGE = "final edits"


@dataclass(frozen=True, eq=False)
class Candidate:
    """One anchor's edit and its score."""

    box: tuple[float, float, float, float]
    """x0, y0, x1, y1 in pixels, the last two exclusive."""
    anchor: tuple[int, int]
    """Row and column of the patch of the anchor whose box it is."""
    index: int
    """Which of the K anchors it is the edit of."""
    of: int | None
    """Which anchor's box it is in: its own, `index`, or another's; None for the box around the place."""
    s_t2i: float
    """Cosine of the edit and the prompt."""
    s_i2i: float
    """Cosine of the edit and the source."""
    score: float
    """S."""
    image: Tensor
    """(1, 3, H, W), float32 in [0, 1], on the CPU; the source outside the box."""
    final: bool = True
    """Whether it was edited in full; False where the plan has others edited in full and learning did less."""
    near: bool = True
    """Whether the box is near the place that was given; True where none was."""
    take: int = 0
    """1 for a second take in the box that another anchor has chosen, 2 for a third …; 0 is the box's own."""

    @property
    def placed(self) -> bool:
        """Whether the box is the one around the place that was given; `anchor` is its middle."""
        return self.of is None


@dataclass(frozen=True, eq=False)
class RegionEdit:
    """The K candidates, best first, so that a person can overrule the choice."""

    candidates: tuple[Candidate, ...]
    scores: RegionScores

    @property
    def chosen(self) -> Candidate:
        """The candidate of the highest S."""
        return self.candidates[0]

    @property
    def image(self) -> Tensor:
        """The edit that was chosen, (1, 3, H, W)."""
        return self.chosen.image


def rank(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Highest S first; those near the place before any other, and then edits in full; equal ones stay in the
    order of their anchors."""
    return tuple(sorted(candidates, key=lambda one: (not one.near, not one.final, -one.score)))


def choose(
    scores: RegionScores,
    guide: ClipEncoder,
    *,
    alpha: float = 2.0,
    beta: float = 1.0,
    tracker: CostTracker | None = None,
) -> RegionEdit:
    """Edit each anchor's chosen box in full (or those that the plan edits in full), score and rank them.

    S = α·S_t2i + β·S_i2i. Edits in full that learning has made already, and boxes that several anchors have
    chosen, cost nothing more. Where a place was given, only boxes near it are edited; an anchor without any
    has another take in one of those, from noise of its own or with other settings of the editor, or, where
    the editor has no more, a take in the box around the place; unless the plan requires fewer edits in full.
    """
    tracker = tracker or CostTracker()
    edits, size = scores.edits, scores.proposals.size
    boxes = [pixel_box(box, size) for box in scores.boxes]
    with torch.no_grad():
        with tracker.stage(CHOOSE_STAGE):
            prompt = guide.encode_texts([edits.prompt])
            source = guide.encode_images(edits.image)

        def similarities(images: Tensor) -> tuple[Tensor, Tensor]:
            """S_t2i and S_i2i of images, (B,) each: both encoders give unit vectors."""
            parts = [guide.encode_images(part) for part in images.split(edits.batch)]
            encoded = torch.cat(parts)
            return (encoded @ prompt.T)[:, 0], (encoded @ source.T)[:, 0]

        final, retaken = _planned(boxes, scores)
        with tracker.stage(FINAL_STAGE):
            edits.edited([boxes[i] for i in final], tracker=tracker)
            takes: dict[int, Tensor] = {}
            for take in sorted({other.take for other in retaken.values()}):
                alike = {i: other.box for i, other in retaken.items() if other.take == take}
                made = edits.edited(list(alike.values()), take=take, tracker=tracker)
                takes |= dict(zip(alike, made, strict=True))
        with tracker.stage(CHOOSE_STAGE):
            pictures = [takes.get(i, edits.best(box)) for i, box in enumerate(boxes)]
            images = torch.stack([picture for picture in pictures if picture is not None])
            t2i, i2i = similarities(images)
            total = quality(t2i, i2i, alpha, beta)  # Eq. 7
            tracker.report(1, 1)
    own = [retaken.get(i, _Take(box, i, 0)) for i, box in enumerate(boxes)]
    candidates = [
        Candidate(
            box=_four(torch.tensor(one.box) if one.of is None else scores.boxes[one.of]),
            anchor=_middle(one.box, scores) if one.of is None else _two(scores.proposals.anchors[one.of]),
            index=i,
            of=one.of,
            s_t2i=float(t2i[i]),
            s_i2i=float(i2i[i]),
            score=float(total[i]),
            image=images[i : i + 1].cpu(),
            final=i in retaken or edits.in_full(one.box),
            near=i in retaken or scores.near is None or scores.near[i],
            take=one.take,
        )
        for i, one in enumerate(own)
    ]
    return RegionEdit(rank(candidates), scores)


def edits_to_choose_among(scores: RegionScores) -> int:
    """How many edits in full `choose` makes, those that learning has made already among them."""
    boxes = [pixel_box(box, scores.proposals.size) for box in scores.boxes]
    final, retaken = _planned(boxes, scores)
    return len({boxes[i] for i in final}) + len(retaken)


@dataclass(frozen=True)
class _Take:
    """A take in a box, which is the choice of the anchor `of`, or of none: the one around the place."""

    box: PixelBox
    of: int | None
    take: int


def _planned(boxes: Sequence[PixelBox], scores: RegionScores) -> tuple[list[int], dict[int, _Take]]:
    """The anchors whose boxes are edited in full, and those that have another take (see `_retaken`)."""
    final = list(range(len(boxes)))
    if all(scores.edits.best(box) is not None for box in boxes):
        final = _edited_in_full(boxes, scores)
    return final, _retaken(boxes, scores, final)


def _edited_in_full(boxes: Sequence[PixelBox], scores: RegionScores) -> list[int]:
    """The anchors whose boxes are edited in full: as many boxes as the plan says, those of least loss."""
    wanted = scores.plan.final_count
    near = [i for i in range(len(boxes)) if scores.near is None or scores.near[i]]
    losses = scores.losses[torch.arange(len(boxes)), torch.tensor(scores.chosen)]
    if wanted is None or bool(losses[near].isnan().any()):
        return near
    order = [i for i in torch.argsort(losses, stable=True).tolist() if i in near]
    chosen = set(list(dict.fromkeys(boxes[i] for i in order))[:wanted])
    return [i for i in near if boxes[i] in chosen]


def _retaken(boxes: Sequence[PixelBox], scores: RegionScores, final: list[int]) -> dict[int, _Take]:
    """For each anchor that has a take elsewhere in place of its own edit, which one: the near boxes' further
    takes by turns, and when an editor has no more of them, those in the box around the place."""
    near, takes = scores.near, scores.edits.editor.variants
    if near is None or any(not near[i] for i in final):
        return {}
    first = list({boxes[i]: i for i in reversed(final)}.values())[::-1]  # one anchor of each box
    far = [i for i in range(len(near)) if not near[i]]
    wanted = scores.plan.final_count
    most = len(far) if wanted is None else max(0, wanted - len(first))
    last = 1 + len(far) if takes is None else takes
    further = [_Take(boxes[i], i, take) for take in range(1, last) for i in first]
    place = scores.place
    if takes is not None and place is not None and place not in {boxes[i] for i in first}:
        further += [_Take(place, None, take) for take in range(takes)]
    return dict(zip(far[:most], further, strict=False))


def _four(box: Tensor) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (float(value) for value in box)
    return x0, y0, x1, y1


def _two(anchor: Tensor) -> tuple[int, int]:
    row, column = (int(value) for value in anchor)
    return row, column


def _middle(box: PixelBox, scores: RegionScores) -> tuple[int, int]:
    """Row and column of the patch in the middle of a box."""
    patch, (x0, y0, x1, y1) = scores.proposals.patch, box
    return (y0 + y1) // 2 // patch, (x0 + x1) // 2 // patch
