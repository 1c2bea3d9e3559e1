"""The results of a run, `results.jsonl`: one JSON line for each image and method, only ever appended to.

A run that was killed may have left half a line at the end; all that stands before it still counts.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .json_lines import append_line, end_whole, read_lines

Row = Mapping[str, Any]
"""One line; `ROW_FIELDS` says what it holds."""

RESULTS_NAME: Final = "results.jsonl"
ROW_FIELDS: Final[Mapping[str, str]] = {
    "item": "the image's id",
    "method": "the method, as tables call it",
    "task": "the item's task",
    "settings": "all that decides the result beside image, model and seed",
    "model": "the model's fingerprint",
    "seed": "of whatever is random",
    "input": "digest of the item: its texts and its files",
    "metrics": "name: number or null",
    "words": "word: iou_before, iou_after and iou_curve (19 thresholds, 0.05 to 0.95)",
    "fe": "NFE that the method costs by itself",
    "fe_spent": "NFE that were spent; less than fe where methods have shared an inversion",
    "seconds": "that the method takes by itself",
    "seconds_spent": "that were spent",
    "picture": "PNG of the edit, relative to the folder; null where there is none",
    "error": "null, or what went wrong",
}
DECISIVE: Final = ("settings", "model", "seed", "input")
"""The fields that say whether a row is of the same work."""

_HEAD: Final = b'{"item": "'
"""What a row begins with."""
_BINARY: Final = getattr(os, "O_BINARY", 0)
"""Windows would write each line's end as two bytes without it."""


def row_key(row: Row) -> tuple[str, str]:
    """What a row is of: (item, method)."""
    return row["item"], row["method"]


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of a results file or of its folder, in the order in which they were first written; of several with
    one key the last counts. A torn last line is left out.

    Raises ValueError for a file that is not there and for a line before the last that is no row.
    """
    file = path / RESULTS_NAME if path.is_dir() else path
    if not file.is_file():
        raise ValueError(f"results: there is no {str(file)!r}")
    return _latest(_parse(file.read_bytes(), file)[0])


class ResultsFile:
    """An open results file that rows are appended to: `with ResultsFile(folder) as results`.

    Only one process may have it open. Each row is on disk when `append` returns.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS_NAME
        self._descriptor = -1
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> ResultsFile:
        """Open the file, made where missing, and cut off half a line at its end. Raises ValueError for a file that
        another process has open and for one that is no results file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | _BINARY, 0o644)
        try:
            _lock(self._descriptor, self.path)
            content = self.path.read_bytes()
            self._rows, whole = _parse(content, self.path)
            end_whole(self._descriptor, content, whole)
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """As `read_results` gives them."""
        return _latest(self._rows)

    def append(self, row: Row) -> None:
        """Write one row behind the others. Raises ValueError for one that lacks a field, OSError where
        there is no room for it; the file then is as it was."""
        missing = [name for name in ROW_FIELDS if name not in row]
        if missing:
            raise ValueError(f"row: it lacks {', '.join(missing)}")
        line = json.dumps(row, ensure_ascii=False, allow_nan=False)
        append_line(self._descriptor, line.encode() + b"\n")
        self._rows.append(json.loads(line))


def check_same_work(rows: Sequence[Row], asked: Mapping[tuple[str, str], Row], folder: Path) -> None:
    """Raise ValueError where a row of the folder was made of other settings, model, seed or input.

    asked: the `DECISIVE` fields of each (item, method) that the run asks for.
    """
    for row in rows:
        own = asked.get(row_key(row), row)
        for name in DECISIVE:
            value = json.loads(json.dumps(own[name]))
            if row[name] != value:
                raise ValueError(
                    f"out: {str(folder)!r} holds results of {row['method']!r} on {row['item']!r} with"
                    f" {_difference(name, row[name], value)}; requires another folder, or the same {name}"
                )


def check_same_metrics(
    rows: Sequence[Row], keys: Container[tuple[str, str]], metrics: Sequence[str], folder: Path
) -> None:
    """Raise ValueError where a row of the folder, of (item, method) in `keys`, was measured by other metrics: a table
    would then have columns over different images, and not say so."""
    for row in rows:
        if row["error"] or row_key(row) not in keys:
            continue
        lacking = [name for name in metrics if name not in row["metrics"]]
        beside = [name for name in row["metrics"] if name not in metrics]
        if lacking or beside:
            how = f"without {', '.join(lacking)}" if lacking else f"with {', '.join(beside)} besides"
            raise ValueError(
                f"out: {str(folder)!r} holds results of {row['method']!r} on {row['item']!r} {how};"
                " requires another folder, or the same metrics"
            )


def _difference(name: str, had: Any, asked: Any) -> str:
    """Both values of one field; of settings, only those that differ."""
    if not (isinstance(had, dict) and isinstance(asked, dict)):
        return f"{name} {had}, and this run asks for {asked}"
    one, other = _flat(had), _flat(asked)
    keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
    old, new = (", ".join(f"{key} {values.get(key)}" for key in keys) for values in (one, other))
    return f"{name} {old}, and this run asks for {new}"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings within settings under names with dots."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _parse(content: bytes, path: Path) -> tuple[list[dict[str, Any]], int]:
    """The whole rows of a file, and the bytes that they take."""
    return read_lines(content, path, _row, _HEAD, ("results", "a row of results"))


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and all(name in row for name in ROW_FIELDS) else None


def _latest(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return list({row_key(row): row for row in rows}.values())


def _lock(descriptor: int, path: Path) -> None:
    try:
        import fcntl
    except ImportError:  # Windows has none; there two runs into one folder are the user's to avoid
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ValueError(f"out: another run is writing to {str(path)!r}, requires another folder or its end") from error
    except OSError:  # a file system, of a network say, that has none
        return
