"""`pinpoint regions`: edit an image with no mask; where to edit is learned."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..region_core.editors.registry import editor_named, editor_names
from ..region_core.options import ANCHORS, ESTIMATORS, PLAN_NAMES, SIZES
from .arguments import add_run_arguments, check_image, check_seed
from .output_folder import check_output_folder, filled_folder
from .progress import ConsoleProgress

if TYPE_CHECKING:
    from ..locinv_core.backbones.base import Backbone
    from ..region_core.editors.base import Editor
    from ..region_core.pipeline import RegionRequest

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "regions",
        help="edit an image with no mask",
        description="Propose boxes around salient points, learn which of them the edit should use, edit"
        " there, rank the edits, and write the images and a report into DIR.",
    )
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the image: PNG, JPEG, WebP …")
    parser.add_argument(
        "--caption", required=True, metavar="TEXT", help="what the image shows, best with what surrounds it"
    )
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="what it should show")
    parser.add_argument(
        "--edit-prompt",
        metavar="TEXT",
        help="what the editor should draw in a box: best the new object and its ground (default: the prompt;"
        " where a word was found, without the objects listed beside what it became)",
    )
    parser.add_argument(
        "--word",
        default="auto",
        metavar="auto|none|WORD",
        help="the caption's word that the edit is about: it is found, and only boxes near it are edited."
        " auto: the one noun that the prompt changes, unless anchors or sizes are random; none: all boxes,"
        " as published (default auto)",
    )
    parser.add_argument(
        "--reader",
        metavar="embedded|DIR|FILE",
        help="a text-to-image model to look for the word with (default: the editor's own; inpaint and amused"
        " have none, and look for nothing unless --model is embedded, too)",
    )
    parser.add_argument(
        "--model",
        default="embedded",
        metavar="embedded|DIR|FILE",
        help="the editor's model (inpaint: a diffusers folder; amused: embedded or a diffusers folder)",
    )
    parser.add_argument(
        "--editor",
        choices=editor_names(),
        default="blended",
        help="what edits inside a box (default blended, which works with any text-to-image model; so does"
        " locinv, which changes the object in the shape that it has)",
    )
    parser.add_argument("--anchors", choices=ANCHORS, default="dino", help="where boxes are proposed (default dino)")
    parser.add_argument(
        "--sizes",
        choices=SIZES,
        default="learned",
        help="learned: M squares an anchor to choose from; random: one box of any size (default learned)",
    )
    parser.add_argument(
        "--estimator", choices=ESTIMATORS, default="expected", help="how the gradient is estimated (default expected)"
    )
    parser.add_argument(
        "--plan",
        choices=PLAN_NAMES,
        default="preview",
        help="how boxes are judged for learning: each edited in full, or cheaper (default preview)",
    )
    parser.add_argument(
        "--finalists",
        type=int,
        metavar="N",
        help="edit only the N boxes of least loss in full (default: every anchor's; with shortlist 2)",
    )
    parser.add_argument("--k", type=int, default=8, metavar="K", help="anchors (default 8)")
    parser.add_argument("--m", type=int, default=7, metavar="M", help="boxes an anchor (default 7)")
    parser.add_argument(
        "--min-distance",
        type=float,
        metavar="D",
        help="patches between any two dino anchors, at least (default 2, or 3.5 where a word was found; 0 as"
        " published, where all may lie on one object)",
    )
    parser.add_argument(
        "--smoothing",
        type=int,
        metavar="N",
        help="side of the square of patches that attention is averaged over, so that anchors lie in"
        " the middle of objects (odd; default 1, as published, or 5 where a word was found)",
    )
    parser.add_argument("--epochs", type=int, default=5, metavar="N", help="epochs of learning (default 5)")
    parser.add_argument("--lr", type=float, default=0.003, metavar="R", help="Adam's learning rate (default 0.003)")
    parser.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        metavar="T",
        help="of Gumbel-softmax, for straight-through (default 1)",
    )
    parser.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="how far an edit may go from the source, up to 1 (default 0.75; amused 1)",
    )
    parser.add_argument("--guidance", type=float, metavar="W", help="guidance scale (default 7.5; amused 10)")
    add_window(parser)
    parser.add_argument("--steps", type=int, metavar="N", help="an edit's steps (default 50; locinv 20, amused 12)")
    add_networks(parser)
    add_run_arguments(parser, dtype="the editor's: ")
    parser.set_defaults(run=run)


def add_window(parser: argparse.ArgumentParser) -> None:
    """Add the option that says how large the window of a blended edit is."""
    parser.add_argument(
        "--window",
        type=float,
        metavar="F",
        help="blended: edit each box in a window F times its size, enlarged to the image's (default 1.5);"
        " 0: in the whole image, as published",
    )


def add_networks(parser: argparse.ArgumentParser) -> None:
    """Add the options that name the networks by which places are found and edits judged."""
    for name, what, example in (
        ("clip", "CLIP", "openai/clip-vit-base-patch16"),
        ("vit", "ViT", "facebook/dino-vitb16"),
    ):
        parser.add_argument(
            f"--{name}",
            default="embedded",
            metavar="embedded|DIR|NAME",
            help=f"{what} in transformers' layout, or its name on the hub, such as {example}",
        )


def run(args: argparse.Namespace) -> int:
    """Find where to edit, edit there, write the files; ValueError for bad input, before any work."""
    check_output_folder(args.out)
    check_image(args.image)
    from ..locinv_core.backbones.loading import resolve_device
    from ..locinv_core.cost import CostTracker
    from ..locinv_core.imaging.io import load_with_transparency
    from ..region_core.editors.registry import load_editor
    from ..region_core.encoders.clip import load_clip
    from ..region_core.encoders.vit import load_vit
    from ..region_core.pipeline import RegionNetworks, edit_region
    from .report import regions_summary, write_regions

    image, transparency = load_with_transparency(args.image)
    _check_options(args)
    request = _request(args)
    with ConsoleProgress() as progress:
        tracker = CostTracker(progress)
        with tracker.stage("load"):
            device = resolve_device(args.device)
            guide, vision = load_clip(args.clip, device), load_vit(args.vit, device)
            for text, name in ((args.caption, "caption"), (args.prompt, "prompt")):
                guide.token_ids(text, name)
            editor = load_editor(args.editor, args.model, device=args.device, dtype=args.dtype, **_settings_of(args))
            networks = RegionNetworks(editor, _reader(args, editor, localizes=request.localizes), vision, guide)
        found = edit_region(image, networks, request, tracker=tracker)
    with filled_folder(args.out) as folder:
        report = write_regions(folder, args, image, editor, found, tracker, transparency)
    print(regions_summary(report))
    print(f"images and report: {args.out}")
    return 0


def window_of(args: argparse.Namespace) -> float | None:
    """How large the window of an edit is. Raises ValueError for one below 1, and for editors without one."""
    from ..region_core.editors.blended import REGION_WINDOW
    from ..region_core.editors.crop import check_window

    if "window" not in editor_named(args.editor).settings:
        if args.window is not None:
            raise ValueError(f"window: the editor {args.editor!r} sees the mask itself; only blended has one")
        return None
    window = REGION_WINDOW if args.window is None else args.window
    if window == 0:
        return None
    check_window(window)
    return float(window)


def _reader(args: argparse.Namespace, editor: Editor, *, localizes: bool) -> Backbone | None:
    """The text-to-image model that looks for the word, if there is one."""
    from ..locinv_core.backbones.loading import load_edit_model

    own = editor.reader
    if args.reader is None and (own is not None or args.model != "embedded" or not localizes):
        return own
    return load_edit_model(args.reader or "embedded", device=args.device, dtype=args.dtype)


def _request(args: argparse.Namespace) -> RegionRequest:
    from ..region_core.pipeline import RegionRequest
    from ..region_core.search.plans import plan_named

    options = {**vars(args), "plan": plan_named(args.plan).with_final_count(args.finalists)}
    request = RegionRequest.from_options(**options)
    if args.reader is not None and not request.localizes:
        raise ValueError(f"reader: got {args.reader!r}, but no word is localized: --word none, or random boxes")
    return request


def _settings_of(args: argparse.Namespace) -> dict[str, Any]:
    """The settings that this editor has."""
    choices = {
        "source": args.caption,
        "word": None if args.word in ("auto", "none") else args.word,
        "guidance": args.guidance,
        "steps": args.steps,
        "strength": args.strength,
        "window": window_of(args),
    }
    return {name: choices[name] for name in choices if name in editor_named(args.editor).settings}


def _check_options(args: argparse.Namespace) -> None:
    """Raise ValueError for options that are wrong, and for those that the editor does not have."""
    check_seed(args.seed)
    window_of(args)
    for name in ("strength", "guidance", "steps"):
        value = getattr(args, name)
        if value is not None and name not in editor_named(args.editor).settings:
            raise ValueError(f"{name}: got {value}, but the editor {args.editor!r} has none")
