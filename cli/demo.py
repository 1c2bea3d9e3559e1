"""`pinpoint demo`: a first edit on an image that the pack brings, with nothing to download."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..assets import SAMPLES
from .output_folder import check_output_folder, filled_folder
from .progress import ConsoleProgress

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

GROWN = 8
"""Pixels by which the composite's mask grows, one cell of the word maps: foxes are not shaped like cats."""
FEATHER = 2.0
"""Pixels over which its seam is softened."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "demo",
        help="a first edit, on an image that the pack brings",
        description="Edit a sample image with plain DDIM inversion and with LocInv, and put both beside the"
        " true edited image, which is known because the sample was drawn.",
    )
    parser.add_argument("--out", type=Path, default=Path("out/demo"), metavar="DIR", help="folder to write to")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="DDIM steps (default 50)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make the demo's images and report."""
    check_output_folder(args.out)
    import torch

    from ..locinv_core.backbones.loading import load_edit_model
    from ..locinv_core.cost import CostTracker
    from ..locinv_core.imaging.composite import composite, grow
    from ..locinv_core.imaging.io import load_image, save_png
    from ..locinv_core.imaging.metrics import psnr
    from ..locinv_core.imaging.visualize import contact_sheet, mask_outline
    from ..locinv_core.localization.priors import from_mask_files
    from ..locinv_core.pipeline import judge
    from ..methods.registry import edit_by_method
    from ..methods.types import EditTask, MethodModels
    from .report import MadeEdit, summary, write_edit, write_json

    scene = json.loads((SAMPLES / "scenes.json").read_text(encoding="utf-8"))["scenes"][0]
    image, truth = load_image(SAMPLES / scene["image"]), load_image(SAMPLES / scene["target_image"])
    prior = from_mask_files({obj["noun"]: SAMPLES / obj["mask"] for obj in scene["objects"]})
    torch.manual_seed(0)
    task = EditTask(image, scene["source"], scene["target"], prior)
    with ConsoleProgress() as progress:
        models = MethodModels(model=load_edit_model("embedded"))
        settings = {"steps": args.steps}
        without = edit_by_method("ddim", models, replace(task, prior=None), settings=settings)
        tracker = CostTracker(progress)
        outcome = edit_by_method("locinv", models, task, settings=settings, tracker=tracker)
        assert outcome.localized is not None
        quality = judge(models.editing, outcome.localized, tracker=tracker)
    mask = grow(prior.mask(scene["edit"]["from"]), GROWN)
    composited = composite(image, outcome.edited, mask, FEATHER)
    outlined = mask_outline(image, prior.union())
    cells: list[tuple[str, Tensor | Image.Image]] = [
        (scene["source"], image),
        ("priors", outlined),
        (f"DDIM + Prompt-to-Prompt\n{psnr(without.edited, truth):.1f} dB PSNR to ground truth", without.edited),
        (f"LocInv\n{psnr(outcome.edited, truth):.1f} dB PSNR to ground truth", outcome.edited),
        (f"LocInv, --composite-grow {GROWN}\n{psnr(composited, truth):.1f} dB PSNR to ground truth", composited),
        (f"true edited image\n{scene['target']}", truth),
    ]
    with filled_folder(args.out) as folder:
        made = MadeEdit("locinv", models.editing, task, outcome, settings, 0, tracker, quality)
        report = write_edit(folder, made)
        report["truth"] = {
            "psnr": psnr(outcome.edited, truth),
            "psnr_composite": psnr(composited, truth),
            "psnr_without_localization": psnr(without.edited, truth),
        }
        write_json(report, folder / "report.json")
        save_png(without.edited, folder / "without_localization.png")
        save_png(composited, folder / "composite.png")
        save_png(truth, folder / "true_edit.png")
        save_png(contact_sheet(cells), folder / "contact_sheet.png")
    print(summary(report))
    print(
        f"  to ground truth {report['truth']['psnr']:.1f} dB, {report['truth']['psnr_composite']:.1f} dB with"
        " the rest of the image kept;\n"
        "                  DDIM + Prompt-to-Prompt without localization:"
        f" {report['truth']['psnr_without_localization']:.1f} dB"
    )
    print(f"images and report: {args.out}")
    return 0
