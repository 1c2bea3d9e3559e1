"""`pinpoint evaluate`: methods of editing on a data set, as tables and a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cli.arguments import check_seed
from ...locinv_core.extras import require
from .run_options import (
    add_run_options,
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
    from ..evaluation.datasets.types import Dataset

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

DEFAULT_METHODS = "ddim,direct,locinv"
SHOWN = ("psnr_background", "dino_similarity_background", "psnr_target", "clip_score", "iou_best", "fe")
"""The columns that are printed, of those that were measured; the files have them all."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "evaluate",
        help="compare methods of editing on a data set",
        description="Edit every image of a data set by every method, measure the edits, and write"
        " results.jsonl, images, table.md, table.csv and report.html into DIR. A run that was stopped goes"
        " on where it was when the command is given again.",
    )
    add_run_options(parser)
    parser.add_argument(
        "--methods",
        default=DEFAULT_METHODS,
        metavar="A,B,…",
        help="methods' names, or frozen, masked, tuned, instructed or all; an unknown name lists them"
        f" (default {DEFAULT_METHODS})",
    )
    parser.add_argument(
        "--metrics",
        metavar="A,B,…",
        help="what to measure; an unknown name lists them (default: all whose weights are given)",
    )
    parser.add_argument("--steps", type=int, metavar="N", help="steps of every method (default: its own)")
    parser.add_argument("--guidance", type=float, metavar="W", help="guidance scale of every method (default: its own)")
    for name, what in (
        ("clip", "CLIP of the CLIP score, and of learnable-regions"),
        ("dino", "ViT of DINO similarity and structure distance, and of learnable-regions"),
    ):
        parser.add_argument(
            f"--{name}", metavar="none|embedded|DIR", help=f"{what} (default: the embedded one, where it is installed)"
        )
    parser.add_argument("--lpips", metavar="DIR", help="backbone of LPIPS, a file or folder of torchvision's weights")
    for name, what in (
        ("inpaint", "inpainting model, a diffusers folder"),
        ("instruct", "InstructPix2Pix model, a diffusers folder"),
    ):
        parser.add_argument(f"--{name}", metavar="DIR", help=f"{what}, for the methods that require one")
    parser.add_argument(
        "--amused",
        metavar="none|embedded|DIR",
        help="aMUSEd model of learnable-regions-amused (default: the embedded one, where it is installed)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Do what is not done yet and write the tables; ValueError for bad input, before any work."""
    from ..evaluation.datasets.reader import NOTE_NAME, note_dataset

    check_run_folder(args.out, ("table.md", "table.csv", "report.html", NOTE_NAME))
    check_seed(args.seed)
    require("matplotlib", "evaluate")  # for the plots: said before hours of work, not after
    dataset = limited_dataset(args)
    workforce = workforce_of(args)
    weights = {name: _weights(name, getattr(args, name)) for name in _WEIGHTS}
    from ..evaluation.metrics.registry import metrics_for, metrics_of

    judges = {name: weights[name] for name in ("clip", "dino", "lpips")}
    metrics = metrics_for(**judges) if args.metrics is None else tuple(listed(args.metrics))
    metrics_of(metrics)
    if not metrics:
        raise ValueError("metrics: got none, requires at least one")

    from ..evaluation.evaluator import EvaluationRecipe
    from ..evaluation.execution.runner import run_work
    from ..evaluation.variants import named_variants

    needs = {"clip": weights["clip"], "vit": weights["dino"]}
    needs |= {name: weights[name] for name in ("inpaint", "instruct", "amused")}
    named = named_variants(listed(args.methods), steps=args.steps, guidance=args.guidance, weights=needs, judges=judges)
    variants = in_dtype(named, args)
    models: dict[str, Any] = {name: whole_path(value) for name, value in needs.items() if value is not None}
    recipe = EvaluationRecipe(
        variants,
        metrics,
        {**models, "model": whole_path(args.model), "device": args.device, "dtype": args.dtype},
        {part: None if name is None else whole_path(name) for part, name in judges.items()},
    )

    def note(row: Mapping[str, Any], done: int, total: int) -> None:
        if done == 1:  # so that a run that is killed has said it, too
            note_dataset(args.dataset, args.out)
        note_row(row, done, total)

    rows = run_work(
        recipe,
        dataset.items,
        variants,
        args.out,
        seed=args.seed,
        workforce=workforce,
        metrics=metrics,
        retry_failed=args.retry_failed,
        note=note,
    )
    note_dataset(args.dataset, args.out)
    _write(rows, dataset, args.out)
    return 0 if any(row["error"] is None for row in rows) else 1


_EMBEDDED: dict[str, Any] = {"clip": "clip", "dino": "vit", "amused": "amused"}
_WEIGHTS = ("clip", "dino", "lpips", "inpaint", "instruct", "amused")


def _write(rows: list[dict[str, Any]], dataset: Dataset, folder: Path) -> None:
    """The tables and the report, and on stdout the table's most telling columns."""
    from ..evaluation.report.html import write_report
    from ..evaluation.report.tables import metrics_in, summarise, summarise_groups, write_tables

    names = metrics_in(rows)
    summary = summarise(rows, names)
    write_tables(summary, folder, summarise_groups(rows, names))
    for line in summary.methods:
        found = [
            f"{column.label} {column.shown(line.estimates[column.name].mean)}"
            for column in summary.columns
            if column.name in SHOWN
        ]
        if found:
            print(f"{line.method}: {', '.join(found)}")
    write_report(rows, dataset, folder)
    if failures := failures_of(rows):
        print(failures)
    print(f"results, tables and report: {folder}")


def _weights(name: str, given: str | None) -> str | None:
    """What is named; of CLIP, the ViT and aMUSEd the embedded one, if nothing is and it is there."""
    if given == "none":
        return None
    if given is None and name in _EMBEDDED:
        from ...region_core.encoders.hub import weights_place

        try:
            weights_place("embedded", _EMBEDDED[name])
        except ValueError as error:
            print(f"{name}: left out, {error}", file=sys.stderr)
            return None
        return "embedded"
    return given
