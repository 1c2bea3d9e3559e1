"""``python -m pinpoint train-embedded``: rebuild the embedded models from nothing but the drawing code."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...assets import EMBEDDED

__all__ = ["add_parser", "run"]

_WEIGHTS = EMBEDDED / "sd"
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
        default="tokenizer,vae,decoder,diffusion,clip,vit,amused",
        help="what to train, separated by commas (default: tokenizer,vae,decoder,diffusion,clip,vit,amused);"
        " instruct trains an InstructPix2Pix from the text-to-image model into its own folder instruct, in"
        " --out or else in --work",
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


def report(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def _check_start(start: Path | None, stages: tuple[str, ...]) -> None:
    """Raise ValueError where a stage that goes on from a folder would not find its model in it."""
    if start is None:
        return
    wanted = {"diffusion": "unet", "instruct": "unet", "clip": "clip"}
    folders = dict.fromkeys(wanted[stage] for stage in stages if stage in wanted)
    if not folders:
        raise ValueError(f"--start: got {start}, but --stages has none of {', '.join(wanted)}")
    for folder in folders:
        if not (start / folder).is_dir():
            raise ValueError(f"--start: {start} has no folder {folder}; needs a folder of models")


def run(args: argparse.Namespace) -> int:
    """Train; the exit status.

    Raises:
        ValueError: for a number out of bounds or an unknown stage.
    """
    for name in (*(f"steps_{model}" for model in _STEPS), "scenes", "processes"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f"--{name.replace('_', '-')}: got {value}, needs 1 or more")
    if args.seed < 0:
        raise ValueError(f"--seed: got {args.seed}, needs 0 or more")

    from dataclasses import replace

    from ..embedded_world.networks import instruct as instruct
    from ..embedded_world.training import regions_training as regions
    from ..embedded_world.training.regions_recipe import RegionsRecipe
    from ..embedded_world.training.sd_recipe import Recipe
    from ..embedded_world.training.sd_training import CHECKPOINTS, STAGES, train, with_steps

    stages = tuple(stage.strip() for stage in args.stages.split(",") if stage.strip())
    known = (*STAGES, *regions.STAGES, instruct.STAGE)
    unknown = [stage for stage in stages if stage not in known]
    if unknown or not stages:
        raise ValueError(f"--stages: got {', '.join(unknown) or 'none'}, needs some of {', '.join(known)}")
    first = tuple(stage for stage in stages if stage in STAGES)
    then = tuple(stage for stage in stages if stage in regions.STAGES)
    _check_start(args.start, stages)
    recipe, of_regions = Recipe(seed=args.seed), RegionsRecipe(seed=args.seed)
    if args.smoke:
        recipe, of_regions = recipe.smoke(), of_regions.smoke()
    if args.scenes is not None:
        recipe, of_regions = replace(recipe, scenes=args.scenes), replace(of_regions, scenes=args.scenes)
    recipe = with_steps(recipe, vae=args.steps_vae, decoder=args.steps_decoder, unet=args.steps_unet)
    of_regions = of_regions.with_steps(
        clip=args.steps_clip, vit=args.steps_vit, vq=args.steps_vq, transformer=args.steps_transformer
    )
    regions.check_recipe(of_regions, then, args.processes)
    if args.restart:
        forgotten = [name for stage in first for name in CHECKPOINTS[stage]]
        forgotten += [instruct.CHECKPOINT] if instruct.STAGE in stages else []
        for name in forgotten + [name for stage in then for name in regions.CHECKPOINTS[stage]]:
            (args.work / name).unlink(missing_ok=True)
    if first:
        out = args.out or _WEIGHTS
        train(recipe, out, args.work, stages=first, processes=args.processes, report=report, start=args.start)
    if then:
        own = args.out is not None and (args.out / "tokenizer").is_dir()
        regions.train_regions(
            of_regions,
            args.out or EMBEDDED,
            args.work,
            tokenizer=(args.out if own else _WEIGHTS) / "tokenizer",
            stages=then,
            processes=args.processes,
            report=report,
            start=args.start if "clip" in then else None,
        )
    if instruct.STAGE in stages:
        of_pairs = instruct.InstructRecipe(seed=args.seed)
        if args.smoke:
            of_pairs = of_pairs.smoke()
        of_pairs = of_pairs.with_numbers(pairs=args.scenes, steps=args.steps_instruct)
        trained_here = args.out is not None and (args.out / "unet").is_dir()
        instruct.train_instruct(
            of_pairs,
            (args.out or args.work) / "instruct",
            args.work,
            start=args.start or (args.out if trained_here else _WEIGHTS),
            processes=args.processes,
            report=report,
        )
    return 0
