"""What a data set's JSON says, checked as it is read: typed fields, and files that stay in their folder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, TypeVar

T = TypeVar("T")
Box = tuple[float, float, float, float]

_LARGEST = 2**31
"""More pixels than an image has that can be opened."""


def read_json(path: Path, kind: str = "dataset") -> Any:
    """What a JSON file, which errors call a `kind`, says. Raises ValueError for one that is missing or no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{kind} {str(path)!r} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{kind} {str(path)!r} is not JSON: {error}") from error


@dataclass(frozen=True)
class Fields:
    """The fields of a JSON object: errors begin with `named`, the files that it names lie in `folder`."""

    content: Mapping[str, Any]
    named: str
    folder: Path

    def read(self, key: str, check: Callable[[Any, str], T]) -> T:
        """The value of `key` as one of the checks below returns it. Raises ValueError, also where it is missing."""
        return check(self.content.get(key), f"{self.named}: {key}")

    def maybe(self, key: str, check: Callable[[Any, str], T]) -> T | None:
        """As `read`, but None where the value is null or missing."""
        return None if self.content.get(key) is None else self.read(key, check)

    def file_of(self, value: Any, named: str) -> Path:
        """`file_inside` of this object's folder, as a check."""
        return file_inside(self.folder, value, named)

    def inner(self, value: Any, named: str) -> Fields:
        """The fields of an object in this one, as a check."""
        return Fields(mapping_of(value, named), named, self.folder)

    def each(self, key: str, named: str | None = None) -> list[Fields]:
        """The objects in the list `key`, called "`named` NUMBER" in errors."""
        entries = self.read(key, list_of)
        names = [f"{named or f'{self.named}: {key}'} {number}" for number in range(len(entries))]
        return [self.inner(entry, name) for entry, name in zip(entries, names, strict=True)]


def _check_of(kind: type[T], called: str) -> Callable[[Any, str], T]:
    """What returns a value of JSON's type `kind`, and raises ValueError for any other."""

    def check(value: Any, named: str) -> T:
        if type(value) is not kind:
            raise ValueError(f"{named}: got {_short(value)}, requires {called}")
        return value

    return check


mapping_of = _check_of(dict, "an object")
list_of = _check_of(list, "a list")
whole_number_of = _check_of(int, "a whole number")
flag_of = _check_of(bool, "true or false")


def text_of(value: Any, named: str) -> str:
    """The value, if it is a text with something in it that files can hold. Raises ValueError otherwise."""
    # JSON may name one surrogate without its other, which UTF-8 cannot hold.
    if not isinstance(value, str) or not value.strip() or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueError(f"{named}: got {_short(value)}, requires a text")
    return value


def pair_of(value: Any, named: str) -> tuple[str, str]:
    """The value, if it is a list of two texts. Raises ValueError otherwise."""
    match list_of(value, named):
        case [one, other]:
            return text_of(one, named), text_of(other, named)
    raise ValueError(f"{named}: got {_short(value)}, requires two texts")


def box_of(value: Any, named: str) -> Box:
    """(x0, y0, x1, y1) with an area, from a list of four numbers. Raises ValueError otherwise."""
    numbers = list_of(value, named)
    if len(numbers) != 4 or not all(_is_number(number) for number in numbers):
        raise ValueError(f"{named}: got {_short(value)}, requires four numbers x0, y0, x1, y1")
    x0, y0, x1, y1 = (float(number) for number in numbers)
    if x0 < 0 or y0 < 0 or x1 <= x0 or y1 <= y0:
        raise ValueError(f"{named}: got {_short(value)}, requires 0 <= x0 < x1 and 0 <= y0 < y1")
    return x0, y0, x1, y1


def runs_of(value: Any, named: str) -> tuple[int, ...]:
    """(start, length, start, length, …), from a list of whole numbers. Raises ValueError otherwise."""
    numbers = list_of(value, named)
    if len(numbers) % 2 or not all(type(number) is int and 0 <= number < _LARGEST for number in numbers):
        raise ValueError(f"{named}: got {_short(value)}, requires pairs of whole numbers: a start and a length")
    return tuple(numbers)


def file_inside(folder: Path, name: Any, named: str) -> Path:
    """The file that a data set calls `name`, relative to its folder, with "/" between folders.

    Raises ValueError for what is no name, for one that leaves the folder (absolute, "..", a drive, a link
    that points elsewhere), and for a file that does not exist.
    """
    text = text_of(name, named)
    windows = PureWindowsPath(text)
    foreign = "\\" in text or "\0" in text or windows.drive or PurePosixPath(text).is_absolute()
    if foreign or ".." in PurePosixPath(text).parts:
        raise ValueError(f"{named}: got {_short(text)}, requires a name relative to the data set's folder")
    path = folder / PurePosixPath(text)
    try:
        resolved, home = path.resolve(strict=True), folder.resolve(strict=True)
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{named}: there is no file {str(path)!r}") from error
    if not resolved.is_relative_to(home):
        raise ValueError(f"{named}: {_short(text)} is a link out of the data set's folder")
    if not resolved.is_file():
        raise ValueError(f"{named}: {str(path)!r} is not a file")
    return path


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON's whole numbers have no end
        return False


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
