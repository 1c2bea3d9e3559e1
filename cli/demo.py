"""`pinpoint demo`: a first edit on an image that the pack brings, with nothing to download."""

from __future__ import annotations

import argparse
import json
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
"""Pixels by which the composite's place grows, one cell of the word maps: foxes are not shaped like cats."""


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
    from ..locinv_core.pipeline import EditRequest, judge, localized_edit
    from ..methods.presets import METHODS
    from .edit_report import summary, write_edit, write_json

    scene = json.loads((SAMPLES / "scenes.json").read_text(encoding="utf-8"))["scenes"][0]
    image, truth = load_image(SAMPLES / scene["image"]), load_image(SAMPLES / scene["target_image"])
    prior = from_mask_files({obj["noun"]: SAMPLES / obj["mask"] for obj in scene["objects"]})
    torch.manual_seed(0)
    with ConsoleProgress() as progress:
        model = load_edit_model("embedded")
        plain = EditRequest(image, scene["source"], scene["target"], method=METHODS["ddim"], steps=args.steps)
        without = localized_edit(model, plain)
        request = EditRequest(image, scene["source"], scene["target"], prior, steps=args.steps)
        tracker = CostTracker(progress)
        outcome = localized_edit(model, request, tracker=tracker)
        quality = judge(model, request, outcome, tracker=tracker)
    place = grow(prior.mask(scene["edit"]["from"]), GROWN)
    composited = composite(image, outcome.edited, place, request.feather)
    outlined = mask_outline(image, prior.union())
    cells: list[tuple[str, Tensor | Image.Image]] = [
        (scene["source"], image),
        ("priors", outlined),
        (f"DDIM + Prompt-to-Prompt\n{psnr(without.edited, truth):.1f} dB to the truth", without.edited),
        (f"LocInv\n{psnr(outcome.edited, truth):.1f} dB to the truth", outcome.edited),
        (f"LocInv, --composite-grow {GROWN}\n{psnr(composited, truth):.1f} dB to the truth", composited),
        (f"true edited image\n{scene['target']}", truth),
    ]
    with filled_folder(args.out) as folder:
        report = write_edit(folder, model, request, outcome, quality, tracker, seed=0)
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
        f"  to the truth    {report['truth']['psnr']:.1f} dB, {report['truth']['psnr_composite']:.1f} dB with"
        " the rest of the image kept;\n"
        "                  DDIM + Prompt-to-Prompt without a place:"
        f" {report['truth']['psnr_without_localization']:.1f} dB"
    )
    print(f"images and report: {args.out}")
    return 0
