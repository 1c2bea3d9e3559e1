"""``python -m pinpoint evaluate-embedded``: how good the embedded models are, on scenes never trained on."""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .run_options import listed

if TYPE_CHECKING:
    from torch import Tensor

    from ..embedded_world.scenes.spec import SceneSpec

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["PARTS", "add_parser", "run"]

PARTS = ("vae", "text", "attention", "clip", "vit", "amused")
_EDIT_MODEL_PARTS = ("vae", "text", "attention")
_NEEDED = {"clip": "config.json", "vit": "config.json", "amused": "model_index.json"}
"""A file of each of the regions' models; aMUSEd's is written last, when its transformer is there too."""
_AMONG = 32
_ANCHORS = 8
_JUDGED = {
    "nouns": "every noun",
    "colours": "every noun in its colour",
    "all": "every noun in its colour and pattern",
    "objects": "objects right, one by one",
    "extra": "images with another object besides",
}
Rows = list[tuple[str, str]]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "evaluate-embedded",
        help="measure the embedded models on held-out scenes",
        description="On held-out scenes: reconstruction by the autoencoder (vae), images drawn from "
        "captions (text), untuned attention maps (attention), and of the regions' models whether CLIP "
        "picks the right text (clip), where the ViT's attention lies (vit), and what aMUSEd reconstructs "
        "and draws (amused). A table, evaluation.json and images in DIR. The judge of drawn images is "
        "trained first and kept in --work.",
    )
    parser.add_argument("--count", type=int, default=200, metavar="N", help="scenes (default 200)")
    parser.add_argument(
        "--attention-count",
        type=int,
        default=40,
        metavar="N",
        help="scenes of two objects, for the maps (default 40)",
    )
    parser.add_argument(
        "--parts",
        default=",".join(PARTS),
        help=f"what to measure, separated by commas (default {','.join(PARTS)})",
    )
    parser.add_argument("--model", default="embedded", help="embedded, or a folder (default embedded)")
    parser.add_argument(
        "--regions",
        type=Path,
        metavar="DIR",
        help="folder with the regions' models clip, vit and amused (default: the package's own)",
    )
    parser.add_argument(
        "--amused-steps", type=int, default=16, metavar="N", help="steps of aMUSEd's drawing (default 16)"
    )
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps (default 50)")
    parser.add_argument("--guidance", type=float, default=7.5, help="guidance scale (default 7.5)")
    parser.add_argument("--seed", type=int, default=0, help="block of held-out scenes, and the noise (default 0)")
    parser.add_argument(
        "--judge-steps",
        type=int,
        default=4000,
        metavar="N",
        help="training of the judge (default 4000)",
    )
    parser.add_argument("--work", type=Path, default=Path("training"), metavar="DIR", help="where the judge is kept")
    parser.add_argument("--out", type=Path, default=Path("out/evaluation"), metavar="DIR", help="folder to write to")
    parser.set_defaults(run=run)


def report(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def run(args: argparse.Namespace) -> int:
    """Measure and print; the exit status.

    Raises:
        ValueError: for a number out of bounds, an unknown part, and one without a model, before any work.
    """
    parts = tuple(listed(args.parts))
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(f"--parts: got {', '.join(unknown) or 'none'}, needs some of {', '.join(PARTS)}")
    for name in ("count", "attention_count", "steps", "amused_steps", "judge_steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: got {getattr(args, name)}, needs 1 or more")
    if not (math.isfinite(args.guidance) and args.guidance >= 1):
        raise ValueError(f"--guidance: got {args.guidance}, needs 1 or more")

    if "clip" in parts and args.count < _AMONG:
        raise ValueError(f"--count: got {args.count}, needs {_AMONG} or more for the part clip")
    for part in parts:
        if part not in _EDIT_MODEL_PARTS:
            _regions_model(args, part)

    from ...locinv_core.imaging.io import written_whole
    from ..embedded_world.checks.sd_evaluation import scene_images
    from ..embedded_world.scenes.dataset import held_out_seeds
    from ..embedded_world.scenes.spec import sample_scene

    started = time.monotonic()
    specs = [sample_scene(seed) for seed in held_out_seeds(args.count, seed=args.seed)]
    images = scene_images(specs)
    figures: dict[str, Any] = {"scenes": args.count, "seed": args.seed}
    args.out.mkdir(parents=True, exist_ok=True)
    rows: Rows = []
    if any(part in parts for part in _EDIT_MODEL_PARTS):
        rows += _edit_model(args, parts, specs, images, figures)
    if "clip" in parts:
        rows += _clip(args, figures)
    if "vit" in parts:
        rows += _vit(args, figures)
    if "amused" in parts:
        rows += _amused(args, specs, images, figures)
    figures["seconds"] = round(time.monotonic() - started, 1)
    with written_whole(args.out / "evaluation.json") as partial:
        partial.write_text(json.dumps(figures, indent=2) + "\n")
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label:<{width}}  {value}")
    print(f"{args.out / 'evaluation.json'}")
    return 0


def _edit_model(
    args: argparse.Namespace,
    parts: tuple[str, ...],
    specs: list[SceneSpec],
    images: Tensor,
    figures: dict[str, Any],
) -> Rows:
    """Measure the edit model's parts, into ``figures``; the table's rows."""
    from ...locinv_core.backbones.loading import load_edit_model
    from ...locinv_core.imaging.io import save_png
    from ...locinv_core.imaging.visualize import contact_sheet
    from ..embedded_world.checks.judge import train_judge
    from ..embedded_world.checks.sd_evaluation import (
        attention_statistics,
        draw_captions,
        judge_images,
        reconstructions,
    )
    from ..embedded_world.scenes.dataset import held_out_seeds
    from ..embedded_world.scenes.spec import caption

    model = load_edit_model(args.model, device="cpu")
    figures |= {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "steps": args.steps,
        "guidance": args.guidance,
    }
    rows: Rows = []
    if "vae" in parts:
        made, values = reconstructions(model, images)
        figures["vae_psnr"] = {"mean": sum(values) / len(values), "worst": min(values)}
        rows += [
            ("autoencoder PSNR, mean", f"{sum(values) / len(values):.2f} dB"),
            ("autoencoder PSNR, worst", f"{min(values):.2f} dB"),
        ]
        cells = [cell for i in range(min(8, args.count)) for cell in (("scene", images[i]), ("decoded", made[i]))]
        save_png(contact_sheet(cells, columns=8), args.out / "reconstructions.png")
    if "text" in parts:
        judge = train_judge(args.work / "judge.safetensors", steps=args.judge_steps, report=report)
        own, _ = judge_images(judge, images, specs)
        decoded, _ = judge_images(judge, model.decode(model.encode(images)), specs)
        texts = [caption(spec) for spec in specs]
        drawn = draw_captions(model, texts, guidance=args.guidance, steps=args.steps, seed=args.seed, report=report)
        shares, verdicts = judge_images(judge, drawn, specs)
        figures["judge_on_scenes"], figures["judge_on_decoded"], figures["text_to_image"] = (
            own,
            decoded,
            shares,
        )
        rows += [(f"judge, true scenes: {label}", f"{own[key]:.1%}") for key, label in _JUDGED.items()]
        rows += _text_rows("text to image", shares)
        cells = [
            (("" if ok else "WRONG: ") + text, image) for text, image, ok in zip(texts, drawn, verdicts, strict=True)
        ]
        save_png(contact_sheet(cells[:40], columns=8), args.out / "text_to_image.png")
        wrong = [cell for cell, ok in zip(cells, verdicts, strict=True) if not ok]
        if wrong:
            save_png(contact_sheet(wrong[:24], columns=6), args.out / "text_to_image_wrong.png")
    if "attention" in parts:
        seeds = held_out_seeds(args.attention_count, seed=args.seed)
        statistics = attention_statistics(model, seeds, steps=args.steps, report=report)
        figures["attention"] = statistics
        rows += [
            ("noun map, best IoU with its object", f"{statistics['iou']:.3f}"),
            ("the same with an object of another scene", f"{statistics['iou_chance']:.3f}"),
            ("noun's attention on its object", f"{statistics['inside']:.1%}"),
            ("noun's attention on the other object", f"{statistics['other']:.1%}"),
            ("area of an object", f"{statistics['area']:.1%}"),
        ]
    return rows


def _text_rows(name: str, shares: dict[str, Any]) -> Rows:
    rows = [(f"{name}: {label}", f"{shares[key]:.1%}") for key, label in _JUDGED.items()]
    return rows + [
        (f"{name}: all right, {count} object(s)", f"{share:.1%}") for count, share in shares["by_objects"].items()
    ]


def _regions_model(args: argparse.Namespace, part: str) -> Path:
    """The folder of a part of the regions' models. Raises ValueError where there is none."""
    from ...assets import EMBEDDED

    folder: Path = (args.regions or EMBEDDED) / part
    if not (folder / _NEEDED[part]).is_file():
        lacking = folder / _NEEDED[part] if folder.is_dir() else folder
        raise ValueError(f"--regions: needs {lacking}; train it first, or leave {part} out of --parts")
    return folder


def _clip(args: argparse.Namespace, figures: dict[str, Any]) -> Rows:
    """Measure the dual encoder on the largest number of whole groups of scenes; the table's rows."""
    from ...region_core.encoders.clip import load_clip
    from ..embedded_world.checks.regions_evaluation import text_picks
    from ..embedded_world.scenes.dataset import held_out_seeds

    guide = load_clip(_regions_model(args, "clip"))
    count = args.count // _AMONG * _AMONG
    shares = text_picks(guide, held_out_seeds(count, seed=args.seed), among=_AMONG)
    figures["clip"] = {"scenes": count, "among": _AMONG, **shares}
    labels = {
        "caption": f"the scene's caption, among {_AMONG}",
        "scene": f"the caption's scene, among {_AMONG}",
        "swap": "caption over the one with another noun",
        "attribute": "caption over the one with another look",
        "swap_score": "a true swap over the scene as it was, by S",
        "attribute_score": "a true attribute edit over the scene as it was, by S",
        "phrase": f"a crop's phrase, among {_AMONG}",
        "crop": "an object's crop, over eight poor ones",
    }
    return [(f"CLIP picks {label}", f"{shares[key]:.1%}") for key, label in labels.items()]


def _vit(args: argparse.Namespace, figures: dict[str, Any]) -> Rows:
    """Measure where the vision transformer's attention lies; the table's rows."""
    from dataclasses import asdict

    from ...locinv_core.imaging.io import save_png
    from ...locinv_core.imaging.visualize import contact_sheet, heat_map
    from ...region_core.encoders.vit import load_vit
    from ..embedded_world.checks.regions_evaluation import attention_anchors
    from ..embedded_world.scenes.dataset import held_out_seeds

    vision = load_vit(_regions_model(args, "vit"))
    seeds = held_out_seeds(args.count, seed=args.seed)
    hits, chance, seen = attention_anchors(vision, seeds, count=_ANCHORS)
    figures["vit"] = {"anchors": _ANCHORS, "attention": asdict(hits), "random": asdict(chance)}
    cells: list[tuple[str, Any]] = []
    for image, attention, anchors in seen[:16]:
        marked = image.clone()
        for row, column in (anchors * vision.patch).tolist():
            marked[:, row : row + vision.patch, column : column + vision.patch] *= 0.4
        cells += [("anchors, dark", marked), ("attention", heat_map(image, attention))]
    save_png(contact_sheet(cells, columns=8), args.out / "attention_anchors.png")
    labels = {
        "any": f"scenes with one of the {_ANCHORS} on an object",
        "most": f"scenes with more than half of the {_ANCHORS} on objects",
        "share": f"of the {_ANCHORS}, on objects",
        "things": "objects with an anchor on them",
    }
    return [
        (f"ViT anchors: {label}", f"{getattr(hits, key):.1%} (random {getattr(chance, key):.1%})")
        for key, label in labels.items()
    ]


def _amused(args: argparse.Namespace, specs: list[SceneSpec], images: Tensor, figures: dict[str, Any]) -> Rows:
    """Measure aMUSEd's autoencoder and the images that it draws; the table's rows."""
    from ...locinv_core.imaging.io import save_png
    from ...locinv_core.imaging.visualize import contact_sheet
    from ..embedded_world.checks.judge import train_judge
    from ..embedded_world.checks.regions_evaluation import (
        codes_and_reconstructions,
        draw_with_amused,
        edit_with_amused,
    )
    from ..embedded_world.checks.sd_evaluation import judge_images
    from ..embedded_world.scenes.spec import caption

    folder = _regions_model(args, "amused")
    made, values, used = codes_and_reconstructions(folder / "vqvae", images)
    texts = [caption(spec) for spec in specs]
    drawn = draw_with_amused(
        folder, texts, guidance=args.guidance, steps=args.amused_steps, seed=args.seed, report=report
    )
    judge = train_judge(args.work / "judge.safetensors", steps=args.judge_steps, report=report)
    rebuilt, _ = judge_images(judge, made, specs)
    shares, verdicts = judge_images(judge, drawn, specs)
    edited, wanted = edit_with_amused(folder, [spec.seed for spec in specs], seed=args.seed, report=report)
    edit_shares, edit_verdicts = judge_images(judge, edited, wanted)
    mean = sum(values) / len(values)
    figures["amused"] = {
        "guidance": args.guidance,
        "steps": args.amused_steps,
        "psnr": {"mean": mean, "worst": min(values)},
        "codes_in_use": used,
        "judge_on_reconstructions": rebuilt,
        "text_to_image": shares,
        "edits": edit_shares,
    }
    cells = [("" if ok else "WRONG: ") + text for text, ok in zip(texts, verdicts, strict=True)]
    save_png(contact_sheet(list(zip(cells, drawn, strict=True))[:40], columns=8), args.out / "amused_drawn.png")
    pairs = [cell for i in range(min(8, len(texts))) for cell in (("scene", images[i]), ("codes", made[i]))]
    save_png(contact_sheet(pairs, columns=8), args.out / "amused_reconstructions.png")
    told = zip([caption(spec) for spec in wanted[:16]], edit_verdicts, strict=False)
    edits = [
        cell
        for i, (text, ok) in enumerate(told)
        for cell in (("scene", images[i]), (("" if ok else "WRONG: ") + text, edited[i]))
    ]
    save_png(contact_sheet(edits, columns=8), args.out / "amused_edits.png")
    return [
        ("aMUSEd's codes: PSNR, mean", f"{mean:.2f} dB"),
        ("aMUSEd's codes: PSNR, worst", f"{min(values):.2f} dB"),
        ("aMUSEd's codes in use", str(used)),
        (f"aMUSEd's codes, judge: {_JUDGED['all']}", f"{rebuilt['all']:.1%}"),
        *_text_rows("aMUSEd text to image", shares),
        *_text_rows("aMUSEd's edits in the object's box", edit_shares),
    ]
