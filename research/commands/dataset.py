"""`pinpoint dataset`: build the data sets that methods are compared on."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ...cli.output_folder import check_output_folder, filled_folder
from .run_options import add_traceback

if TYPE_CHECKING:
    from ..evaluation.datasets.types import Dataset

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "dataset",
        help="build a data set of edits",
        description="Build a data set of edits in DIR: images, masks, dataset.json and contact_sheet.png.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    scenes = kinds.add_parser(
        "scenes",
        help="Scene-Edit: drawn scenes with exact masks and true edited images",
        description="Scene-Edit, built as LocInv's COCO-Edit is (Table 3): seven search prompts of one object"
        " and six of several, each with one editing task, and six edits of attributes.",
    )
    scenes.add_argument("--seed", type=int, default=0, metavar="S", help="another draw of held-out scenes (default 0)")
    scenes.add_argument("--size", type=int, default=128, help="side of the images in pixels (default 128)")
    scenes.set_defaults(build=_build_scenes)
    coco = kinds.add_parser(
        "coco-edit",
        help="COCO-Edit, from a local MS-COCO download",
        description="LocInv's COCO-Edit (Table 3): the images whose captions and categories fit the paper's"
        " search prompts.",
    )
    coco.add_argument(
        "--instances", type=Path, required=True, metavar="FILE", help="instances_val2017.json or the like"
    )
    coco.add_argument("--captions", type=Path, required=True, metavar="FILE", help="captions_val2017.json or the like")
    coco.add_argument("--images", type=Path, required=True, metavar="DIR", help="the images' folder")
    coco.set_defaults(build=_build_coco)
    for kind in (scenes, coco):
        kind.add_argument(
            "--count", type=int, metavar="N", help="images a search prompt (default: the paper's numbers)"
        )
        kind.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to, new or empty")
        add_traceback(kind)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build the data set; ValueError for bad input, before anything is written."""
    check_output_folder(args.out)
    if args.out.is_dir() and any(args.out.iterdir()):
        raise ValueError(f"out: {str(args.out)!r} is not empty, requires a new or an empty folder")
    from ...locinv_core.imaging.io import save_png
    from ..evaluation.datasets.contact_sheet import task_sheet
    from ..evaluation.datasets.reader import write_dataset

    with filled_folder(args.out) as folder:
        dataset, counts = args.build(args, folder)
        save_png(task_sheet(dataset), folder / "contact_sheet.png")
        write_dataset(dataset, folder)
    print(counts)
    print(f"data set: {args.out}")
    return 0


def _build_scenes(args: argparse.Namespace, folder: Path) -> tuple[Dataset, str]:
    """The data set, and what is printed of it."""
    from ..evaluation.datasets.scene_edit import SCENE_EDIT, build_scene_edit
    from ..evaluation.datasets.search_prompts import counts_table

    dataset, counts = build_scene_edit(folder, count=args.count, seed=args.seed, size=args.size)
    return dataset, counts_table(SCENE_EDIT, counts, counts)


def _build_coco(args: argparse.Namespace, folder: Path) -> tuple[Dataset, str]:
    from ..evaluation.datasets.coco_edit import build_coco_edit
    from ..evaluation.datasets.search_prompts import COCO_EDIT, counts_table

    built = build_coco_edit(
        folder, instances=args.instances, captions=args.captions, images=args.images, count=args.count
    )
    left_out = [f"left out: {line}" for line in built.left_out]
    return built.dataset, "\n".join([counts_table(COCO_EDIT, built.found, built.kept), *left_out])
