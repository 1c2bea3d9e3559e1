"""The files of an edit: its images, and report.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..locinv_core.imaging.io import save_png, written_whole
from ..locinv_core.imaging.visualize import attention_image, box_overlay, contact_sheet

if TYPE_CHECKING:
    from PIL import Image

    from ..locinv_core.backbones.stable_diffusion import EditModel
    from ..locinv_core.cost import CostTracker
    from ..locinv_core.pipeline import EditRequest, LocalizedEdit, Quality
    from ..region_core.object_localization.attention_localizer import Located


def write_edit(
    folder: Path,
    model: EditModel,
    request: EditRequest,
    outcome: LocalizedEdit,
    quality: Quality,
    tracker: CostTracker,
    *,
    seed: int,
    located: Mapping[str, Located] | None = None,
) -> dict[str, Any]:
    """Write source, reconstruction, edited, attention and contact_sheet as PNG, and report.json.

    located: the words whose places were found; the boxes are drawn into located.png. Returns the report.
    """
    save_png(request.image, folder / "source.png")
    save_png(outcome.reconstruction, folder / "reconstruction.png")
    save_png(outcome.edited, folder / "edited.png")
    save_png(_attention(request, outcome, quality), folder / "attention.png")
    cells = [
        (f"source\n{request.source}", request.image),
        ("reconstruction", outcome.reconstruction),
        (f"edited\n{request.target}", outcome.edited),
    ]
    save_png(contact_sheet(cells), folder / "contact_sheet.png")
    report = edit_report(model, request, outcome, quality, tracker, seed=seed)
    if located:
        boxes = [found.box for found in located.values()]
        labels = [f"{word} {found.score:.2f}" for word, found in located.items()]
        save_png(box_overlay(request.image, boxes, labels), folder / "located.png")
        report["located"] = {word: _found(found) for word, found in located.items()}
    write_json(report, folder / "report.json")
    return report


def edit_report(
    model: EditModel,
    request: EditRequest,
    outcome: LocalizedEdit,
    quality: Quality,
    tracker: CostTracker,
    *,
    seed: int,
) -> dict[str, Any]:
    """What report.json says: the request, its cost, and how good the result is."""
    costs = {stage: cost for stage, cost in tracker.forward_equivalents.items() if cost}
    return {
        "method": request.method.name,
        "tokens": request.method.tokens if outcome.inversion.token_vectors is not None else "off",
        "null": outcome.inversion.null_method,
        "blend": getattr(request.edit_settings, "local_blend", None),
        "carry": getattr(request.edit_settings, "target_embeddings", None),
        "in_place": getattr(request.edit_settings, "attribute_attention", None),
        "source": request.source,
        "target": request.target,
        "bindings": [list(binding) for binding in outcome.bindings],
        "model": model.name,
        "fingerprint": model.fingerprint,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "size": [request.image.shape[-1], request.image.shape[-2]],
        "steps": request.steps,
        "guidance": request.edit_settings.guidance,
        "seed": seed,
        "composite": request.composite_pixels,
        "composite_grow": request.composite_grow if request.composite_pixels else None,
        "seconds": {stage: round(seconds, 3) for stage, seconds in tracker.seconds.items()},
        "forward_equivalents": {**costs, "total": tracker.total},
        "words": {
            word: {"iou_before": quality.iou_before[word], "iou_after": quality.iou_after[word]}
            for word in quality.iou_before
        },
        "reconstruction": {"psnr": quality.reconstruction_psnr},
        "background": quality.background,
    }


def summary(report: dict[str, Any]) -> str:
    """The report's key figures in a few lines."""
    background = report["background"]
    lines = [
        f"{report['method']} (tokens {report['tokens']}, null {report['null']}):"
        f" {report['source']!r} -> {report['target']!r}",
        f"  cost            {report['forward_equivalents']['total']:.0f} NFE, {sum(report['seconds'].values()):.1f} s",
        f"  reconstruction  {_decibels(report['reconstruction']['psnr'])}",
    ]
    if background is not None:
        lines.append(f"  background      {_decibels(background['psnr'])}, SSIM {background['ssim']:.3f}")
    for word, found in report.get("located", {}).items():
        box = ", ".join(f"{side:g}" for side in found["box"])
        lines.append(f"  place of {word:7}{box} (found)")
    for word, iou in report["words"].items():
        lines.append(f"  map of {word:9}best IoU {iou['iou_before']:.2f} before, {iou['iou_after']:.2f} after tuning")
    return "\n".join(lines)


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write JSON beside its place and rename it. Raises ValueError for NaN and infinity, which JSON lacks."""
    try:
        text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        raise ValueError(f"{path.name}: a figure is NaN or infinite, which JSON cannot hold") from error
    with written_whole(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def _attention(request: EditRequest, outcome: LocalizedEdit, quality: Quality) -> Image.Image:
    masks = {} if request.prior is None else {word: request.prior.mask(word) for word in request.prior.words}
    tuned = outcome.inversion.token_vectors is not None
    maps = quality.maps_after
    if not maps:
        return contact_sheet([("image; no noun was found in the source", request.image)])
    return attention_image(request.image, maps, before=quality.maps_before if tuned else None, masks=masks)


def _found(located: Located) -> dict[str, Any]:
    """A word's box and what else was considered, best first."""
    return {
        "phrase": located.phrase,
        "box": list(located.box),
        "score": located.score,
        "candidates": [asdict(place) for place in located.candidates],
    }


def _decibels(psnr: float | None) -> str:
    return "identical" if psnr is None else f"PSNR {psnr:.1f} dB"
