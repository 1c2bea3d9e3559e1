"""Files of JSON lines that are only ever appended to: a line is on disk whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def read_lines(
    content: bytes, path: Path, read: Callable[[bytes], T | None], head: bytes, kind: tuple[str, str]
) -> tuple[list[T], int]:
    """The entries of the file `path`, and the bytes of their lines: a kill may have left half a line behind them.

    read: a line's entry, None for what is none. head: what an entry begins with: a first line that has no end and
    cannot be half of one is somebody else's. Raises ValueError, which names `kind`, such as ("answers", "an answer"),
    for a line that is no entry.
    """
    entries: list[T] = []
    start = 0
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        if line.strip():
            entry = read(line)
            if entry is None:
                may_be_torn = bool(entries) or line.startswith(head) or head.startswith(line)
                if may_be_torn and not line.endswith(b"\n"):
                    break
                raise ValueError(f"{kind[0]}: line {number} of {str(path)!r} is not {kind[1]}")
            entries.append(entry)
        start += len(line)
    return entries, start


def end_whole(descriptor: int, content: bytes, whole: int) -> None:
    """Cut off what stands behind the `whole` bytes of an open file's content; a last line gets its end."""
    if whole < len(content):
        os.ftruncate(descriptor, whole)
    elif content and not content.endswith(b"\n"):
        os.write(descriptor, b"\n")


def append_line(descriptor: int, line: bytes) -> None:
    """Write a line, its end included, behind all others, and wait until it is on disk.

    descriptor: of a file open for appending. Where the line cannot be written whole, on a full disk say, what
    is there of it is cut off again, and the OSError raised.
    """
    size = os.fstat(descriptor).st_size
    written = 0
    try:
        while written < len(line):
            written += os.write(descriptor, line[written:])
        os.fsync(descriptor)
    except BaseException:
        os.ftruncate(descriptor, size)
        raise
