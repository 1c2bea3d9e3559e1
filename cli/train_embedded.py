"""``python -m pinpoint train-embedded``: rebuild the embedded models from nothing but the drawing code."""

from __future__ import annotations

import argparse
from pathlib import Path

__all__ = ["add_parser", "run"]

_WEIGHTS = Path(__file__).parents[1] / "locinv_core" / "embedded" / "weights"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to ``python -m pinpoint``."""
    parser = subparsers.add_parser(
        "train-embedded",
        help="train the embedded models",
        description="Draw scenes and train tokenizer, autoencoder, text encoder and UNet on them. "
        "Stopped at any moment, it goes on from its last checkpoint.",
    )
    parser.add_argument(
        "--out", type=Path, default=_WEIGHTS, help="folder of the models (default: the package's)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("training"), help="folder of scenes and checkpoints"
    )
    parser.add_argument(
        "--stages", default="tokenizer,vae,diffusion", help="what to train, separated by commas"
    )
    parser.add_argument("--steps-vae", type=int, metavar="N", help="steps of the autoencoder")
    parser.add_argument("--steps-unet", type=int, metavar="N", help="steps of UNet and text encoder")
    parser.add_argument("--scenes", type=int, metavar="N", help="scenes in the training set")
    parser.add_argument(
        "--seed", type=int, default=0, help="first seed of the scenes, and of all random numbers"
    )
    parser.add_argument(
        "--processes", type=int, default=2, help="workers that share each batch, a thread each"
    )
    parser.add_argument(
        "--start", type=Path, metavar="DIR", help="train the UNet and text encoder of this folder further"
    )
    parser.add_argument("--restart", action="store_true", help="forget the checkpoints in --work")
    parser.add_argument(
        "--smoke", action="store_true", help="tiny models, three steps: only to see that it runs"
    )
    parser.set_defaults(run=run)


def report(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def run(args: argparse.Namespace) -> int:
    """Train; the exit status.

    Raises:
        ValueError: for a number out of bounds or an unknown stage.
    """
    for name in ("steps_vae", "steps_unet", "scenes", "processes"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')}: got {value}, needs 1 or more")
    if args.start is not None and not (args.start / "unet").is_dir():
        raise ValueError(f"--start: {args.start} has no folder unet; needs a folder of models")
    if args.seed < 0:
        raise ValueError(f"--seed: got {args.seed}, needs 0 or more")

    from dataclasses import replace

    from ..locinv_core.embedded.recipe import Recipe
    from ..locinv_core.embedded.training import CHECKPOINTS, train, with_steps

    recipe = Recipe(seed=args.seed)
    if args.smoke:
        recipe = recipe.smoke()
    if args.scenes is not None:
        recipe = replace(recipe, scenes=args.scenes)
    recipe = with_steps(recipe, vae=args.steps_vae, unet=args.steps_unet)
    stages = tuple(stage.strip() for stage in args.stages.split(",") if stage.strip())
    if args.restart:
        for name in CHECKPOINTS:
            (args.work / name).unlink(missing_ok=True)
    train(
        recipe, args.out, args.work, stages=stages, processes=args.processes, report=report, start=args.start
    )
    return 0
