"""`pinpoint ablate`: the papers' ablations on a data set, as tables and plots."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ...cli.arguments import check_seed
from ...cli.regions import add_networks, add_window, window_of
from ...locinv_core.extras import require
from ...region_core.editors.registry import editor_names
from ...region_core.options import PLAN_NAMES
from .run_options import (
    add_run_options,
    add_traceback,
    check_run_folder,
    failures_of,
    in_dtype,
    limited_dataset,
    listed,
    note_row,
    whole_path,
    workforce_of,
)

if TYPE_CHECKING:
    from ..evaluation.ablation.sweeps import Sweep

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

LOCINV = "similarity,overlap,weights,methods"
REGIONS = "losses,proposals,anchors"


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "ablate",
        help="the papers' ablations",
        description="The sweeps of LocInv's Fig. 3 or of Learnable Regions' Tables 2 to 5 on a data set:"
        " results.jsonl, table.md, table.csv and plots in DIR. A run that was stopped goes on where it was.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    locinv = kinds.add_parser(
        "locinv",
        help="Fig. 3: λ, α and β of LocInv's losses, and the maps' IoU beside other methods",
        description="Tune the words under losses of other λ, α and β, and hold their maps against the masks;"
        " nothing is edited.",
    )
    add_run_options(locinv)
    locinv.add_argument(
        "--sweeps", default=LOCINV, metavar="A,B,…", help=f"columns of Fig. 3, of {LOCINV} (default all)"
    )
    locinv.add_argument(
        "--prior", default="segment,detection", metavar="A,B", help="rows of Fig. 3: segment, detection (default both)"
    )
    locinv.add_argument("--steps", type=int, default=50, metavar="N", help="DDIM steps (default 50)")
    locinv.add_argument(
        "--tokens", choices=("exact", "fast"), default="fast", help="how words are tuned (default fast)"
    )
    locinv.set_defaults(ablate=_ablate_locinv)
    regions = kinds.add_parser(
        "regions",
        help="Tables 3 to 5: losses, proposals and anchors of Learnable Regions; Table 2 as generation",
        description="Learn where to edit under other losses, numbers of boxes and of anchors, and score the"
        " edits that are chosen.",
    )
    add_run_options(regions)
    regions.add_argument(
        "--sweeps", default=REGIONS, metavar="A,B,…", help=f"of {REGIONS}, generation (default {REGIONS})"
    )
    regions.add_argument(
        "--editor",
        choices=[name for name in editor_names() if name != "locinv"],  # it is of one image's caption
        default="blended",
        help="what edits inside a box (default blended)",
    )
    regions.add_argument("--plan", choices=PLAN_NAMES, default="preview", help="how boxes are judged (default preview)")
    regions.add_argument("--epochs", type=int, default=5, metavar="N", help="of learning (default 5)")
    regions.add_argument("--steps", type=int, metavar="N", help="an edit's steps (default: the editor's)")
    regions.add_argument("--strength", type=float, metavar="S", help="of an edit (default: the editor's)")
    regions.add_argument("--guidance", type=float, metavar="W", help="scale (default: the editor's)")
    add_window(regions)
    add_networks(regions)
    regions.set_defaults(ablate=_ablate_regions)
    for kind in (locinv, regions):
        add_traceback(kind)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what is not done yet and write tables and plots; ValueError for bad input, before any work."""
    check_run_folder(args.out, ("table.md", "table.csv"))
    check_seed(args.seed)
    require("matplotlib", "evaluate")  # for the plots: said before hours of work, not after
    made: int = args.ablate(args)
    return made


def _ablate_locinv(args: argparse.Namespace) -> int:
    from ..evaluation.ablation.sweeps import locinv_sweeps

    sweeps = locinv_sweeps(listed(args.sweeps), listed(args.prior), steps=args.steps, solver=args.tokens)
    from ..evaluation.ablation.performers import MapsRecipe
    from ..evaluation.ablation.tables import MAPS_METRICS

    return _run(args, sweeps, MapsRecipe(whole_path(args.model), args.device, args.dtype, args.steps), MAPS_METRICS)


def _ablate_regions(args: argparse.Namespace) -> int:
    from ...region_core.trainer import LearningSettings
    from ..evaluation.ablation.sweeps import region_sweeps

    names = ("steps", "strength", "guidance")
    own = {name: value for name in names if (value := getattr(args, name)) is not None}
    window = window_of(args)
    if args.editor == "blended":
        own["window"] = window
    shared = {"editor": args.editor, "plan": args.plan, "epochs": args.epochs, "clip": args.clip}
    LearningSettings(args.epochs)  # refused here, and not written down as a failure of every image
    sweeps = region_sweeps(listed(args.sweeps), {**shared, "vit": args.vit, **own})
    from ..evaluation.ablation.performers import RegionsRecipe
    from ..evaluation.ablation.tables import REGIONS_METRICS

    model, clip, vit = (whole_path(name) for name in (args.model, args.clip, args.vit))
    recipe = RegionsRecipe(args.editor, model, clip, vit, args.device, args.dtype, own)
    return _run(args, sweeps, recipe, REGIONS_METRICS)


def _run(args: argparse.Namespace, sweeps: tuple[Sweep, ...], recipe: Any, metrics: tuple[str, ...]) -> int:
    from ..evaluation.ablation.sweeps import variants_of
    from ..evaluation.ablation.tables import write_ablation
    from ..evaluation.execution.runner import run_work

    rows = run_work(
        recipe,
        limited_dataset(args).items,
        in_dtype(variants_of(sweeps), args),
        args.out,
        seed=args.seed,
        workforce=workforce_of(args),
        retry_failed=args.retry_failed,
        note=note_row,
    )
    write_ablation(sweeps, rows, metrics, args.out)
    if failures := failures_of(rows):
        print(failures)
    print(f"results, tables and plots: {args.out}")
    return 0 if any(row["error"] is None for row in rows) else 1
