"""What the commands that go over a data set have in common: how much of it, by whom, and where to."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...cli.arguments import add_run_arguments
from ...cli.output_folder import check_output_folder

if TYPE_CHECKING:
    from ..evaluation.datasets.types import Dataset
    from ..evaluation.execution.runner import Workforce
    from ..evaluation.execution.work_items import Variant


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the data set and the options of a run over it."""
    parser.add_argument(
        "dataset",
        type=Path,
        metavar="DATASET",
        help="folder with a dataset.json, a scenes.json or PIE-Bench's mapping_file.json, or that file",
    )
    parser.add_argument(
        "--model",
        default="embedded",
        metavar="embedded|DIR|FILE",
        help="diffusers folder or .safetensors file (default embedded)",
    )
    parser.add_argument(
        "--limit", type=int, metavar="N", help="only N of the images, spread over the tasks (default all)"
    )
    parser.add_argument(
        "--tasks",
        metavar="A,B,…",
        help="only images of these tasks, or groups of tasks such as attribute (default all)",
    )
    parser.add_argument("--jobs", type=int, metavar="N", help="processes of one thread each (default 1, this one)")
    parser.add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="do the work on a Ray cluster: host:port, ray://host:port, auto or local; --jobs then is how"
        " many workers (default: one for each GPU of the cluster, or for each CPU where it has none)",
    )
    parser.add_argument("--retry-failed", action="store_true", help="try again what failed in an earlier run into DIR")
    add_run_arguments(parser, out="folder to write to; what an earlier run has left there is gone on with")


def add_traceback(parser: argparse.ArgumentParser) -> None:
    """Add `--traceback` to a command's command, which the outer parser's own does not reach."""
    parser.add_argument(
        "--traceback", action="store_true", default=argparse.SUPPRESS, help="on an error, show where it came from"
    )


def check_run_folder(folder: Path, written: Sequence[str]) -> None:
    """Raise ValueError for a folder that is no run's: a file, or one that holds something of the names in
    `written`, which a run would write over, and no results."""
    from ..evaluation.results import RESULTS_NAME

    check_output_folder(folder)
    if (folder / RESULTS_NAME).exists():
        return
    for name in written:
        if (folder / name).exists():
            raise ValueError(
                f"out: {str(folder)!r} holds a {name} and no {RESULTS_NAME}, so it is of no earlier run;"
                " requires another folder"
            )


def in_dtype(variants: Sequence[Variant], args: argparse.Namespace) -> tuple[Variant, ...]:
    """The variants, with the precision among their settings where it is not the device's usual one.

    Raises ValueError for a device or dtype that there is not.
    """
    from dataclasses import replace

    from ...locinv_core.backbones.loading import resolve_device, resolve_dtype

    device = resolve_device(args.device)
    if resolve_dtype(args.dtype, device) == resolve_dtype("auto", device):
        return tuple(variants)
    return tuple(replace(each, settings={**each.settings, "dtype": args.dtype}) for each in variants)


def listed(text: str) -> list[str]:
    """["a", "b"] of "a, b,"."""
    return [name for part in text.split(",") if (name := part.strip())]


def workforce_of(args: argparse.Namespace) -> Workforce:
    """Who does the work. Raises ValueError for fewer than one process, or a cluster without Ray."""
    from ..evaluation.execution.runner import Workforce

    workforce = Workforce(args.jobs, args.cluster)
    workforce.check()
    return workforce


def limited_dataset(args: argparse.Namespace) -> Dataset:
    """The data set, of the tasks and as many images as are asked for.

    Raises ValueError for one that cannot be read, and for a task that it does not have.
    """
    from dataclasses import replace

    from ..evaluation.datasets.reader import read_dataset
    from ..evaluation.datasets.selection import of_tasks, spread

    dataset = read_dataset(args.dataset.absolute())
    items = of_tasks(dataset.items, None if args.tasks is None else listed(args.tasks))
    return replace(dataset, items=spread(items, args.limit))


def whole_path(name: str) -> str:
    """The path of a file or folder from the root, as workers elsewhere need it; any other name as it is."""
    path = Path(name).expanduser()
    return str(path.absolute()) if path.exists() else name


def report(line: str) -> None:
    """Print a line of progress at once."""
    print(line, flush=True)


def note_row(row: Mapping[str, Any], done: int, total: int) -> None:
    """Say on stderr that a row is done."""
    how = f"failed: {row['error']}" if row["error"] else f"{row['seconds_spent']:.1f} s"
    line = f"{done}/{total} {row['item']} {row['method']}: {how}"
    print(line[:200], file=sys.stderr, flush=True)


def failures_of(rows: list[dict[str, Any]]) -> str:
    """A line about the rows that failed; empty for none."""
    failed = [f"{row['method']} on {row['item']}: {row['error']}" for row in rows if row["error"]]
    return f"{len(failed)} of {len(rows)} failed, the first: {failed[0]}" if failed else ""
