"""`pinpoint edit`: change the object that is named in an image, and nothing else."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..locinv_core.localization.prior_sources.registry import prior_source_names
from ..locinv_core.options import LOCAL_BLENDS, NULL_METHODS, TARGET_EMBEDDINGS, TOKENS
from ..methods.registry import method_names
from .arguments import add_run_arguments, check_image, check_seed
from .output_folder import check_output_folder, filled_folder
from .progress import ConsoleProgress
from .regions import add_networks

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.cost import CostTracker
    from ..locinv_core.localization.priors import LocalizationPrior
    from ..locinv_core.text.prompt import Prompt
    from ..methods.types import EditTask, Method, MethodModels
    from ..region_core.object_localization.attention_localizer import Located

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

_OF_INVERSION = (
    *("tokens", "null", "target_embeddings", "local_blend", "bind"),
    *("composite_grow", "save_inversion", "inversion"),
)
"""Options of the methods that edit a DDIM inversion alone."""

AUTO = "auto"
"""In place of a mask or a box: the box is found."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "edit",
        help="edit an image",
        description="Invert an image, optimize token embeddings inside their priors, edit with Prompt-to-Prompt, and"
        " write the images and a report into DIR.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the image: PNG, JPEG, WebP …")
    parser.add_argument("--source", required=True, metavar="TEXT", help="what the image shows")
    parser.add_argument("--target", required=True, metavar="TEXT", help="what it should show")
    parser.add_argument(
        "--prior",
        action="append",
        default=[],
        metavar="WORD=MASK.png|WORD=x0,y0,x1,y1|WORD=auto",
        help="where a word of the source is: a mask file (FILE#ID for an id of a label map), a box in pixels, or in"
        " percent with a %% at its end, or auto, which finds the box; or"
        f" NAME:… by another source ({', '.join(prior_source_names())}), such as cat=text:old cat@MODEL, where MODEL is"
        " a folder or a Hugging Face name in the local cache, or hub:OWNER/NAME, which is downloaded (may be repeated)",
    )
    parser.add_argument(
        "--model", default="embedded", metavar="embedded|DIR|FILE", help="diffusers folder or .safetensors file"
    )
    parser.add_argument(
        "--method",
        choices=method_names(),
        help="how to edit; inpaint and instruct-pix2pix require a folder of their own as --model (default: locinv"
        " with a prior, else direct)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another setting of the method, such as noises=5 of diffedit or interpolation=0.8 of imagic"
        " (may be repeated)",
    )
    parser.add_argument(
        "--mask",
        type=Path,
        metavar="FILE",
        help="where the edit may show, for blended and inpaint (default: the priors of what changes)",
    )
    parser.add_argument(
        "--instruction",
        metavar="TEXT",
        help="the edit as an order, for instruct-pix2pix (default: one made of the texts)",
    )
    parser.add_argument("--tokens", choices=TOKENS, help="how tokens are optimized (default: the method's)")
    parser.add_argument("--null", choices=NULL_METHODS, help="how the image is reconstructed (default: the method's)")
    parser.add_argument(
        "--target-embeddings",
        "--carry",
        choices=TARGET_EMBEDDINGS,
        help="what the target prompt takes of the optimized token embeddings",
    )
    parser.add_argument(
        "--local-blend", "--blend", choices=LOCAL_BLENDS, help="where the edit may show (default: the method's)"
    )
    parser.add_argument(
        "--bind",
        action="append",
        metavar="ADJ:NOUN",
        help="bind an adjective to its noun (may be repeated; default: those that the edit changes, found by spaCy"
        " where its English model is installed, 'python -m spacy download en_core_web_sm', else by rules for captions)",
    )
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="DDIM steps (default 50)")
    parser.add_argument(
        "--guidance", type=float, metavar="W", help="guidance scale (default 7.5; pix2pix-zero and ledits++ 5)"
    )
    parser.add_argument(
        "--max-side",
        type=int,
        metavar="PX",
        help="edit a larger image with its longer side at PX, and put the edit, enlarged, into the image inside the"
        " masks of what changes (default: the model's native size, for images of more than twice that)",
    )
    add_networks(parser)
    add_run_arguments(parser)
    parser.add_argument(
        "--composite", action="store_true", help="keep every pixel outside the priors exactly as it was"
    )
    parser.add_argument(
        "--composite-grow",
        type=float,
        metavar="PX",
        help="composite, and let the edit show so far around the priors, for an object that changes its shape",
    )
    parser.add_argument("--save-inversion", type=Path, metavar="FILE", help="keep the inversion as safetensors")
    parser.add_argument("--inversion", type=Path, metavar="FILE", help="use an inversion kept before")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Edit and write the files; ValueError for bad input, before any work."""
    _check_files(args)
    check_seed(args.seed)
    if args.max_side is not None and args.max_side < 64:
        raise ValueError(f"max-side: got {args.max_side}, requires at least 64 pixels")
    import torch

    from ..locinv_core.cost import CostTracker
    from ..locinv_core.imaging.io import load_with_transparency
    from ..locinv_core.imaging.working_size import default_long_side
    from ..locinv_core.inversion.storage import save_inversion
    from ..locinv_core.pipeline import judge
    from ..methods.registry import edit_by_method, method_named
    from .full_resolution import made_small, out_of_memory_told, put_back
    from .report import MadeEdit, summary, write_edit

    method = method_named(args.method or ("locinv" if args.prior else "direct"))
    _refuse_foreign_options(args, method)
    choices = _choices(args)
    settings = method.settings(**choices)
    image, transparency = load_with_transparency(args.image)
    task = _task(args, method, image)
    torch.manual_seed(args.seed)
    quality, located = None, {}
    with ConsoleProgress() as progress:
        tracker = CostTracker(progress)
        with tracker.stage("load"):
            models = _open_models(args, method, choices)
        side = args.max_side
        if side is None:
            side = default_long_side(task.image, models.editing.native_size)
        given, (task, size) = task, made_small(task, side)
        with out_of_memory_told(task):
            if task.to_find:
                method.check(models, task, settings)
                located = _locate(args, models, task, tracker)
                task = replace(task, prior=_joined(task.prior, located, task.image), to_find=())
            outcome = edit_by_method(method.name, models, task, settings=choices, seed=args.seed, tracker=tracker)
            if outcome.localized is not None:
                quality = judge(models.editing, outcome.localized, tracker=tracker)
        full = None if size is None else put_back(given, task, size, outcome, models.editing, choices)
    made = MadeEdit(
        method.name, models.editing, task, outcome, choices, args.seed, tracker, quality, located, transparency, full
    )
    with filled_folder(args.out) as folder:
        report = write_edit(folder, made)
        if args.save_inversion is not None and outcome.localized is not None:
            save_inversion(outcome.localized.inversion, args.save_inversion)
    print(summary(report))
    print(f"images and report: {args.out}")
    return 0


def _refuse_foreign_options(args: argparse.Namespace, method: Method) -> None:
    """Raise ValueError for an option that only other methods have."""
    foreign = ("mask",) if method.recipe is not None else _OF_INVERSION
    for name in foreign if "instruct" in method.needs else (*foreign, "instruction"):
        if getattr(args, name) is not None:
            raise ValueError(f"{name.replace('_', '-')}: the method {method.name!r} has no such option")


def _choices(args: argparse.Namespace) -> dict[str, Any]:
    """The method's settings by name, from their options and --set; a value of that is JSON, or else the text itself."""
    names = ("guidance", "tokens", "null", "target_embeddings", "local_blend", "composite_grow")
    choices = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    if args.composite or args.composite_grow is not None:
        choices["composite"] = True
    reserved, given = {"seed", *choices}, set()
    choices["steps"] = args.steps
    for argument in args.set:
        name, equals, text = argument.partition("=")
        name = name.strip().replace("-", "_")
        if not (name and equals):
            raise ValueError(f"set: got {argument!r}, requires NAME=VALUE, for example interpolation=0.8")
        if name in given:
            raise ValueError(f"set: {name!r} is given twice")
        if name in reserved:
            raise ValueError(f"set: {name!r} has an option of its own, --{name.replace('_', '-')}")
        given.add(name)
        try:
            choices[name] = json.loads(text)
        except ValueError:
            choices[name] = text
    return choices


def _task(args: argparse.Namespace, method: Method, image: Tensor) -> EditTask:
    """The image, the texts, and the masks, boxes and inversion that are given."""
    from ..locinv_core.inversion.storage import open_inversion
    from ..locinv_core.localization.prior_sources.registry import prior_from_arguments
    from ..locinv_core.localization.priors import from_mask_files
    from ..methods.types import EditTask

    given, to_find = _split_priors(args.prior)
    size = image.shape[-2], image.shape[-1]
    drawn = None if args.mask is None else from_mask_files({"mask": args.mask}, size=size)
    mask = None if drawn is None else drawn.mask("mask")
    if mask is None and not args.prior and "mask" in method.needs:
        raise ValueError(f"mask: the method {method.name!r} requires --mask, or --prior for what changes")
    prior = prior_from_arguments(given, image) if given else None
    return EditTask(
        image,
        args.source,
        args.target,
        prior,
        mask,
        args.instruction,
        bindings=None if args.bind is None else [_binding(text) for text in args.bind],
        inversion=None if args.inversion is None else open_inversion(args.inversion),
        to_find=tuple(to_find),
        remarks=tuple(remark for made in (prior, drawn) if made is not None for remark in made.remarks),
    )


def _open_models(args: argparse.Namespace, method: Method, choices: Mapping[str, Any]) -> MethodModels:
    """The models that the method needs; --model is the one that edits, and an aMUSEd is the embedded one."""
    from ..methods.registry import open_models

    part = next((need for need in ("inpaint", "instruct") if need in method.needs), "model")
    weights = {part: args.model, "amused": "embedded" if choices.get("editor") == "amused" else None}
    return open_models([method.name], **weights, clip=args.clip, vit=args.vit, device=args.device, dtype=args.dtype)


def _check_files(args: argparse.Namespace) -> None:
    check_output_folder(args.out)
    if args.save_inversion is not None and not args.save_inversion.absolute().parent.is_dir():
        raise ValueError(f"save-inversion: the folder of {str(args.save_inversion)!r} does not exist")
    if args.save_inversion is not None and args.save_inversion.is_dir():
        raise ValueError(f"save-inversion: {str(args.save_inversion)!r} is a folder, requires a file")
    for name in ("image", "mask", "inversion"):
        given, kept = getattr(args, name), args.save_inversion
        if given is not None and kept is not None and kept.exists() and given.exists() and kept.samefile(given):
            raise ValueError(f"save-inversion: {str(kept)!r} is the {name} itself, requires another file")
    check_image(args.image)


def _split_priors(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that say where a word is, and the words whose box is to be found (WORD=auto)."""
    given, to_find = [], []
    for argument in arguments:
        word, equals, value = argument.rpartition("=")
        if equals and word.strip() and value.strip().lower() == AUTO:
            to_find.append(word.strip())
        else:
            given.append(argument)
    return given, to_find


def _locate(args: argparse.Namespace, models: MethodModels, task: EditTask, tracker: CostTracker) -> dict[str, Located]:
    """Find the boxes of the task's `to_find`, once both texts are known to be good."""
    from ..locinv_core.text.prompt import parse_prompt
    from ..region_core.encoders.clip import load_clip
    from ..region_core.encoders.vit import load_vit
    from ..region_core.object_localization.attention_localizer import LocateSettings, locate_words, phrase_of

    model = models.model
    if model is None:
        raise ValueError(f"prior: the model of {args.method!r} cannot find objects, requires masks or boxes")
    source, _ = (parse_prompt(text, model.tokenizer) for text in (task.source, task.target))
    model.schedule.timesteps(args.steps)
    for word in task.to_find:
        phrase_of(source, word)
    _check_found_once(source, task.to_find, task.prior)
    with tracker.stage("load"):
        vision, clip = load_vit(args.vit, model.device), load_clip(args.clip, model.device)
    settings = LocateSettings(seed=args.seed)
    return locate_words(model, vision, clip, task.image, source, list(task.to_find), settings, tracker=tracker)


def _check_found_once(source: Prompt, words: Sequence[str], prior: LocalizationPrior | None) -> None:
    """Raise ValueError for a word that is to be found and has a mask or box, or is to be found twice, whatever it
    is called: "cat" and "cat#1" are one."""
    known = {} if prior is None else {source.locate(word): "is given" for word in prior.words}
    for word in words:
        span = source.locate(word)
        if span in known:
            raise ValueError(f"prior: {word!r} is to be found and {known[span]}, requires one of the two")
        known[span] = "is to be found under another name"


def _joined(prior: LocalizationPrior | None, located: dict[str, Located], image: Tensor) -> LocalizationPrior:
    from ..locinv_core.localization.priors import merge
    from ..region_core.object_localization.attention_localizer import detection_prior

    found = detection_prior(located, (image.shape[-2], image.shape[-1]))
    return found if prior is None else merge(prior, found)


def _binding(text: str) -> tuple[str, str]:
    adjective, colon, noun = text.partition(":")
    if not (colon and adjective.strip() and noun.strip()):
        raise ValueError(f"bind: got {text!r}, requires ADJ:NOUN, for example red:car")
    return adjective.strip(), noun.strip()
