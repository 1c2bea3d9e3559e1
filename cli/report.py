"""The files of a command's output folder: images, and report.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..locinv_core.imaging.io import save_png, written_whole
from ..locinv_core.imaging.metrics import finite, outside_figures, psnr
from ..locinv_core.imaging.visualize import attention_image, box_overlay, contact_sheet

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.backbones.base import Backbone
    from ..locinv_core.cost import CostTracker
    from ..locinv_core.imaging.transparency import Transparency
    from ..locinv_core.pipeline import LocalizedEdit, Quality
    from ..methods.types import EditTask, MethodOutcome
    from ..region_core.editors.base import Editor
    from ..region_core.object_localization.attention_localizer import Located
    from ..region_core.pipeline import FoundRegions
    from ..region_core.scorer import Candidate
    from .full_resolution import FullResolution


@dataclass(frozen=True)
class MadeEdit:
    """An edit and all that its report tells of it.

    settings: the choices by name that were given. quality: of an edit by inversion, `pipeline.judge`'s figures.
    located: the words whose boxes were found. transparency: the image's own, which source, reconstruction and edit
    are written with. full: the image and the edit at full resolution, where `task` is a smaller one.
    """

    method: str
    model: Backbone
    task: EditTask
    outcome: MethodOutcome
    settings: Mapping[str, Any]
    seed: int
    tracker: CostTracker
    quality: Quality | None = None
    located: Mapping[str, Located] = field(default_factory=dict)
    transparency: Transparency | None = None
    full: FullResolution | None = None


def write_edit(folder: Path, made: MadeEdit) -> dict[str, Any]:
    """Write source, edited and contact_sheet and, where there are such, reconstruction, mask, attention and located
    as PNG, and report.json. Returns the report."""
    task, outcome, transparency = made.task, made.outcome, made.transparency
    source, edited = (task.image, outcome.edited) if made.full is None else (made.full.image, made.full.edited)
    save_png(_shown(source, transparency), folder / "source.png")
    save_png(_shown(edited, transparency), folder / "edited.png")
    cells: list[tuple[str, Tensor | Image.Image]] = [(f"source\n{task.source}", task.image)]
    if outcome.reconstruction is not None:
        save_png(
            _shown(outcome.reconstruction, transparency if made.full is None else None), folder / "reconstruction.png"
        )
        cells.append(("reconstruction", outcome.reconstruction))
    cells.append((f"edited\n{task.target}", outcome.edited))
    save_png(contact_sheet(cells), folder / "contact_sheet.png")
    if outcome.mask is not None:
        save_png(Image.fromarray((outcome.mask * 255).byte().numpy()), folder / "mask.png")
    if outcome.localized is not None and made.quality is not None:
        save_png(_attention(outcome.localized, made.quality), folder / "attention.png")
    if made.located:
        boxes = [found.box for found in made.located.values()]
        labels = [f"{word} {found.score:.2f}" for word, found in made.located.items()]
        save_png(box_overlay(task.image, boxes, labels), folder / "located.png")
    report = edit_report(made)
    write_json(report, folder / "report.json")
    return report


def edit_report(made: MadeEdit) -> dict[str, Any]:
    """What report.json says: the request, its cost, and how good the result is."""
    task, outcome, model = made.task, made.outcome, made.model
    image, reconstruction = task.image, outcome.reconstruction
    report: dict[str, Any] = {
        "method": made.method,
        "source": task.source,
        "target": task.target,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "size": [image.shape[-1], image.shape[-2]],
        "seed": made.seed,
        **outcome.details,
        **_costs(made.tracker),
        "reconstruction": None if reconstruction is None else {"psnr": finite(psnr(image, reconstruction))},
        "background": _background(task, outcome),
    }
    if made.full is not None:
        report["size"] = [made.full.image.shape[-1], made.full.image.shape[-2]]
        report["worked_at"] = [image.shape[-1], image.shape[-2]]
        report["background"] = made.full.background(report["background"])
    if outcome.localized is None:
        report["settings"] = dict(made.settings)
    else:
        report |= _recipe_report(outcome.localized, made.quality)
    remarks = [*task.remarks, *(() if made.full is None else (made.full.remark(),))]
    if remarks:
        report["remarks"] = remarks
    if made.located:
        report["located"] = {word: _found(found) for word, found in made.located.items()}
    return report


def summary(report: Mapping[str, Any]) -> str:
    """The report's key figures in a few lines."""
    method, background = report["method"], report["background"]
    if "tokens" in report:
        method += f" (tokens {report['tokens']}, null {report['null']})"
    lines = [f"{method}: {report['source']!r} -> {report['target']!r}", f"  cost            {_cost_line(report)}"]
    if report["reconstruction"] is not None:
        lines.append(f"  reconstruction  {_decibels(report['reconstruction']['psnr'])}")
    for name in ("instruction", "concepts", "box"):
        if name in report:
            value = report[name]
            lines.append(f"  {name:16}{value if isinstance(value, str) else ', '.join(map(str, value))}")
    if background is not None:
        lines.append(f"  background      {_decibels(background['psnr'])}, SSIM {background['ssim']:.3f}")
    for word, found in report.get("located", {}).items():
        lines.append(f"  box of {word:9}{_sides(found['box'])} (found)")
    for word, iou in report.get("words", {}).items():
        lines.append(f"  map of {word:9}best IoU {iou['iou_before']:.2f} before, {iou['iou_after']:.2f} after tuning")
    lines += [f"  note: {remark}" for remark in report.get("remarks", ())]
    return "\n".join(lines)


def write_regions(
    folder: Path,
    args: argparse.Namespace,
    image: Tensor,
    editor: Editor,
    found: FoundRegions,
    tracker: CostTracker,
    transparency: Transparency | None = None,
) -> dict[str, Any]:
    """Write source, edited, boxes, candidates and loss as PNG, and report.json. Returns the report."""
    from ..region_core.visualize import boxes_image, candidates_image, loss_image

    edit, scores = found.edit, found.edit.scores
    save_png(_shown(image, transparency), folder / "source.png")
    save_png(_shown(edit.image, transparency), folder / "edited.png")
    boxes = boxes_image(image, scores.proposals, edit.candidates, scores.losses)
    save_png(boxes, folder / "boxes.png")
    save_png(candidates_image(image, edit.candidates), folder / "candidates.png")
    save_png(loss_image(scores.loss_curve, epochs=args.epochs), folder / "loss.png")
    report = regions_report(args, image, editor, found, tracker)
    write_json(report, folder / "report.json")
    return report


def regions_report(
    args: argparse.Namespace, image: Tensor, editor: Editor, found: FoundRegions, tracker: CostTracker
) -> dict[str, Any]:
    """What report.json says of `regions`: the request, the boxes, what it cost, how good it is."""
    from ..region_core.proposals import box_masks, pixel_box

    edit, located = found.edit, found.located
    scores, proposals = edit.scores, edit.scores.proposals
    size = image.shape[-2], image.shape[-1]
    box = pixel_box(edit.chosen.box, size)
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
        "size": [size[1], size[0]],
        "grid": list(proposals.grid),
        "patch": proposals.patch,
        "box": list(box),
        "anchors": proposals.anchors.tolist(),
        "boxes": [[list(box) for box in row] for row in proposals.pixel_boxes()],
        "losses": [[finite(loss) for loss in row] for row in scores.losses.tolist()],
        "probabilities": scores.probabilities.tolist(),
        "candidates": [_candidate(candidate) for candidate in edit.candidates],
        "loss_curve": list(scores.loss_curve),
        **_costs(tracker),
        "background": outside_figures(image, edit.chosen.image, box_masks([box], size)[0, 0]),
    }


def regions_summary(report: Mapping[str, Any]) -> str:
    """The report's key figures in a few lines."""
    best = report["candidates"][0]
    word, curve = report["word"], report["loss_curve"]
    found = "none: all boxes" if word is None else f"{word['word']}, found at {_sides(word['box'])}: boxes near it"
    lines = [
        f"{report['editor']} on {report['k']} anchors: {report['caption']!r} -> {report['prompt']!r}",
        f"  word    {found}",
        f"  cost    {_cost_line(report)}",
        f"  box     {_sides(report['box'])}",
        f"  score   S {best['score']:.3f} (t2i {best['s_t2i']:.3f}, i2i {best['s_i2i']:.3f})",
    ]
    if curve:
        lines.append(f"  loss    {curve[0]:.4f} to {curve[-1]:.4f} in {len(curve)} steps")
    return "\n".join(lines)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON beside its place and rename it. Raises ValueError for NaN and infinity, which JSON lacks."""
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path.name}: a figure is NaN or infinite, which JSON cannot hold") from error
    with written_whole(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def _shown(image: Tensor, transparency: Transparency | None) -> Tensor | Image.Image:
    return image if transparency is None else transparency.given_to(image)


def _recipe_report(made: LocalizedEdit, quality: Quality | None) -> dict[str, Any]:
    """What a report says of an edit by inversion alone."""
    request, settings = made.request, made.request.edit_settings
    words = {} if quality is None else quality.iou_before
    return {
        "tokens": request.recipe.tokens if made.inversion.token_vectors is not None else "off",
        "null": made.inversion.null_method,
        "blend": getattr(settings, "local_blend", None),
        "carry": getattr(settings, "target_embeddings", None),
        "in_place": getattr(settings, "attribute_attention", None),
        "steps": request.steps,
        "guidance": settings.guidance,
        "composite": request.composite,
        "composite_grow": request.composite_grow if request.composite else None,
        "words": {
            word: {"iou_before": before, "iou_after": quality.iou_after[word]}
            for word, before in words.items()
            if quality is not None
        },
    }


def _costs(tracker: CostTracker) -> dict[str, Any]:
    costs = {stage: cost for stage, cost in tracker.forward_equivalents.items() if cost}
    return {
        "seconds": {stage: round(seconds, 3) for stage, seconds in tracker.seconds.items()},
        "forward_equivalents": {**costs, "total": tracker.total},
    }


def _background(task: EditTask, outcome: MethodOutcome) -> dict[str, float | None] | None:
    """The figures outside the mask or the prior, or else outside the box learned; None where there is neither."""
    if task.mask is not None:
        return outside_figures(task.image, outcome.edited, task.mask)
    if task.prior is not None:
        return outside_figures(task.image, outcome.edited, task.prior.union())
    if "box" in outcome.details and outcome.mask is not None:
        return outside_figures(task.image, outcome.edited, outcome.mask)
    return None


def _attention(made: LocalizedEdit, quality: Quality) -> Image.Image:
    image, prior = made.request.image, made.request.prior
    masks = {} if prior is None else {word: prior.mask(word) for word in prior.words}
    tuned = made.inversion.token_vectors is not None
    if not quality.maps_after:
        return contact_sheet([("image; no noun was found in the source", image)])
    return attention_image(image, quality.maps_after, before=quality.maps_before if tuned else None, masks=masks)


def _found(located: Located) -> dict[str, Any]:
    """A word's box and what else was considered, best first."""
    return {
        "phrase": located.phrase,
        "box": list(located.box),
        "score": located.score,
        "candidates": [asdict(place) for place in located.candidates],
    }


def _candidate(candidate: Candidate) -> dict[str, Any]:
    """A candidate's fields, but for the image, with its box in whole pixels as it was edited."""
    from ..region_core.proposals import pixel_box

    box = pixel_box(candidate.box, (candidate.image.shape[-2], candidate.image.shape[-1]))
    return {
        "box": list(box),
        "anchor": list(candidate.anchor),
        **{name: getattr(candidate, name) for name in ("index", "s_t2i", "s_i2i", "score", "final")},
        "of": candidate.edit.source_anchor,
        "near": candidate.edit.in_region,
        "take": candidate.edit.variant,
        "placed": candidate.edit.source_anchor is None,
    }


def _cost_line(report: Mapping[str, Any]) -> str:
    return f"{report['forward_equivalents']['total']:.0f} NFE, {sum(report['seconds'].values()):.1f} s"


def _decibels(psnr: float | None) -> str:
    return "identical" if psnr is None else f"PSNR {psnr:.1f} dB"


def _sides(box: list[float]) -> str:
    return ", ".join(f"{side:g}" for side in box)
