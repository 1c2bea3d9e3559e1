"""How tuning and editing choices move maps and edits, on held-out scenes of two things.

    python tests/benchmarks/sweep.py tuning [--count 24]     inner steps x rate, refreshes, share: IoU and FE
    python tests/benchmarks/sweep.py carry [--count 24]      what the target prompt carries, and the blend
    python tests/benchmarks/sweep.py solvers --count 100     fast against exact: is it within 0.02 IoU?

Scenes are inverted once; every figure is a mean over scenes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from pinpoint.locinv_core.alignment import align
from pinpoint.locinv_core.edit_settings import EditSettings
from pinpoint.locinv_core.embedded.trials import Trial, held_out_trial
from pinpoint.locinv_core.inversion import Inversion, ddim_invert
from pinpoint.locinv_core.loading import load_edit_model
from pinpoint.locinv_core.metrics import best_iou, psnr
from pinpoint.locinv_core.model import EditModel
from pinpoint.locinv_core.prompt_to_prompt import edit
from pinpoint.locinv_core.prompts import parse_prompt
from pinpoint.locinv_core.run import Run
from pinpoint.locinv_core.tokens import TuningSettings, optimize_tokens
from pinpoint.locinv_core.tuning_plan import bindings_of_edit, plan_tuning
from pinpoint.locinv_core.word_maps import maps_before_and_after

Rows = dict[str, dict[str, list[float]]]

FAST = TuningSettings()
TUNINGS: dict[str, TuningSettings] = {
    "10 x 5": FAST,
    "10 x 1.5": replace(FAST, learning_rate=1.5),
    "10 x 0.5": replace(FAST, learning_rate=0.5),
    "31 x 0.5": replace(FAST, learning_rate=0.5, inner_steps=31),
    "5 x 5": replace(FAST, inner_steps=5),
    "10 x 5, 1 refresh": replace(FAST, refreshes=1),
    "10 x 5, first half": replace(FAST, share=0.5),
    "10 x 5, first third": replace(FAST, share=1 / 3),
}
EDITS: dict[str, EditSettings] = {
    f"{carry}, {blend}": EditSettings(carry=carry, blend=blend)
    for blend in ("off", "prior", "prior+map")
    for carry in ("tuned", "keys", "original")
}


def inverted(model: EditModel, args: argparse.Namespace) -> Iterator[tuple[Trial, Inversion]]:
    """The trials, each with its DDIM inversion."""
    for number in track(range(args.first, args.first + args.count), "scenes", transient=True):
        trial = held_out_trial(number, objects=2, kind=args.kind)
        source = parse_prompt(trial.source, model.tokenizer)
        yield trial, ddim_invert(model, model.encode(trial.image), source, args.steps)


def tuned(
    model: EditModel, trial: Trial, inversion: Inversion, settings: TuningSettings, run: Run
) -> Inversion:
    """The inversion with its words tuned to their true masks, adjectives bound where the edit changes one."""
    prior = trial.prior()
    target = parse_prompt(trial.target, model.tokenizer)
    bindings = bindings_of_edit(inversion.prompt, align(inversion.prompt, target), prior)
    plan = plan_tuning(inversion.prompt, prior, model.grid(*prior.size), bindings)
    return optimize_tokens(model, inversion, plan.positions, plan.objective, settings, run=run)


def map_ious(model: EditModel, trial: Trial, inversion: Inversion) -> tuple[float, float]:
    """Mean best IoU of the things' words before and after tuning."""
    before, after = maps_before_and_after(model, inversion, trial.nouns)
    masks = dict(zip(trial.nouns, trial.masks, strict=True))

    def mean(maps: dict[str, Tensor]) -> float:
        return statistics.fmean(best_iou(maps[noun], masks[noun]) for noun in trial.nouns)

    return mean(before), mean(after)


def note_edit(
    rows: Rows, name: str, model: EditModel, trial: Trial, inversion: Inversion, settings: EditSettings
) -> None:
    """Edit with Direct Inversion and book how good the edit is."""
    target = parse_prompt(trial.target, model.tokenizer)
    direct = replace(inversion, null_method="direct")
    result = edit(model, direct, [target], settings, prior=trial.prior())
    edited = model.decode(result.latents).cpu()
    other = torch.stack([m for i, m in enumerate(trial.masks) if i != trial.edit.index]).amax(dim=0)
    other = other * (1 - trial.changed)
    rows[name]["to truth dB"].append(trial.distance(edited))
    rows[name]["in place dB"].append(psnr(edited, trial.truth, trial.changed))
    rows[name]["other thing dB"].append(psnr(edited, trial.truth, other))
    rows[name]["background dB"].append(psnr(edited, trial.image, 1 - trial.changed))
    rows[name]["success"].append(float(trial.succeeds(edited)))


def sweep_tuning(model: EditModel, args: argparse.Namespace, names: dict[str, TuningSettings]) -> Rows:
    """Every tuning, its maps and the edit that it leads to (carry and blend at their defaults)."""
    rows: Rows = defaultdict(lambda: defaultdict(list))
    for trial, inversion in inverted(model, args):
        for name, settings in names.items():
            run, began = Run(), time.perf_counter()
            done = tuned(model, trial, inversion, settings, run)
            rows[name]["FE"].append(run.total)
            rows[name]["s"].append(time.perf_counter() - began)
            before, after = map_ious(model, trial, done)
            rows[name]["IoU untuned"].append(before)
            rows[name]["IoU"].append(after)
            if args.edits:
                note_edit(rows, name, model, trial, done, EditSettings())
                note_edit(rows, f"{name}, no blend", model, trial, done, EditSettings(blend="off"))
        keep(rows, args)
    return rows


def sweep_carry(model: EditModel, args: argparse.Namespace) -> Rows:
    """Every carry and blend on the default tuning, and both blends without tuning."""
    rows: Rows = defaultdict(lambda: defaultdict(list))
    for trial, inversion in inverted(model, args):
        for blend in ("off", "prior", "prior+map"):
            note_edit(rows, f"untuned, {blend}", model, trial, inversion, EditSettings(blend=blend))
        done = tuned(model, trial, inversion, FAST, Run())
        for name, settings in EDITS.items():
            note_edit(rows, name, model, trial, done, settings)
        keep(rows, args)
    return rows


def keep(rows: Rows, args: argparse.Namespace) -> None:
    """Write what there is so far, so that a stopped sweep is not lost."""
    if args.json is not None:
        args.json.write_text(json.dumps(rows, indent=1))


def show(rows: Rows, title: str) -> None:
    """Print the means."""
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    table = Table(title=title)
    for column in ("", *columns):
        table.add_column(column, justify="right" if column else "left")
    for name, row in rows.items():
        cells = [statistics.fmean(row[column]) if row.get(column) else None for column in columns]
        table.add_row(name, *("" if cell is None else f"{cell:.3f}" for cell in cells))
    Console(width=150).print(table)


def main() -> None:
    """Run one sweep and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("tuning", "carry", "solvers"))
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--kind", choices=("swap", "attribute"))
    parser.add_argument("--edits", action="store_true", help="edit too, not only look at maps")
    parser.add_argument("--only", help="names of tunings, separated by ;")
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = load_edit_model(args.model)
    if args.what == "carry":
        rows = sweep_carry(model, args)
    elif args.what == "solvers":
        rows = sweep_tuning(model, args, {"fast": FAST, "exact": TuningSettings.for_solver("exact")})
    else:
        chosen = TUNINGS if args.only is None else {name: TUNINGS[name] for name in args.only.split(";")}
        rows = sweep_tuning(model, args, chosen)
    show(rows, f"{args.what}: means over {args.count} held-out scenes of two things")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
