"""The answers of a study as JSON lines: each is on disk before the page hears that it is saved."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Final

from ..json_lines import append_line, may_be_torn

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
        self._answers, whole = _parse(path)
        if path.exists() and whole < path.stat().st_size:
            os.truncate(path, whole)

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


def _parse(path: Path) -> tuple[list[Answer], int]:
    """The answers, and the bytes of their lines."""
    if not path.exists():
        return [], 0
    answers: list[Answer] = []
    whole = 0
    content = path.read_bytes()
    for number, line in enumerate(content.splitlines(keepends=True), start=1):
        named = f"line {number} of {str(path)!r}"
        if not line.endswith(b"\n"):
            if not answers and not may_be_torn(line, _HEAD):
                raise ValueError(f"answers: {named} is not an answer")
            break  # torn by a kill: it was never acknowledged
        answers.append(_answer(line, named))
        whole += len(line)
    return answers, whole


def _answer(line: bytes, named: str) -> Answer:
    try:
        answer = Answer(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise ValueError(f"answers: {named} is not an answer") from error
    for field in fields(Answer):
        if type(getattr(answer, field.name)) is not (int if field.name == "place" else str):
            raise ValueError(f"answers: {named} is not an answer")
    return answer
