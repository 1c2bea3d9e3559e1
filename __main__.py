"""The command line, `python -m pinpoint`: finds the command, runs it, turns what goes wrong into one line.

Bad input ends with exit status 2 and a line on stderr, Ctrl-C with 130. A traceback is for `--traceback`.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from importlib import metadata
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType

COMMANDS: Mapping[str, str] = {
    "edit": "cli.edit",
    "regions": "cli.regions",
    "demo": "cli.demo",
    "scenes": "research.commands.scenes",
    "dataset": "research.commands.dataset",
    "evaluate": "research.commands.evaluate",
    "ablate": "research.commands.ablate",
    "study": "research.commands.study",
    "train-embedded": "research.commands.train_embedded",
    "evaluate-embedded": "research.commands.evaluate_embedded",
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
    for command in COMMANDS:
        if _is_here(command):
            _module(command).add_parser(subparsers)
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
    command = next((word for word in (sys.argv[1:] if argv is None else argv) if not word.startswith("-")), "")
    if command in COMMANDS and not _is_here(command):
        what = f"command {command!r}: the published ComfyUI node leaves it out, a clone of the repository has it"
        print(f"pinpoint: error: {what}", file=sys.stderr)
        return BAD_INPUT
    args = build_parser().parse_args(argv)
    try:
        return int(_module(args.command).run(args))
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


def _is_here(command: str) -> bool:
    """Whether this copy of the package has the command: the published ComfyUI node has no `research`."""
    return (Path(__file__).parent / COMMANDS[command].partition(".")[0]).is_dir()


def _module(command: str) -> ModuleType:
    return importlib.import_module(f".{COMMANDS[command]}", __package__)


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
