"""``pinpoint scenes``: write held-out scenes of the embedded world, with masks and true edited images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ...cli.output_folder import filled_folder

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "scenes",
        help="draw scenes with captions, masks and true edited images",
        description="Draw scenes that no model was trained on, with captions, exact masks and boxes, and the "
        "true edited image of each, into DIR: PNG files, scenes.json and contact_sheet.png.",
    )
    parser.add_argument("--count", type=int, default=8, metavar="N", help="how many scenes (default 8)")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="S",
        help="number of the first held-out scene (default 0): --seed 10 --count 5 draws scenes 10 to 14",
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--size", type=int, default=128, help="side of the images in pixels (default 128)")
    parser.add_argument("--objects", type=int, choices=(1, 2, 3), help="objects in every scene (default: mixed)")
    parser.add_argument("--kind", choices=("swap", "attribute"), help="kind of every edit (default: mixed)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the scenes; ``ValueError`` for bad arguments, before anything is written."""
    from ..embedded_world.scenes.files import write_scenes

    with filled_folder(args.out) as folder:
        index = write_scenes(
            folder, count=args.count, seed=args.seed, size=args.size, objects=args.objects, kind=args.kind
        )
    print(f"{args.count} scenes: {args.out / index.name}")
    return 0
