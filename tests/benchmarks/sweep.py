"""How tuning and editing choices move maps and edits, on held-out scenes of two objects.

    python tests/benchmarks/sweep.py tuning [--count 24]     inner steps x rate, refreshes, share: IoU and FE
    python tests/benchmarks/sweep.py layers [--count 24]     the cross-attention layers that tune the words
    python tests/benchmarks/sweep.py carry [--count 24]      what the target prompt carries, and the blend
    python tests/benchmarks/sweep.py solvers --count 100     fast against exact: is it within 0.02 IoU?

Scenes are inverted once; every figure is a mean over scenes. With --out, a later run goes on from what that
file holds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.editing.edit import edit
from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.imaging.metrics import best_iou, psnr
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion, ddim_invert
from pinpoint.locinv_core.localization.algorithm1 import LocInvSettings, locinv
from pinpoint.locinv_core.localization.attention_maps import maps_before_and_after
from pinpoint.locinv_core.localization.plan import bindings_of_edit, plan_tuning
from pinpoint.locinv_core.localization.token_optimizer import TuningSettings
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.locinv_core.text.word_alignment import align
from pinpoint.tests.benchmarks.scene_figures import measured
from pinpoint.tests.fixtures.trials import Trial, held_out_trial

Rows = dict[str, dict[str, float]]
"""Figures by what they are of."""

FAST = TuningSettings()
FLAT = replace(FAST, anneal=False, inner_steps=10, learning_rate=5.0)
TUNINGS: dict[str, TuningSettings] = {
    "16 x 20": FAST,
    "16 x 10": replace(FAST, learning_rate=10.0),
    "16 x 40": replace(FAST, learning_rate=40.0),
    "16 x 28": replace(FAST, learning_rate=28.0),
    "24 x 20": replace(FAST, inner_steps=24),
    "31 x 20": replace(FAST, inner_steps=31),
    "31 x 40": replace(FAST, inner_steps=31, learning_rate=40.0),
    "16 x 20, 1 refresh": replace(FAST, refreshes=1),
    "16 x 20, first half": replace(FAST, share=0.5),
    "10 x 5, not annealed": FLAT,
    "16 x 20, not annealed": replace(FAST, anneal=False),
}
EDITS: dict[str, EditSettings] = {
    f"{carry}, {blend}": EditSettings(target_embeddings=carry, local_blend=blend)
    for blend in ("off", "prior", "prior+map")
    for carry in ("tuned", "keys", "original")
} | {
    f"original, tuned in place, {blend}": EditSettings(attribute_attention="tuned", local_blend=blend)
    for blend in ("off", "prior", "prior+map")
}


def tuned(
    model: EditModel, trial: Trial, inversion: Inversion, settings: TuningSettings, tracker: CostTracker
) -> Inversion:
    """The inversion with its words tuned to their true masks, adjectives bound where the edit changes one."""
    prior = trial.prior()
    target = parse_prompt(trial.target, model.tokenizer)
    bindings = bindings_of_edit(inversion.prompt, align(inversion.prompt, target), prior)
    plan = plan_tuning(inversion.prompt, prior, model.grid(*prior.size), bindings)
    return locinv(model, inversion, plan, LocInvSettings(null_method="none", tokens=settings), tracker=tracker)


def map_ious(model: EditModel, trial: Trial, inversion: Inversion) -> tuple[float, float]:
    """Mean best IoU of the objects' words before and after tuning."""
    before, after = maps_before_and_after(model, inversion, trial.nouns)
    masks = dict(zip(trial.nouns, trial.masks, strict=True))

    def mean(maps: dict[str, Tensor]) -> float:
        return statistics.fmean(best_iou(maps[noun], masks[noun]) for noun in trial.nouns)

    return mean(before), mean(after)


def figures_of_edit(model: EditModel, trial: Trial, inversion: Inversion, settings: EditSettings) -> dict[str, float]:
    """How good an edit with Direct Inversion is."""
    target = parse_prompt(trial.target, model.tokenizer)
    direct = replace(inversion, null_method="direct")
    result = edit(model, direct, [target], settings, prior=trial.prior())
    edited = model.decode(result.latents).cpu()
    other = torch.stack([m for i, m in enumerate(trial.masks) if i != trial.edit.index]).amax(dim=0)
    other = other * (1 - trial.changed)
    return {
        "to truth dB": trial.distance(edited),
        "in place dB": psnr(edited, trial.truth, trial.changed),
        "other object dB": psnr(edited, trial.truth, other),
        "background dB": psnr(edited, trial.image, 1 - trial.changed),
        "success": float(trial.succeeds(edited)),
    }


def reading(model: EditModel, places: tuple[str, ...]) -> EditModel:
    """The same model, of whose layers that are read only those in these places are."""
    copy = replace(model)
    # The property keeps what it found under its own name; here that is told beforehand.
    vars(copy)["read_sites"] = tuple(layer for layer in model.map_layers if layer.place in places)
    return copy


def compare_tunings(
    model: EditModel,
    trial: Trial,
    inversion: Inversion,
    ways: Mapping[str, tuple[EditModel, TuningSettings]],
    *,
    edits: bool,
) -> Rows:
    """Every way of tuning, its maps and the edit that it leads to (carry and blend at their defaults)."""
    rows: Rows = defaultdict(dict)
    for name, (tuned_by, settings) in ways.items():
        tracker, began = CostTracker(), time.perf_counter()
        done = tuned(tuned_by, trial, inversion, settings, tracker)
        seconds = time.perf_counter() - began
        before, after = map_ious(model, trial, done)
        rows[name] |= {"FE": tracker.total, "s": seconds, "IoU untuned": before, "IoU": after}
        if edits:
            rows[name] |= figures_of_edit(model, trial, done, EditSettings())
            rows[f"{name}, no blend"] |= figures_of_edit(model, trial, done, EditSettings(local_blend="off"))
    return dict(rows)


def compare_carries(model: EditModel, trial: Trial, inversion: Inversion) -> Rows:
    """Every carry and blend on the default tuning, and the blends without tuning."""
    rows: Rows = {}
    for blend in ("off", "prior", "prior+map"):
        rows[f"untuned, {blend}"] = figures_of_edit(model, trial, inversion, EditSettings(local_blend=blend))
    done = tuned(model, trial, inversion, FAST, CostTracker())
    for name, settings in EDITS.items():
        rows[name] = figures_of_edit(model, trial, done, settings)
    return rows


def show(scenes: list[Rows], title: str) -> None:
    """Print the means."""
    columns = list(dict.fromkeys(column for rows in scenes for row in rows.values() for column in row))
    table = Table(title=title)
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left")
    for name in scenes[0]:
        known = {column: [rows[name][column] for rows in scenes if column in rows[name]] for column in columns}
        cells = (f"{statistics.fmean(values):.3f}" if values else "" for values in known.values())
        table.add_row(name, *cells)
    Console(width=150).print(table)


def main() -> None:
    """Run one sweep and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("tuning", "layers", "carry", "solvers"))
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--kind", choices=("swap", "attribute"))
    parser.add_argument("--edits", action="store_true", help="edit too, not only look at maps")
    parser.add_argument("--only", help="names of tunings, separated by ;")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--dtype", default="auto", help="of the model")
    parser.add_argument("--out", type=Path, help="keep the figures of every scene, and go on from them")
    args = parser.parse_args()
    model = load_edit_model(args.model, dtype=args.dtype)
    measure = measurement(model, args)

    def measure_scene(number: int) -> Rows:
        trial = held_out_trial(number, objects=2, kind=args.kind)
        source = parse_prompt(trial.source, model.tokenizer)
        return measure(trial, ddim_invert(model, model.encode(trial.image), source, args.steps))

    not_measured = ("out", "count", "first", "model")
    choices: dict[str, Any] = {key: value for key, value in vars(args).items() if key not in not_measured}
    scenes = measured(
        range(args.first, args.first + args.count),
        measure_scene,
        keep=args.out,
        choices={**choices, "weights": model.fingerprint},
    )
    show(scenes, f"{args.what}: means over {args.count} held-out scenes of two objects")


def measurement(model: EditModel, args: argparse.Namespace) -> Callable[[Trial, Inversion], Rows]:
    """What the sweep measures of a trial and its inversion."""
    if args.what == "carry":
        return lambda trial, inversion: compare_carries(model, trial, inversion)
    if args.what == "layers":
        places = {"down": ("down",), "up": ("up",), "both": ("down", "up")}
        ways = {name: (reading(model, where), FAST) for name, where in places.items()}
    elif args.what == "solvers":
        ways = {"fast": (model, FAST), "exact": (model, TuningSettings.for_solver("exact"))}
    else:
        names = list(TUNINGS) if args.only is None else args.only.split(";")
        ways = {name: (model, TUNINGS[name]) for name in names}
    return lambda trial, inversion: compare_tunings(model, trial, inversion, ways, edits=args.edits)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
