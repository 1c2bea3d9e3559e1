"""`pinpoint edit`: change the object that is named in an image, and nothing else."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..locinv_core.localization.prior_sources import prior_source_names
from ..locinv_core.options import LOCAL_BLENDS, NULL_METHODS, TARGET_EMBEDDINGS, TOKENS
from .arguments import check_seed
from .output_folder import check_output_folder, filled_folder
from .progress import ConsoleProgress
from .regions import add_networks

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.backbones.stable_diffusion import EditModel
    from ..locinv_core.cost import CostTracker
    from ..locinv_core.localization.priors import LocalizationPrior
    from ..locinv_core.pipeline import EditRequest
    from ..locinv_core.text.prompt import Prompt
    from ..region_core.object_localization.attention_localizer import Located

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

# Written out, so that --help needs no torch; a test keeps them in step with locinv_core.
METHOD_NAMES = (
    *("locinv", "dpl", "nti", "npi", "proxnpi", "direct", "ddim"),
    *("pnp", "masactrl", "diffedit", "pix2pix-zero"),
)
OTHER_METHOD_NAMES = (*("ledits++", "blended", "inpaint", "imagic", "instruct-pix2pix", "learnable-regions"),)
AUTO = "auto"
"""In place of a mask or a box: the place is found."""


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "edit",
        help="edit an image",
        description="Invert an image, tune its words inside their places, edit it with Prompt-to-Prompt, and"
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
        help="where a word of the source is: a mask file, a box in pixels, or auto, which finds the box; or"
        f" NAME:… by another source ({', '.join(prior_source_names())}), such as cat=text:old cat@MODEL (may be"
        " repeated)",
    )
    parser.add_argument(
        "--model",
        default="embedded",
        metavar="embedded|DIR|FILE",
        help="diffusers folder or .safetensors file",
    )
    parser.add_argument(
        "--method",
        choices=(*METHOD_NAMES, *OTHER_METHOD_NAMES),
        help="how to edit; those to ddim are presets of --tokens and --null; inpaint and instruct-pix2pix"
        " require a folder of their own as --model (default: locinv with a prior, else direct)",
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
    parser.add_argument("--tokens", choices=TOKENS, help="how words are tuned (default: the method's)")
    parser.add_argument("--null", choices=NULL_METHODS, help="how the image is reconstructed (default: the method's)")
    parser.add_argument(
        "--target-embeddings",
        "--carry",
        choices=TARGET_EMBEDDINGS,
        help="what the target prompt takes of the tuned words",
    )
    parser.add_argument(
        "--local-blend",
        "--blend",
        choices=LOCAL_BLENDS,
        help="where the edit may show (default: the method's)",
    )
    parser.add_argument(
        "--bind",
        action="append",
        metavar="ADJ:NOUN",
        help="bind an adjective to its noun (may be repeated; default: those that the edit changes)",
    )
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="DDIM steps (default 50)")
    parser.add_argument(
        "--guidance",
        type=float,
        metavar="W",
        help="guidance scale (default 7.5; pix2pix-zero and ledits++ 5)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of whatever is random (default 0)")
    add_networks(parser)
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps …")
    parser.add_argument("--dtype", default="auto", help="auto, float32, float16 or bfloat16")
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
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Edit and write the files; ValueError for bad input, before any work."""
    _check_files(args)
    check_seed(args.seed)
    if args.method in OTHER_METHOD_NAMES:
        return _run_other(args)
    for name in ("mask", "instruction"):
        if getattr(args, name) is not None:
            raise ValueError(f"{name}: the method {_preset_name(args)!r} has no such option")
    import torch

    from ..locinv_core.backbones.loading import load_edit_model
    from ..locinv_core.cost import CostTracker
    from ..locinv_core.imaging.io import load_image
    from ..locinv_core.inversion.storage import open_inversion, save_inversion
    from ..locinv_core.pipeline import check_edit_request, judge, localized_edit
    from .edit_report import summary, write_edit

    image = load_image(args.image)
    given, to_find = _split_priors(args.prior)
    request = _request(args, image, given)
    inversion = None if args.inversion is None else open_inversion(args.inversion)
    torch.manual_seed(args.seed)
    with ConsoleProgress() as progress:
        tracker = CostTracker(progress)
        with tracker.stage("load"):
            model = load_edit_model(args.model, device=args.device, dtype=args.dtype)
        located = {}
        if to_find:
            anywhere = _anywhere(model, request, to_find)
            check_edit_request(model, replace(request, prior=anywhere), inversion=inversion)
            texts = (request.source, request.target)
            located = _locate(args, model, image, texts, to_find, request.prior, tracker)
            request = replace(request, prior=_joined(request.prior, located, image))
        outcome = localized_edit(model, request, inversion=inversion, tracker=tracker)
        quality = judge(model, request, outcome, tracker=tracker)
    with filled_folder(args.out) as folder:
        report = write_edit(folder, model, request, outcome, quality, tracker, seed=args.seed, located=located)
        if args.save_inversion is not None:
            save_inversion(outcome.inversion, args.save_inversion)
    print(summary(report))
    print(f"images and report: {args.out}", file=sys.stdout)
    return 0


def _run_other(args: argparse.Namespace) -> int:
    """Run a method that is no preset."""
    from . import edit_methods

    edit_methods.refuse_foreign_options(args)
    from ..locinv_core.cost import CostTracker
    from ..locinv_core.imaging.io import load_image
    from ..locinv_core.localization.prior_sources import prior_from_arguments
    from ..locinv_core.localization.priors import from_mask_files
    from ..methods.registry import any_method_named, edit_by_method
    from ..methods.types import EditTask

    image = load_image(args.image)
    size = image.shape[-2], image.shape[-1]
    given, to_find = _split_priors(args.prior)
    prior = prior_from_arguments(given, image) if given else None
    settings = edit_methods.chosen_settings(args, _more_settings(args.set))
    mask = None if args.mask is None else from_mask_files({"mask": args.mask}, size=size).mask("mask")
    if mask is None and not args.prior and "mask" in any_method_named(args.method).needs:
        raise ValueError(f"mask: the method {args.method!r} requires --mask, or --prior for what changes")
    task = EditTask(image, args.source, args.target, prior, mask, args.instruction)
    with ConsoleProgress() as progress:
        tracker = CostTracker(progress)
        with tracker.stage("load"):
            models = edit_methods.open_for(args, settings)
        if to_find:
            if models.model is None:
                raise ValueError(f"prior: the model of {args.method!r} cannot find places, requires them given")
            texts = (args.source, args.target)
            located = _locate(args, models.model, image, texts, to_find, prior, tracker)
            task = replace(task, prior=_joined(prior, located, image))
        outcome = edit_by_method(args.method, models, task, settings=settings, seed=args.seed, tracker=tracker)
    with filled_folder(args.out) as folder:
        report = edit_methods.write_outcome(folder, args, models, task, outcome, settings, tracker)
    print(edit_methods.outcome_summary(report))
    print(f"images and report: {args.out}", file=sys.stdout)
    return 0


def _more_settings(arguments: Sequence[str], known: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """--set NAME=VALUE by name; a value is JSON, or, where it is none, the text itself."""
    from ..methods.types import as_tuple

    settings: dict[str, Any] = {}
    for argument in arguments:
        name, equals, text = argument.partition("=")
        name = name.strip().replace("-", "_")
        if not (name and equals):
            raise ValueError(f"set: got {argument!r}, requires NAME=VALUE, for example interpolation=0.8")
        if name in settings:
            raise ValueError(f"set: {name!r} is given twice")
        if name in (known or {}):
            raise ValueError(f"set: {name!r} has an option of its own, --{name}")
        try:
            value = json.loads(text)
        except ValueError:
            value = text
        settings[name] = as_tuple(value)
    return settings


def _check_files(args: argparse.Namespace) -> None:
    check_output_folder(args.out)
    if args.save_inversion is not None and not args.save_inversion.absolute().parent.is_dir():
        raise ValueError(f"save-inversion: the folder of {str(args.save_inversion)!r} does not exist")
    if args.save_inversion is not None and args.save_inversion.is_dir():
        raise ValueError(f"save-inversion: {str(args.save_inversion)!r} is a folder, requires a file")
    if not args.image.exists():
        raise ValueError(f"image: there is no file {str(args.image)!r}")


def _split_priors(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments that say where a word is, and the words whose place is to be found (WORD=auto)."""
    given, to_find = [], []
    for argument in arguments:
        word, equals, place = argument.rpartition("=")
        if equals and word.strip() and place.strip().lower() == AUTO:
            to_find.append(word.strip())
        else:
            given.append(argument)
    return given, to_find


def _locate(
    args: argparse.Namespace,
    model: EditModel,
    image: Tensor,
    texts: tuple[str, str],
    words: list[str],
    prior: LocalizationPrior | None,
    tracker: CostTracker,
) -> dict[str, Located]:
    """Find the words' boxes, once both texts are known to be good. prior: the places that were given."""
    from ..locinv_core.text.prompt import parse_prompt
    from ..region_core.encoders.clip import load_clip
    from ..region_core.encoders.vit import load_vit
    from ..region_core.object_localization.attention_localizer import LocateSettings, locate_words, phrase_of

    source, _ = (parse_prompt(text, model.tokenizer) for text in texts)
    model.schedule.timesteps(args.steps)
    for word in words:
        phrase_of(source, word)
    _check_found_once(source, words, prior)
    with tracker.stage("load"):
        vision, guide = load_vit(args.vit, model.device), load_clip(args.clip, model.device)
    settings = LocateSettings(seed=args.seed)
    return locate_words(model, vision, guide, image, source, words, settings, tracker=tracker)


def _check_found_once(source: Prompt, words: list[str], prior: LocalizationPrior | None) -> None:
    """Raise ValueError for a word that is to be found and has a place, or is to be found twice, whatever it
    is called: "cat" and "cat#1" are one."""
    placed = {} if prior is None else {source.locate(word): "has a place" for word in prior.words}
    for word in words:
        span = source.locate(word)
        if span in placed:
            raise ValueError(f"prior: {word!r} is to be found and {placed[span]}, requires one of the two")
        placed[span] = "is to be found under another name"


def _anywhere(model: EditModel, request: EditRequest, words: list[str]) -> LocalizationPrior:
    """The places given, and the whole image for each word that is to be found: what an edit is checked
    with before there is a place."""
    from ..locinv_core.localization.priors import from_boxes, merge
    from ..locinv_core.text.prompt import parse_prompt

    source = parse_prompt(request.source, model.tokenizer)
    _check_found_once(source, words, request.prior)
    height, width = request.image.shape[-2:]
    whole = from_boxes(dict.fromkeys(words, (0, 0, width, height)), (height, width))
    return whole if request.prior is None else merge(request.prior, whole)


def _joined(prior: LocalizationPrior | None, located: dict[str, Located], image: Tensor) -> LocalizationPrior | None:
    if not located:
        return prior
    from ..locinv_core.localization.priors import merge
    from ..region_core.object_localization.attention_localizer import detection_prior

    found = detection_prior(located, (image.shape[-2], image.shape[-1]))
    return found if prior is None else merge(prior, found)


def _request(args: argparse.Namespace, image: Tensor, given: list[str]) -> EditRequest:
    from ..locinv_core.localization.prior_sources import prior_from_arguments
    from ..locinv_core.pipeline import EditRequest
    from ..methods.presets import method_named

    prior = prior_from_arguments(given, image) if given else None
    method = method_named(_preset_name(args))
    method = method.with_choices(args.tokens, args.null)
    settings: dict[str, Any] = {} if args.guidance is None else {"guidance": args.guidance}
    for name in ("target_embeddings", "local_blend"):
        if getattr(args, name) is not None:
            settings[name] = getattr(args, name)
    if any(field.name == "seed" for field in fields(method.settings_type)):
        settings["seed"] = args.seed
    return EditRequest(
        image,
        args.source,
        args.target,
        prior,
        method=method,
        bindings=None if args.bind is None else [_binding(text) for text in args.bind],
        steps=args.steps,
        settings=method.settings(**settings, **_more_settings(args.set, settings)),
        composite_pixels=args.composite or args.composite_grow is not None,
        composite_grow=args.composite_grow or 0.0,
    )


def _preset_name(args: argparse.Namespace) -> str:
    name: str = args.method or ("locinv" if args.prior else "direct")
    return name


def _binding(text: str) -> tuple[str, str]:
    adjective, colon, noun = text.partition(":")
    if not (colon and adjective.strip() and noun.strip()):
        raise ValueError(f"bind: got {text!r}, requires ADJ:NOUN, for example red:car")
    return adjective.strip(), noun.strip()
