"""``python -m pinpoint evaluate-embedded``: how good the embedded models are, on scenes never trained on."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

__all__ = ["PARTS", "add_parser", "run"]

PARTS = ("vae", "text", "attention")


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "evaluate-embedded",
        help="measure the embedded models on held-out scenes",
        description="Reconstruction by the autoencoder, pictures drawn from captions, and untuned attention "
        "maps, on held-out scenes: a table, evaluation.json and pictures in DIR. The judge of the drawn "
        "pictures is trained first and kept in --work.",
    )
    parser.add_argument("--count", type=int, default=200, metavar="N", help="scenes (default 200)")
    parser.add_argument(
        "--attention-count",
        type=int,
        default=40,
        metavar="N",
        help="scenes of two things, for the maps (default 40)",
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="what to measure, separated by commas")
    parser.add_argument("--model", default="embedded", help="embedded, or a folder (default embedded)")
    parser.add_argument("--steps", type=int, default=50, help="DDIM steps (default 50)")
    parser.add_argument("--guidance", type=float, default=7.5, help="guidance scale (default 7.5)")
    parser.add_argument(
        "--seed", type=int, default=0, help="block of held-out scenes, and the noise (default 0)"
    )
    parser.add_argument("--judge-steps", type=int, default=1500, metavar="N", help="training of the judge")
    parser.add_argument(
        "--work", type=Path, default=Path("training"), metavar="DIR", help="where the judge is kept"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("out/evaluation"), metavar="DIR", help="folder to write to"
    )
    parser.set_defaults(run=run)


def report(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def run(args: argparse.Namespace) -> int:
    """Measure and print; the exit status.

    Raises:
        ValueError: for a number out of bounds or an unknown part.
    """
    parts = tuple(part.strip() for part in args.parts.split(",") if part.strip())
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(f"--parts: got {', '.join(unknown) or 'none'}, needs some of {', '.join(PARTS)}")
    for name in ("count", "attention_count", "steps", "judge_steps"):
        if getattr(args, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')}: got {getattr(args, name)}, needs 1 or more")
    if args.guidance < 1:
        raise ValueError(f"--guidance: got {args.guidance}, needs 1 or more")

    from ..locinv_core.embedded.dataset import held_out_seeds
    from ..locinv_core.embedded.evaluation import (
        attention_statistics,
        draw_captions,
        judge_pictures,
        reconstructions,
        scene_images,
    )
    from ..locinv_core.embedded.judge import train_judge
    from ..locinv_core.embedded.scenes import caption, sample_scene
    from ..locinv_core.images import save_png, written_whole
    from ..locinv_core.loading import load_edit_model
    from ..locinv_core.pictures import contact_sheet

    started = time.monotonic()
    model = load_edit_model(args.model, device="cpu")
    specs = [sample_scene(seed) for seed in held_out_seeds(args.count, seed=args.seed)]
    images = scene_images(specs)
    figures: dict[str, object] = {
        "model": model.name,
        "fingerprint": model.fingerprint,
        "scenes": args.count,
        "seed": args.seed,
        "steps": args.steps,
        "guidance": args.guidance,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    rows: list[tuple[str, str]] = []
    if "vae" in parts:
        made, values = reconstructions(model, images)
        figures["vae_psnr"] = {"mean": sum(values) / len(values), "worst": min(values)}
        rows += [
            ("autoencoder PSNR, mean", f"{sum(values) / len(values):.2f} dB"),
            ("autoencoder PSNR, worst", f"{min(values):.2f} dB"),
        ]
        cells = [
            cell for i in range(min(8, args.count)) for cell in (("scene", images[i]), ("decoded", made[i]))
        ]
        save_png(contact_sheet(cells, columns=8), args.out / "reconstructions.png")
    if "text" in parts:
        judge = train_judge(args.work / "judge.safetensors", steps=args.judge_steps, report=report)
        own, _ = judge_pictures(judge, images, specs)
        decoded, _ = judge_pictures(judge, model.decode(model.encode(images)), specs)
        texts = [caption(spec) for spec in specs]
        drawn = draw_captions(
            model, texts, guidance=args.guidance, steps=args.steps, seed=args.seed, report=report
        )
        shares, verdicts = judge_pictures(judge, drawn, specs)
        figures["judge_on_scenes"], figures["judge_on_decoded"], figures["text_to_image"] = (
            own,
            decoded,
            shares,
        )
        labels = {
            "nouns": "every noun",
            "colours": "every noun in its colour",
            "all": "every noun in its colour and pattern",
            "objects": "things right, one by one",
            "extra": "pictures with another thing besides",
        }
        for key, label in labels.items():
            rows.append((f"judge, true scenes: {label}", f"{own[key]:.1%}"))
        for key, label in labels.items():
            rows.append((f"text to image: {label}", f"{shares[key]:.1%}"))
        for count, share in shares["by_objects"].items():
            rows.append((f"text to image: all right, {count} thing(s)", f"{share:.1%}"))
        cells = [
            (("" if ok else "WRONG: ") + text, picture)
            for text, picture, ok in zip(texts, drawn, verdicts, strict=True)
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
    figures["seconds"] = round(time.monotonic() - started, 1)
    with written_whole(args.out / "evaluation.json") as partial:
        partial.write_text(json.dumps(figures, indent=2) + "\n")
    width = max(len(label) for label, _ in rows)
    for label, value in rows:
        print(f"{label:<{width}}  {value}")
    print(f"{args.out / 'evaluation.json'}")
    return 0
