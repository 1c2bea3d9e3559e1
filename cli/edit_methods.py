"""The methods of `pinpoint edit` that are no presets: those with a mask, with other weights, or that tune."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..locinv_core.imaging.io import save_png
from ..locinv_core.imaging.visualize import contact_sheet
from .edit_report import write_json

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.backbones.stable_diffusion import EditModel
    from ..locinv_core.cost import CostTracker
    from ..methods.types import EditTask, MethodModels, MethodOutcome

PRESETS_ALONE = (
    "tokens",
    "null",
    "target_embeddings",
    "local_blend",
    "bind",
    "composite_grow",
    "save_inversion",
    "inversion",
)
INSTRUCTED = "instruct-pix2pix"
OWN_FOLDER = {"inpaint": "inpaint", INSTRUCTED: "instruct"}
"""Methods whose --model is not a text-to-image model, and what `open_models` calls it."""


def refuse_foreign_options(args: argparse.Namespace) -> None:
    """Raise ValueError for an option that only the presets, or another method, have."""
    for name in PRESETS_ALONE:
        if getattr(args, name) is not None:
            option = name.replace("_", "-")
            raise ValueError(f"{option}: the method {args.method!r} has no such option")
    if args.instruction is not None and args.method != INSTRUCTED:
        raise ValueError(f"instruction: the method {args.method!r} has no such option")


def chosen_settings(args: argparse.Namespace, more: Mapping[str, Any]) -> dict[str, Any]:
    """--steps, --guidance and --composite as the method's settings, and those of --set."""
    from ..methods.registry import any_method_named

    settings: dict[str, Any] = {"steps": args.steps}
    if args.guidance is not None:
        settings["guidance"] = args.guidance
    if args.composite:
        settings["composite"] = True
    settings |= more
    any_method_named(args.method).settings(**settings)
    return settings


def open_for(args: argparse.Namespace, settings: Mapping[str, Any]) -> MethodModels:
    """The models that the method needs; --model is its own, and an aMUSEd the embedded one."""
    from ..methods.models import open_models

    names: dict[str, Any] = {OWN_FOLDER.get(args.method, "model"): args.model}
    if settings.get("editor") == "amused":
        names["amused"] = "embedded"
    return open_models([args.method], **names, clip=args.clip, vit=args.vit, device=args.device, dtype=args.dtype)


def model_of(models: MethodModels) -> EditModel:
    """The diffusion model that edits."""
    model = models.inpaint or models.instruct or models.model
    assert model is not None
    return model


def write_outcome(
    folder: Path,
    args: argparse.Namespace,
    models: MethodModels,
    task: EditTask,
    outcome: MethodOutcome,
    settings: Mapping[str, Any],
    tracker: CostTracker,
) -> dict[str, Any]:
    """Write source, edited, contact_sheet and, where there are such, reconstruction and mask as PNG, and
    report.json. Returns the report."""
    from PIL import Image

    save_png(task.image, folder / "source.png")
    save_png(outcome.edited, folder / "edited.png")
    cells = [(f"source\n{task.source}", task.image)]
    if outcome.reconstruction is not None:
        save_png(outcome.reconstruction, folder / "reconstruction.png")
        cells.append(("reconstruction", outcome.reconstruction))
    if outcome.mask is not None:
        save_png(Image.fromarray((outcome.mask * 255).byte().numpy()), folder / "mask.png")
    cells.append((f"edited\n{task.target}", outcome.edited))
    save_png(contact_sheet(cells), folder / "contact_sheet.png")
    report = outcome_report(args, models, task, outcome, settings, tracker)
    write_json(report, folder / "report.json")
    return report


def outcome_report(
    args: argparse.Namespace,
    models: MethodModels,
    task: EditTask,
    outcome: MethodOutcome,
    settings: Mapping[str, Any],
    tracker: CostTracker,
) -> dict[str, Any]:
    """What report.json says: the request, its cost, and how far the background moved."""
    from ..locinv_core.imaging.metrics import finite, psnr

    model = model_of(models)
    costs = {stage: cost for stage, cost in tracker.forward_equivalents.items() if cost}
    reconstruction = outcome.reconstruction
    return {
        "method": args.method,
        "source": task.source,
        "target": task.target,
        "model": model.name,
        "fingerprint": model.fingerprint,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "size": [task.image.shape[-1], task.image.shape[-2]],
        "settings": dict(settings),
        "seed": args.seed,
        **outcome.details,
        "seconds": {stage: round(seconds, 3) for stage, seconds in tracker.seconds.items()},
        "forward_equivalents": {**costs, "total": tracker.total},
        "reconstruction": None if reconstruction is None else {"psnr": finite(psnr(task.image, reconstruction))},
        "background": _background(task, outcome),
    }


def outcome_summary(report: Mapping[str, Any]) -> str:
    """The report's key figures in a few lines."""
    lines = [
        f"{report['method']}: {report['source']!r} -> {report['target']!r}",
        f"  cost            {report['forward_equivalents']['total']:.0f} NFE, {sum(report['seconds'].values()):.1f} s",
    ]
    for name, what in (("instruction", "instruction"), ("concepts", "concepts"), ("box", "box")):
        if name in report:
            value = report[name]
            lines.append(f"  {what:16}{value if isinstance(value, str) else ', '.join(map(str, value))}")
    background = report["background"]
    if background is not None:
        psnr = background["psnr"]
        shown = "identical" if psnr is None else f"PSNR {psnr:.1f} dB"
        lines.append(f"  background      {shown}, SSIM {background['ssim']:.3f}")
    return "\n".join(lines)


def _background(task: EditTask, outcome: MethodOutcome) -> dict[str, float | None] | None:
    """psnr (None for identical images), ssim and mse outside the places given, or else outside the box
    learned; None where there is neither."""
    from ..locinv_core.imaging.metrics import finite, mse, psnr, ssim

    place: Tensor | None = task.mask
    if place is None and task.prior is not None:
        place = task.prior.union()
    if place is None and "box" in outcome.details:
        place = outcome.mask
    if place is None or bool((place > 0).all()):
        return None
    pair = (task.image, outcome.edited, 1 - place.float())
    return {"psnr": finite(psnr(*pair)), "ssim": finite(ssim(*pair)), "mse": mse(*pair)}
