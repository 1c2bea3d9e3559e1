"""Regions on held-out scenes of the embedded world: finding a word, plans, and learned against random boxes.

    python tests/benchmarks/regions.py words [--count 100] [--edits]   found boxes against true ones
    python tests/benchmarks/regions.py plans [--count 50]              S and FE of every plan
    python tests/benchmarks/regions.py choices [--count 100]           learned boxes against random ones

Every scene's figures are a line of --out, which a later run goes on from; the table is made from all of them.
Distances to the true edited image are PSNR in dB. `--clip` and `--vit` name other networks.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.imaging.metrics import psnr
from pinpoint.locinv_core.pipeline import EditRequest, localized_edit
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.region_core.editors.base import Editor
from pinpoint.region_core.editors.blended import REGION_WINDOW
from pinpoint.region_core.editors.locinv import LocInvEditor
from pinpoint.region_core.editors.registry import load_editor
from pinpoint.region_core.encoders.clip import ClipEncoder, load_clip
from pinpoint.region_core.encoders.vit import VisionFeatures, load_vit
from pinpoint.region_core.object_localization.attention_localizer import detection_prior, locate_words
from pinpoint.region_core.object_localization.box_ranking import Box
from pinpoint.region_core.pipeline import NONE, RegionNetworks, RegionRequest, edit_region
from pinpoint.region_core.scorer import RegionEdit
from pinpoint.region_core.search.budget import DEFAULT_PLAN
from pinpoint.region_core.search.plans import PLANS, plan_named
from pinpoint.research.embedded_world.scenes.spec import with_article
from pinpoint.research.embedded_world.scenes.wording import overlap
from pinpoint.tests.benchmarks.scene_figures import measured
from pinpoint.tests.fixtures.trials import Trial, held_out_trial

Figures = dict[str, float]

ARMS: Mapping[str, tuple[str, str]] = {
    "learned": ("dino", "learned"),
    "dino anchors, random sizes": ("dino", "random"),
    "random anchors, random sizes": ("random", "random"),
}
"""Where boxes are proposed, and how large, as in the paper's user study (Table 2)."""


TEXTS = ("phrases", "captions", "both", "places")
TEXTS_HELP = (
    "what CLIP and the editor read: the object's phrase, the caption, the caption and the phrase, or the"
    " caption and the phrase with the place that the scene is in"
)


@dataclass(frozen=True, eq=False)
class Networks:
    """What every measurement shares."""

    model: EditModel
    editor: Editor | None
    """None is LocInv's, which is of one scene's caption."""
    vision: VisionFeatures
    guide: ClipEncoder


def measure_words(trial: Trial, networks: Networks, args: argparse.Namespace) -> Figures:
    """How well the objects' boxes are found; with --edits, LocInv's edits in the found and the true ones."""
    model, tracker = networks.model, CostTracker()
    prompt = parse_prompt(trial.source, model.tokenizer)
    found = locate_words(
        model, networks.vision, networks.guide, trial.image, prompt, list(trial.nouns), tracker=tracker
    )
    ious = [overlap(found[noun].box, box) for noun, box in zip(trial.nouns, trial.boxes, strict=True)]
    figures = {
        "FE": tracker.total,
        "IoU": statistics.mean(ious),
        "IoU 0.5 or more": statistics.mean(iou >= 0.5 for iou in ious),
        "IoU 0.5, edited object": float(ious[trial.edit.index] >= 0.5),
    }
    if args.edits:
        size = int(trial.image.shape[-2]), int(trial.image.shape[-1])
        priors = {"found": detection_prior(found, size), "true": trial.prior("detection")}
        for name, prior in priors.items():
            request = EditRequest(trial.image, trial.source, trial.target, prior)
            edited = localized_edit(model, request).edited
            figures[f"background, {name} box"] = psnr(edited, trial.image, 1 - trial.changed)
            figures[f"truth, {name} box"] = trial.distance(edited)
            figures[f"succeeds, {name} box"] = float(trial.succeeds(edited))
    return figures


def region_edit(
    trial: Trial, networks: Networks, args: argparse.Namespace, *, plan: str, arm: str, tracker: CostTracker
) -> RegionEdit:
    """One way of choosing a region, on one trial; see `TEXTS`."""
    anchors_by, sizes = ARMS[arm]
    phrases = with_article(trial.edit.phrase), with_article(trial.edit.target_phrase)
    texts = phrases if args.texts == "phrases" else (trial.source, trial.target)
    told = {"captions": trial.target, "places": trial.wish}.get(args.texts, phrases[1])
    editor = networks.editor
    if editor is None:
        editor = LocInvEditor(networks.model, trial.source, trial.noun, steps=args.steps or 20)
        told = trial.target
    asked = {name: getattr(args, name) for name in ("k", "m", "min_distance", "smoothing")}
    request = RegionRequest.from_options(
        texts[0],
        texts[1],
        edit_prompt=told,
        word=args.word if arm == "learned" else NONE,
        anchors=anchors_by,
        sizes=sizes,
        plan=plan_named(plan).with_final_count(args.finalists),
        seed=args.seed + trial.number,
        **asked,
    )
    found = edit_region(
        trial.image, RegionNetworks(editor, networks.model, networks.vision, networks.guide), request, tracker=tracker
    )
    return found.edit


def figures_of(trial: Trial, made: RegionEdit, tracker: CostTracker) -> Figures:
    """What is measured of a region and its edit."""
    true: Box = trial.boxes[trial.edit.index]
    return {
        "FE": tracker.total,
        "S": made.chosen.score,
        "IoU": overlap(made.chosen.box, true),
        "best IoU": max(overlap(candidate.box, true) for candidate in made.candidates),
        "truth": trial.distance(made.image),
        "succeeds": float(trial.succeeds(made.image)),
    }


def measure_plans(trial: Trial, networks: Networks, args: argparse.Namespace) -> Figures:
    """S, FE and the box of every plan."""
    figures: Figures = {}
    for plan in args.plans or PLANS:
        tracker = CostTracker()
        made = region_edit(trial, networks, args, plan=plan, arm="learned", tracker=tracker)
        figures |= {f"{key}, {plan}": value for key, value in figures_of(trial, made, tracker).items()}
    return figures


def measure_choices(trial: Trial, networks: Networks, args: argparse.Namespace) -> Figures:
    """Learned regions and the paper's two baselines, and which of them is nearer to the truth."""
    figures: Figures = {}
    for arm in ARMS:
        tracker = CostTracker()
        made = region_edit(trial, networks, args, plan=args.plan, arm=arm, tracker=tracker)
        figures |= {f"{key}, {arm}": value for key, value in figures_of(trial, made, tracker).items()}
    figures["IoU 0.3 or more, learned"] = float(figures["IoU, learned"] >= 0.3)
    for arm in list(ARMS)[1:]:
        for key in ("truth", "S"):
            ours, theirs = figures[f"{key}, learned"], figures[f"{key}, {arm}"]
            figures[f"{key}: learned beats {arm}"] = 0.5 if ours == theirs else float(ours > theirs)
    return figures


MEASURES: Mapping[str, Callable[[Trial, Networks, argparse.Namespace], Figures]] = {
    "words": measure_words,
    "plans": measure_plans,
    "choices": measure_choices,
}


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("measure", choices=tuple(MEASURES))
    parser.add_argument("--count", type=int, default=100, help="scenes (default 100)")
    parser.add_argument("--first", type=int, default=0, help="number of the first one (default 0)")
    parser.add_argument("--objects", type=int, choices=(1, 2, 3), help="objects in a scene (default: mixed)")
    parser.add_argument("--kind", choices=("swap", "attribute"), help="of edit (default: mixed)")
    parser.add_argument("--edits", action="store_true", help="words: also edit, with found and true boxes")
    parser.add_argument("--editor", choices=("blended", "amused", "locinv"), default="blended")
    parser.add_argument("--steps", type=int, help="of an edit (default: the editor's)")
    parser.add_argument("--window", type=float, default=REGION_WINDOW, help="of the blended editor; 0: none")
    parser.add_argument("--plan", choices=tuple(PLANS), default=DEFAULT_PLAN.name)
    parser.add_argument("--word", choices=("auto", "none"), default="auto", help="boxes near the changed word")
    parser.add_argument("--finalists", type=int, help="boxes edited in full (default: every anchor's)")
    parser.add_argument("--plans", nargs="+", choices=tuple(PLANS), help="plans: only these")
    parser.add_argument("--texts", choices=TEXTS, default="places", help=TEXTS_HELP)
    parser.add_argument("--k", type=int, default=8)
    parser.add_argument("--m", type=int, default=7)
    parser.add_argument("--min-distance", type=float, help="default: as the regions command has it")
    parser.add_argument("--smoothing", type=int, help="default: as the regions command has it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--dtype", default="auto", help="of the editor and the model")
    parser.add_argument("--clip", default="embedded")
    parser.add_argument("--vit", default="embedded")
    parser.add_argument("--out", type=Path, help="file of JSON lines (default out/regions-MEASURE.jsonl)")
    args = parser.parse_args(argv)
    args.out = args.out or Path("out") / f"regions-{args.measure}.jsonl"
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    args = parse(argv)
    windowed: dict[str, Any] = {"window": args.window or None} if args.editor == "blended" else {}
    named: dict[str, Any] = {"dtype": args.dtype, "steps": args.steps}
    networks = Networks(
        load_edit_model("embedded", dtype=args.dtype),
        None if args.editor == "locinv" else load_editor(args.editor, "embedded", **named, **windowed),
        load_vit(args.vit, torch.device("cpu")),
        load_clip(args.clip, torch.device("cpu")),
    )
    not_measured = ("out", "count", "first", "measure")
    choices = {key: value for key, value in vars(args).items() if key not in not_measured}

    def measure(number: int) -> Figures:
        trial = held_out_trial(number, objects=args.objects, kind=args.kind)
        return MEASURES[args.measure](trial, networks, args)

    rows = measured(
        range(args.first, args.first + args.count),
        measure,
        keep=args.out,
        choices={**choices, "weights": networks.model.fingerprint},
    )
    table = Table(title=f"{args.measure}: {len(rows)} held-out scenes, means")
    table.add_column("figure")
    table.add_column("mean", justify="right")
    table.add_column("least", justify="right")
    for key in rows[0]:
        values = [row[key] for row in rows]
        table.add_row(key, f"{statistics.mean(values):.3f}", f"{min(values):.3f}")
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
