"""Files of JSON lines that are only ever appended to: a line is on disk whole, or not at all."""

from __future__ import annotations

import os


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


def may_be_torn(line: bytes, head: bytes) -> bool:
    """Whether a line without an end can be what a kill has left of one that begins with `head`: whoever
    cuts off anything else may destroy what is somebody else's."""
    return line.startswith(head) or head.startswith(line)
