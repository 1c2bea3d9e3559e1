"""The files of a region edit: its images, and report.json."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..locinv_core.imaging.io import save_png
from .edit_report import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.cost import CostTracker
    from ..region_core.editors.base import Editor
    from ..region_core.pipeline import FoundRegions
    from ..region_core.scorer import Candidate


def write_regions(
    folder: Path,
    args: argparse.Namespace,
    image: Tensor,
    editor: Editor,
    found: FoundRegions,
    tracker: CostTracker,
) -> dict[str, Any]:
    """Write source, edited, boxes, candidates and loss as PNG, and report.json. Returns the report."""
    from ..region_core.visualize import boxes_image, candidates_image, loss_image

    edit, scores = found.edit, found.edit.scores
    save_png(image, folder / "source.png")
    save_png(edit.image, folder / "edited.png")
    boxes = boxes_image(image, scores.proposals, edit.candidates, scores.losses)
    save_png(boxes, folder / "boxes.png")
    save_png(candidates_image(image, edit.candidates), folder / "candidates.png")
    save_png(loss_image(scores.loss_curve, epochs=args.epochs), folder / "loss.png")
    report = regions_report(args, image, editor, found, tracker)
    write_json(report, folder / "report.json")
    return report


def regions_report(
    args: argparse.Namespace,
    image: Tensor,
    editor: Editor,
    found: FoundRegions,
    tracker: CostTracker,
) -> dict[str, Any]:
    """What report.json says: the request, where to edit was found to be, what it cost, how good it is."""
    edit, located = found.edit, found.located
    scores, proposals = edit.scores, edit.scores.proposals
    costs = {stage: cost for stage, cost in tracker.forward_equivalents.items() if cost}
    return {
        "caption": args.caption,
        "prompt": args.prompt,
        "edit_prompt": found.edit_prompt,
        "word": None if located is None else {"word": located.word, "box": list(located.box)},
        "editor": editor.name,
        "model": str(args.model),
        "clip": args.clip,
        "vit": args.vit,
        "anchor_choice": args.anchors,
        "min_distance": found.proposals.min_distance,
        "smoothing": found.proposals.smoothing,
        "sizes": args.sizes,
        "estimator": args.estimator,
        "plan": found.plan.name,
        "finalists": found.plan.final_count,
        "k": proposals.k,
        "m": proposals.m,
        "epochs": args.epochs,
        "lr": args.lr,
        "temperature": args.temperature,
        **{name: editor.settings.get(name) for name in ("strength", "guidance", "steps", "window")},
        "seed": args.seed,
        "size": [image.shape[-1], image.shape[-2]],
        "grid": list(proposals.grid),
        "patch": proposals.patch,
        "box": _edited_box(edit.chosen),
        "anchors": proposals.anchors.tolist(),
        "boxes": [[list(box) for box in row] for row in proposals.pixel_boxes()],
        "losses": [[_finite(loss) for loss in row] for row in scores.losses.tolist()],
        "probabilities": scores.probabilities.tolist(),
        "candidates": [_candidate(candidate) for candidate in edit.candidates],
        "loss_curve": list(scores.loss_curve),
        "seconds": {stage: round(seconds, 3) for stage, seconds in tracker.seconds.items()},
        "forward_equivalents": {**costs, "total": tracker.total},
        "background": _background(image, edit.chosen),
    }


def regions_summary(report: dict[str, Any]) -> str:
    """The report's key figures in a few lines."""
    best = report["candidates"][0]
    box = ", ".join(f"{side:g}" for side in report["box"])
    lines = [
        f"{report['editor']} on {report['k']} anchors: {report['caption']!r} -> {report['prompt']!r}",
        f"  word    {_place(report['word'])}",
        f"  cost    {report['forward_equivalents']['total']:.0f} NFE, {sum(report['seconds'].values()):.1f} s",
        f"  box     {box}",
        f"  score   S {best['score']:.3f} (t2i {best['s_t2i']:.3f}, i2i {best['s_i2i']:.3f})",
    ]
    curve = report["loss_curve"]
    if curve:
        lines.append(f"  loss    {curve[0]:.4f} to {curve[-1]:.4f} in {len(curve)} steps")
    return "\n".join(lines)


def _place(word: dict[str, Any] | None) -> str:
    """Which boxes were considered, as text."""
    if word is None:
        return "none: all boxes"
    box = ", ".join(f"{side:g}" for side in word["box"])
    return f"{word['word']}, found at {box}: boxes near it"


def _candidate(candidate: Candidate) -> dict[str, Any]:
    return {
        "box": _edited_box(candidate),
        "anchor": list(candidate.anchor),
        "index": candidate.index,
        "of": candidate.edit.source_anchor,
        "s_t2i": candidate.s_t2i,
        "s_i2i": candidate.s_i2i,
        "score": candidate.score,
        "final": candidate.final,
        "near": candidate.edit.in_region,
        "take": candidate.edit.variant,
        "placed": candidate.edit.source_anchor is None,
    }


def _edited_box(candidate: Candidate) -> list[int]:
    """The candidate's box as it was edited, in whole pixels."""
    from ..region_core.proposals import pixel_box

    return list(pixel_box(candidate.box, (candidate.image.shape[-2], candidate.image.shape[-1])))


def _background(image: Tensor, chosen: Candidate) -> dict[str, float | None] | None:
    """psnr (None for identical images), ssim and mse outside the box; None if the box is the image."""
    from ..locinv_core.imaging.metrics import finite, mse, psnr, ssim
    from ..region_core.proposals import box_masks, pixel_box

    size = (image.shape[-2], image.shape[-1])
    outside = 1 - box_masks([pixel_box(chosen.box, size)], size)[0, 0]
    if not bool(outside.any()):
        return None
    pair = (image, chosen.image, outside)
    return {"psnr": finite(psnr(*pair)), "ssim": finite(ssim(*pair)), "mse": mse(*pair)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
