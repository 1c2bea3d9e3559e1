"""``python -m pinpoint train-embedded``: rebuild the embedded models from nothing but the drawing code."""

from __future__ import annotations

import argparse
from pathlib import Path

from .run_options import listed, report

__all__ = ["add_parser", "run"]

_STEPS = {
    "vae": "the autoencoder",
    "decoder": "the autoencoder's decoder alone",
    "unet": "UNet and text encoder",
    "clip": "the dual encoder",
    "vit": "the vision transformer",
    "vq": "the autoencoder with a codebook",
    "transformer": "the masked-token transformer",
    "instruct": "InstructPix2Pix",
}
_STAGES = "tokenizer,vae,decoder,diffusion,clip,vit,amused"


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to ``python -m pinpoint``."""
    parser = subparsers.add_parser(
        "train-embedded",
        help="train the embedded models",
        description="Draw scenes and train on them: tokenizer, autoencoder, text encoder and UNet; and, for "
        "regions, a CLIP, a DINO transformer and an aMUSEd (its autoencoder, then its transformer). "
        "Stopped at any moment, it goes on from its last checkpoint.",
    )
    parser.add_argument("--out", type=Path, help="folder of the models (default: the package's own folders)")
    parser.add_argument("--work", type=Path, default=Path("training"), help="folder of scenes and checkpoints")
    parser.add_argument(
        "--stages",
        default=_STAGES,
        help=f"what to train, separated by commas (default: {_STAGES}); instruct trains an InstructPix2Pix from the"
        " text-to-image model into its own folder instruct, in --out or else in --work",
    )
    for name, whose in _STEPS.items():
        parser.add_argument(f"--steps-{name}", type=int, metavar="N", help=f"steps of {whose}")
    parser.add_argument("--scenes", type=int, metavar="N", help="scenes in the training set")
    parser.add_argument("--seed", type=int, default=0, help="first seed of the scenes, and of all random numbers")
    parser.add_argument("--processes", type=int, default=2, help="workers that share each batch, a thread each")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="DIR",
        help="train what this folder holds further: UNet and text encoder, or clip for the stage clip",
    )
    parser.add_argument("--restart", action="store_true", help="forget the stages' checkpoints in --work")
    parser.add_argument("--smoke", action="store_true", help="tiny models, three steps: only to see that it runs")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Train; the exit status.

    Raises:
        ValueError: for a number out of bounds, and as ``training.train``.
    """
    for name in (*(f"steps_{model}" for model in _STEPS), "scenes", "processes"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')}: got {value}, requires 1 or more")
    if args.seed < 0:
        raise ValueError(f"--seed: got {args.seed}, requires 0 or more")

    from dataclasses import replace

    from ..embedded_world.training.recipe import Recipe
    from ..embedded_world.training.training import Training, train

    recipe = Recipe(seed=args.seed)
    if args.smoke:
        recipe = recipe.smoke()
    if args.scenes is not None:
        recipe = replace(recipe, scenes=args.scenes).changed({"instruct": {"pairs": args.scenes}})
    steps = {name: getattr(args, f"steps_{name}") for name in _STEPS}
    steps["diffusion"] = steps.pop("unet")
    recipe = recipe.changed({name: {"steps": count} for name, count in steps.items() if count is not None})
    job = Training(recipe, args.work, report, out=args.out, start=args.start)
    train(job, listed(args.stages), processes=args.processes, restart=args.restart)
    return 0
