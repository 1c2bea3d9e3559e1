"""A command's output folder, which gets all of its files or none."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def check_output_folder(path: Path) -> None:
    """Raise ValueError if files cannot be put into `path` because it is a file itself."""
    for place in (path, *path.parents):
        if place.exists():
            if not place.is_dir():
                raise ValueError(f"out: {str(place)!r} is a file, requires a folder")
            return


@contextmanager
def filled_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder whose files move into `path` at the end, or are gone after an error.

    It lies in `path`, where there is one, else beside it. Files that `path` holds already stay, save those
    that are written again.
    """
    check_output_folder(path)
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    # What lies beside a folder may be of another disk, or not ours to write to.
    place = path if path.is_dir() else path.parent
    unfinished = place / f".{path.name}.{secrets.token_hex(4)}.part"
    unfinished.mkdir()
    try:
        yield unfinished
        path.mkdir(exist_ok=True)
        for file in sorted(unfinished.iterdir()):
            os.replace(file, path / file.name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
