"""The answers of a study as JSON lines: each is on disk before the page hears that it is saved."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from ..json_lines import append_line, end_whole, read_lines

LARGEST_FILE: Final = 64 * 2**20
"""Bytes; more than a hundred thousand answers."""
_HEAD: Final = b'{"study": "'
"""What an answer begins with."""


@dataclass(frozen=True)
class Answer:
    """One choice. study: its fingerprint. question: "quality" or "background". method: the one chosen.
    place: the number of its image on the page, from 0. time: ISO 8601, UTC."""

    study: str
    participant: str
    item: str
    question: str
    method: str
    place: int
    time: str


class AnswersFile:
    """The answers of a site, in memory and on disk. `append` may be called by several threads."""

    def __init__(self, path: Path) -> None:
        """Read what is there; half a line at the end is cut off. Raises ValueError for a foreign file."""
        self.path = path
        self._lock = threading.Lock()
        self._answers, content, whole = _parse(path)
        if content:
            with path.open("ab") as file:
                end_whole(file.fileno(), content, whole)

    @property
    def answers(self) -> list[Answer]:
        """All that were given, oldest first."""
        with self._lock:
            return list(self._answers)

    def append(self, answer: Answer) -> None:
        """Put an answer on disk. Raises OSError when it cannot be, as in a file that has grown too large."""
        line = json.dumps(asdict(answer), ensure_ascii=False).encode() + b"\n"
        with self._lock:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                if os.fstat(descriptor).st_size + len(line) > LARGEST_FILE:
                    raise OSError(f"{self.path} is full")
                append_line(descriptor, line)
            finally:
                os.close(descriptor)
            self._answers.append(answer)


def read_answers(path: Path) -> list[Answer]:
    """The answers of a file, oldest first; none where there is no file. ValueError for a foreign one."""
    return _parse(path)[0]


def latest(answers: list[Answer]) -> list[Answer]:
    """Of several answers of one participant to one question on one item, the last."""
    return list({(a.study, a.participant, a.item, a.question): a for a in answers}.values())


def _parse(path: Path) -> tuple[list[Answer], bytes, int]:
    """The answers, the file's content, and the bytes of its whole lines."""
    content = path.read_bytes() if path.exists() else b""
    answers, whole = read_lines(content, path, _answer, _HEAD, ("answers", "an answer"))
    return answers, content, whole


def _answer(line: bytes) -> Answer | None:
    try:
        answer = Answer(**json.loads(line))
    except (ValueError, TypeError):
        return None
    types = {field.name: int if field.name == "place" else str for field in fields(Answer)}
    return answer if all(type(getattr(answer, name)) is kind for name, kind in types.items()) else None
