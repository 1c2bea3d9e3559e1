"""`pinpoint edit`: change the thing that is named in a picture, and nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .output_folder import check_output_folder, filled_folder
from .progress import ConsoleProgress

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localized_edit import EditRequest

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

# Written out, so that --help needs no torch; a test keeps them in step with locinv_core.
METHOD_NAMES = ("locinv", "dpl", "nti", "npi", "proxnpi", "direct", "ddim")
TOKEN_NAMES = ("off", "exact", "fast")
NULL_NAMES = ("none", "null-text", "negative-prompt", "proximal", "direct")
CARRY_NAMES = ("tuned", "original", "keys")
BLEND_NAMES = ("auto", "off", "prior", "prior+map", "map")


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "edit",
        help="edit a picture",
        description="Invert a picture, tune its words inside their places, edit it with Prompt-to-Prompt, and"
        " write the pictures and a report into DIR.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the picture: PNG, JPEG, WebP …")
    parser.add_argument("--source", required=True, metavar="TEXT", help="what the picture shows")
    parser.add_argument("--target", required=True, metavar="TEXT", help="what it should show")
    parser.add_argument(
        "--prior",
        action="append",
        default=[],
        metavar="WORD=MASK.png|WORD=x0,y0,x1,y1",
        help="where a word of the source is: a mask file or a box in pixels (may be repeated)",
    )
    parser.add_argument(
        "--model",
        default="embedded",
        metavar="embedded|DIR|FILE",
        help="diffusers folder or .safetensors file",
    )
    parser.add_argument(
        "--method",
        choices=METHOD_NAMES,
        help="a preset of --tokens and --null (default: locinv with a prior, else direct)",
    )
    parser.add_argument("--tokens", choices=TOKEN_NAMES, help="how words are tuned (default: the method's)")
    parser.add_argument(
        "--null", choices=NULL_NAMES, help="how the picture is reconstructed (default: the method's)"
    )
    parser.add_argument(
        "--carry", choices=CARRY_NAMES, help="what the target prompt takes of the tuned words"
    )
    parser.add_argument(
        "--blend", choices=BLEND_NAMES, help="where the edit may show (default: the method's)"
    )
    parser.add_argument(
        "--bind",
        action="append",
        metavar="ADJ:NOUN",
        help="bind an adjective to its noun (may be repeated; default: those that the edit changes)",
    )
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="DDIM steps (default 50)")
    parser.add_argument(
        "--guidance", type=float, default=7.5, metavar="W", help="guidance scale (default 7.5)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="seed of whatever is random (default 0)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps …")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16")
    parser.add_argument(
        "--composite", action="store_true", help="keep every pixel outside the priors exactly as it was"
    )
    parser.add_argument(
        "--save-inversion", type=Path, metavar="FILE", help="keep the inversion as safetensors"
    )
    parser.add_argument("--inversion", type=Path, metavar="FILE", help="use an inversion kept before")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Edit and write the files; ValueError for bad input, before any work."""
    _check_files(args)
    import torch

    from ..locinv_core.images import load_image
    from ..locinv_core.inversion_file import open_inversion, save_inversion
    from ..locinv_core.loading import load_edit_model
    from ..locinv_core.localized_edit import judge, localized_edit
    from ..locinv_core.run import Run
    from .edit_report import summary, write_edit

    request = _request(args, load_image(args.image))
    inversion = None if args.inversion is None else open_inversion(args.inversion)
    torch.manual_seed(args.seed)
    with ConsoleProgress() as progress:
        books = Run(progress)
        with books.stage("load"):
            model = load_edit_model(args.model, device=args.device, dtype=args.dtype)
        outcome = localized_edit(model, request, inversion=inversion, run=books)
        quality = judge(model, request, outcome, run=books)
    with filled_folder(args.out) as folder:
        report = write_edit(folder, model, request, outcome, quality, books, seed=args.seed)
        if args.save_inversion is not None:
            save_inversion(outcome.inversion, args.save_inversion)
    print(summary(report))
    print(f"pictures and report: {args.out}", file=sys.stdout)
    return 0


def _check_files(args: argparse.Namespace) -> None:
    check_output_folder(args.out)
    if args.save_inversion is not None and not args.save_inversion.absolute().parent.is_dir():
        raise ValueError(f"save-inversion: the folder of {str(args.save_inversion)!r} does not exist")
    if not args.image.exists():
        raise ValueError(f"image: there is no file {str(args.image)!r}")


def _request(args: argparse.Namespace, image: Tensor) -> EditRequest:
    from ..locinv_core.localized_edit import EditRequest
    from ..locinv_core.presets import method_named
    from ..locinv_core.priors import from_arguments

    height, width = image.shape[-2:]
    prior = from_arguments(args.prior, (height, width)) if args.prior else None
    method = method_named(args.method or ("direct" if prior is None else "locinv"))
    method = method.with_choices(args.tokens, args.null)
    settings: dict[str, Any] = {"guidance": args.guidance}
    if args.carry is not None:
        settings["carry"] = args.carry
    if args.blend is not None:
        settings["blend"] = args.blend
    return EditRequest(
        image,
        args.source,
        args.target,
        prior,
        method=method,
        bindings=None if args.bind is None else [_binding(text) for text in args.bind],
        steps=args.steps,
        settings=method.settings(**settings),
        composite_pixels=args.composite,
    )


def _binding(text: str) -> tuple[str, str]:
    adjective, colon, noun = text.partition(":")
    if not (colon and adjective.strip() and noun.strip()):
        raise ValueError(f"bind: got {text!r}, wants ADJ:NOUN, for example red:car")
    return adjective.strip(), noun.strip()
