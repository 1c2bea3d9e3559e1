"""`pinpoint study`: ask people which edits they like, on a page on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ...cli.output_folder import check_output_folder
from .run_options import listed

if TYPE_CHECKING:
    from ..evaluation.user_study.site import Study

    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_parser(subparsers: Subparsers) -> None:
    """Add the command's arguments."""
    parser = subparsers.add_parser(
        "study",
        help="a user study of edits, on a page on this machine",
        description="The user study of LocInv's Table 1: a page shows an image's edits by several methods in"
        " shuffled order and asks which is the best edit and which keeps the background. Answers are saved as"
        " they are given. A study that was begun goes on where it was.",
    )
    parser.add_argument(
        "results", type=Path, nargs="?", metavar="DIR", help="what `pinpoint evaluate` wrote; not needed again"
    )
    parser.add_argument("--out", type=Path, metavar="SITE", help="the study's folder")
    parser.add_argument(
        "--dataset", type=Path, metavar="PATH", help="the data set (default: the one that DIR was made with)"
    )
    parser.add_argument("--methods", metavar="A,B,…", help="the methods to compare (default: all, 2 to 9)")
    parser.add_argument("--tasks", type=int, default=20, metavar="N", help="images a participant sees (default 20)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every shuffle (default 0)")
    parser.add_argument("--port", type=int, default=8765, help="where to serve; 0 takes a free one (8765)")
    parser.add_argument("--no-serve", action="store_true", help="write the study, serve nothing")
    parser.add_argument(
        "--results", dest="rates_of", type=Path, metavar="SITE", help="print how often each was preferred"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Build and serve a study, or print its results; ValueError for bad input."""
    if not 0 <= args.port <= 65535:
        raise ValueError(f"port: got {args.port}, requires 0 to 65535")
    if args.rates_of is not None:
        if args.results is not None or args.out is not None:
            raise ValueError("results: takes a study's folder alone, without DIR and --out")
        return _print_rates(args.rates_of)
    if args.out is None:
        raise ValueError("out: is missing, requires the study's folder")
    study = _study(args)
    print(f"study: {len(study.trials)} images, {len(study.methods)} methods: {args.out}")
    return 0 if args.no_serve else _serve(args.out, args.port)


def _print_rates(site: Path) -> int:
    from ..evaluation.user_study.answers import read_answers
    from ..evaluation.user_study.rates import rates_table
    from ..evaluation.user_study.site import ANSWERS_NAME, read_study

    print(rates_table(read_study(site), read_answers(site / ANSWERS_NAME)))
    return 0


def _study(args: argparse.Namespace) -> Study:
    from ..evaluation.datasets.reader import noted_dataset, read_dataset
    from ..evaluation.user_study.site import build_site, read_study

    if args.results is None:
        return read_study(args.out)
    if not args.results.is_dir():
        raise ValueError(f"study: there is no folder {str(args.results)!r}")
    check_output_folder(args.out)
    methods = None if args.methods is None else listed(args.methods)
    dataset = read_dataset(noted_dataset(args.results) if args.dataset is None else args.dataset)
    return build_site(args.results, dataset, args.out, methods=methods, tasks=args.tasks, seed=args.seed)


def _serve(site: Path, port: int) -> int:
    from ..evaluation.user_study.server import StudyServer

    try:
        listening = StudyServer(site, port)
    except OSError as error:
        if error.filename is not None:
            raise
        reason = error.strerror or error
        raise ValueError(f"port: got {port} ({reason}), requires a free one; 0 takes any") from error
    with listening as server:
        print(f"the page: {server.url}\nanswers: {server.answers.path}\nCtrl-C ends it.", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print(f"\n{len(server.answers.answers)} answers are saved.")
    return 0
