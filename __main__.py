"""The command line, `python -m pinpoint`: finds the command, runs it, turns what goes wrong into one line.

Bad input ends with exit status 2 and a line on stderr, Ctrl-C with 130. A traceback is for `--traceback`.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from io import TextIOWrapper
from types import ModuleType

from .cli import demo, edit, regions
from .research.commands import ablate, dataset, evaluate, evaluate_embedded, scenes, study, train_embedded

COMMANDS: Mapping[str, ModuleType] = {
    "edit": edit,
    "regions": regions,
    "demo": demo,
    "scenes": scenes,
    "dataset": dataset,
    "evaluate": evaluate,
    "ablate": ablate,
    "study": study,
    "train-embedded": train_embedded,
    "evaluate-embedded": evaluate_embedded,
}
"""Command -> its module: `add_parser(subparsers)`, and `run(args) -> int`, which imports what is heavy."""

BAD_INPUT = 2
INTERRUPTED = 130


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line, with one sub-parser a command."""
    parser = argparse.ArgumentParser(
        prog="pinpoint", description="Change the object you name in an image and nothing else."
    )
    parser.add_argument("--version", action="version", version=f"pinpoint {_version()}")
    parser.set_defaults(traceback=bool(os.environ.get("PINPOINT_TRACEBACK")))
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in COMMANDS.values():
        module.add_parser(subparsers)
    for every in (parser, *subparsers.choices.values()):
        every.add_argument(
            "--traceback",
            action="store_true",
            default=argparse.SUPPRESS,
            help="on an error, show where it came from (or set PINPOINT_TRACEBACK=1)",
        )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status.

    argv: the arguments after the program's name; None reads them from the process.
    Returns 0 when all went well, 2 for bad input (ValueError and OSError), 130 after Ctrl-C. Anything else
    is a bug in Pinpoint and is raised as it is.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # a letter that the terminal lacks ends no command
            stream.reconfigure(errors="backslashreplace")
    args = build_parser().parse_args(argv)
    try:
        return int(COMMANDS[args.command].run(args))
    except (ValueError, OSError) as error:
        if args.traceback:
            traceback.print_exc()
        print(f"pinpoint: error: {_one_line(error)}", file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        if args.traceback:
            traceback.print_exc()
        print("pinpoint: interrupted", file=sys.stderr)
        return INTERRUPTED


def _one_line(error: ValueError | OSError) -> str:
    """Say what an error says in one line; for the system's own errors, the file and the reason."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _version() -> str:
    try:
        return metadata.version("comfyui-pinpoint")
    except metadata.PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
