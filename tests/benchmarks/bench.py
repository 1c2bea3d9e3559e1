"""`make bench`: cost and quality of each method on held-out scenes, as a table.

    python tests/benchmarks/bench.py [--count 8] [--methods locinv,direct,...] [--objects 2] [--out FILE]

Columns: FE an image (edit included), seconds, best IoU of the words' maps before and after tuning,
reconstruction PSNR, background PSNR (outside the edited object, before and after), PSNR to the true edited
image, and the share of edits that where the truth changed are nearer to the truth than to the source.
With --out, a later run goes on from what that file holds.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.imaging.metrics import psnr
from pinpoint.locinv_core.pipeline import EditRequest, judge, localized_edit
from pinpoint.locinv_core.recipe import LOCINV
from pinpoint.methods.registry import all_methods, recipe_named
from pinpoint.tests.benchmarks.scene_figures import measured
from pinpoint.tests.fixtures.trials import Trial, held_out_trial

Variant = Callable[[Trial], EditRequest]


def request_of(
    trial: Trial, name: str, prior: Literal["segment", "detection"] = "segment", **changes: Any
) -> EditRequest:
    """A trial as a request; `changes` are fields of the request."""
    return replace(
        EditRequest(
            trial.image,
            trial.source,
            trial.target,
            trial.prior(prior),
            recipe=recipe_named(name),
        ),
        **changes,
    )


def variants() -> dict[str, Variant]:
    """Every row of the table by its name."""
    names = [name for name, method in all_methods().items() if method.recipe is not None and name != "locinv"]
    rows: dict[str, Variant] = {name: partial(request_of, name=name) for name in names}
    exact = LOCINV.with_choices(tokens="exact", null="null-text")
    rows["locinv"] = lambda trial: request_of(trial, "locinv")
    rows["locinv-box"] = lambda trial: request_of(trial, "locinv", "detection")
    rows["locinv-composite"] = lambda trial: request_of(trial, "locinv", composite=True)
    rows["locinv-exact"] = lambda trial: request_of(trial, "locinv", recipe=exact)
    return rows


def measure(model: EditModel, trial: Trial, request: EditRequest) -> dict[str, float]:
    """One row of figures for one trial."""
    tracker = CostTracker()
    began = time.perf_counter()
    outcome = localized_edit(model, request, tracker=tracker)
    seconds = time.perf_counter() - began
    quality = judge(model, outcome, tracker=tracker)
    things = len(trial.nouns)
    return {
        "fe": tracker.total,
        "seconds": seconds,
        "iou_before": sum(quality.iou_before.values()) / things,
        "iou_after": sum(quality.iou_after.values()) / things,
        "reconstruction": quality.reconstruction_psnr or math.inf,
        "background": psnr(outcome.edited, trial.image, 1 - trial.changed),
        "truth": trial.distance(outcome.edited),
        "success": float(trial.succeeds(outcome.edited)),
    }


def table_of(results: Mapping[str, Mapping[str, float]], count: int) -> Table:
    """The figures as a table."""
    table = Table(title=f"means over {count} held-out scenes")
    table.add_column("method")
    heads = {
        "fe": "FE",
        "seconds": "s",
        "iou_before": "IoU untuned",
        "iou_after": "IoU",
        "reconstruction": "reconstruction dB",
        "background": "background dB",
        "truth": "to truth dB",
        "success": "success",
    }
    for head in heads.values():
        table.add_column(head, justify="right")
    digits = {"fe": 0, "seconds": 1, "iou_before": 3, "iou_after": 3, "success": 2}
    for name, row in results.items():
        table.add_row(name, *(f"{row[key]:.{digits.get(key, 1)}f}" for key in heads))
    return table


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--count", type=int, default=8, help="held-out scenes (default 8)")
    parser.add_argument("--first", type=int, default=0, help="number of the first scene")
    parser.add_argument("--objects", type=int, choices=(1, 2, 3), default=2)
    parser.add_argument("--kind", choices=("swap", "attribute"))
    parser.add_argument("--methods", default=",".join(variants()), help="comma-separated")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--dtype", default="auto", help="of the model")
    parser.add_argument("--out", type=Path, help="keep the figures of every scene, and go on from them")
    args = parser.parse_args()
    rows = variants()
    names = args.methods.split(",")
    unknown = [name for name in names if name not in rows]
    if unknown:
        parser.error(f"methods: there is no {', '.join(unknown)}; there are {', '.join(rows)}")
    model = load_edit_model(args.model, dtype=args.dtype)

    def measure_scene(number: int) -> dict[str, dict[str, float]]:
        trial = held_out_trial(number, objects=args.objects, kind=args.kind)
        return {name: measure(model, trial, rows[name](trial)) for name in names}

    scenes = measured(
        range(args.first, args.first + args.count),
        measure_scene,
        keep=args.out,
        choices={
            "methods": names,
            "objects": args.objects,
            "kind": args.kind,
            "dtype": args.dtype,
            "weights": model.fingerprint,
        },
    )
    means = {
        name: {column: statistics.fmean(scene[name][column] for scene in scenes) for column in scenes[0][name]}
        for name in names
    }
    Console(width=140).print(table_of(means, args.count))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
