"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_run_arguments(parser: argparse.ArgumentParser, *, dtype: str = "", out: str = "folder to write to") -> None:
    """Add --seed, --device, --dtype and --out; dtype and out: what their help says."""
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of whatever is random (default 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps …")
    parser.add_argument("--dtype", default="auto", help=f"{dtype}auto, float32, float16 or bfloat16")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help=out)


def check_seed(seed: int) -> None:
    """Raise ValueError for a seed that some random number generator or method does not take."""
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed: got {seed}, requires a whole number from 0 on, of at most 64 bits")


def check_image(path: Path) -> None:
    """Raise ValueError for an image that is not there."""
    if not path.exists():
        raise ValueError(f"image: there is no file {str(path)!r}")
