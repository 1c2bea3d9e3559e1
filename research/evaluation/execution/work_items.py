"""What is to be done, in pieces that any worker can do, and the queue that hands them out.

A piece is an item with the variants of methods to run on it.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..datasets.types import Item

ATTEMPTS = 2
"""How often a task is begun, where each time its worker has died of it, before it is recorded as failed."""


@dataclass(frozen=True)
class Variant:
    """A method with its settings, under the name that tables call it by.

    settings: whatever JSON can hold, all that decides the result beside image, model and seed.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class WorkItem:
    """The variants to run on one item, in turn by one worker, which may share work between them."""

    item: Item
    variants: tuple[Variant, ...]


@dataclass(frozen=True)
class Task:
    """One variant on one item."""

    item: Item
    variant: Variant
    seed: int = 0

    @property
    def key(self) -> tuple[str, str]:
        """(item, method), as the results name it."""
        return self.item.id, self.variant.name


@dataclass(frozen=True)
class Outcome:
    """What a task has led to; the fields are those of a row of the results.

    image: the bytes of a PNG. fe and seconds are the method's by itself, fe_spent and seconds_spent what
    it took here.
    """

    metrics: Mapping[str, float | None] = field(default_factory=dict)
    words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fe: float = 0.0
    fe_spent: float = 0.0
    seconds: float = 0.0
    seconds_spent: float = 0.0
    picture: bytes | None = None
    error: str | None = None


class Performer(Protocol):
    """What does tasks: a model and its metrics, opened. It may keep what the variants of an item share."""

    def fingerprint(self, variant: Variant) -> str:
        """Of the model that the variant edits with."""
        ...

    def __call__(self, task: Task) -> Outcome: ...


class Recipe(Protocol):
    """How a performer is opened: small and picklable, so that every worker can open its own."""

    def open(self) -> Performer:
        """Raises ValueError for whatever is wrong with it, before any work."""
        ...


def attempt(performer: Performer, task: Task) -> Outcome:
    """Do a task; an exception, or a figure that is no finite number, becomes a failed outcome, so that no
    image stops a run."""
    try:
        outcome = performer(task)
        _check_finite(outcome)
        return outcome
    except Exception as error:
        text = " ".join(str(error).split())
        return Outcome(error=f"{type(error).__name__}: {text}" if text else type(error).__name__)


def _check_finite(outcome: Outcome) -> None:
    """Raise ValueError for a figure that JSON has no number for."""
    figures: dict[str, Any] = {f"metric {name}": value for name, value in outcome.metrics.items()}
    for word, own in outcome.words.items():
        figures |= {f"{name} of {word!r}": value for name, value in own.items()}
    for name, value in figures.items():
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{name}: it is {number}, requires a finite number")


def of_tasks(items: Sequence[Item], tasks: Sequence[str] | None) -> tuple[Item, ...]:
    """The items of these tasks or groups of tasks ("attribute", "single-object: cat → fox"); None takes all.

    Raises ValueError for no name, and for one that no item has.
    """
    if tasks is None:
        return tuple(items)
    if not tasks:
        raise ValueError("tasks: got none, requires at least one")
    for name in tasks:
        if not any(name in (item.group, item.task) for item in items):
            groups = ", ".join(dict.fromkeys(item.group for item in items))
            raise ValueError(f"tasks: got {name!r}, and the data set has {groups}")
    return tuple(item for item in items if item.group in tasks or item.task in tasks)


def spread(items: Sequence[Item], limit: int | None) -> tuple[Item, ...]:
    """At most `limit` items, evenly over their tasks, in their order; None takes all.

    Those of a smaller limit are among those of a larger. Raises ValueError for a limit below 1.
    """
    if limit is None:
        return tuple(items)
    if limit < 1:
        raise ValueError(f"limit: got {limit}, requires 1 or more")
    turns: Counter[str] = Counter()
    ranked = []
    for place, item in enumerate(items):
        ranked.append((turns[item.task], place))
        turns[item.task] += 1
    return tuple(items[place] for place in sorted(place for _, place in sorted(ranked)[:limit]))


def digest(item: Item) -> str:
    """16 hex digits that change with the item's texts, places and the content of its files."""
    total = hashlib.sha256()
    texts = (item.source, item.target, item.edited, item.bindings, item.instruction, item.change_runs)
    total.update(repr(texts).encode())
    if item.change_border:
        total.update(b"border")
    for obj in item.objects:
        total.update(repr((obj.word, tuple(map(float, obj.box)), obj.runs)).encode())
    paths = [item.image, item.change, item.target_image, *(obj.mask for obj in item.objects)]
    for path in paths:
        total.update(b"-" if path is None else _content(path))
    return total.hexdigest()[:16]


def _content(path: Path) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


class TaskQueue:
    """Hands tasks to workers, known by any number: one item a worker at a time, its variants in their order.

    Whoever runs the workers tells it when a task is done and when a worker has died.
    """

    def __init__(self, work: Sequence[WorkItem], seed: int = 0) -> None:
        self._waiting = deque(
            deque(Task(piece.item, variant, seed) for variant in piece.variants) for piece in work if piece.variants
        )
        self._held: dict[int, deque[Task]] = {}
        self._deaths: Counter[tuple[str, str]] = Counter()

    @property
    def open(self) -> bool:
        """Whether there is a task that is neither done nor given up."""
        return bool(self._waiting or self._held)

    @property
    def waiting(self) -> int:
        """Items that no worker holds."""
        return len(self._waiting)

    def take(self, worker: int) -> Task | None:
        """The task that the worker is to do now; None where none is left for it."""
        if worker not in self._held:
            if not self._waiting:
                return None
            self._held[worker] = self._waiting.popleft()
        return self._held[worker][0]

    def done(self, worker: int) -> Task:
        """The worker has done its task; returns it."""
        tasks = self._held[worker]
        task = tasks.popleft()
        if not tasks:
            del self._held[worker]
        return task

    def died(self, worker: int) -> Task | None:
        """The worker is gone; what it held is done by another. Returns its task if that is given up."""
        tasks = self._held.pop(worker, None)
        if tasks is None:
            return None
        self._deaths[tasks[0].key] += 1
        given_up = tasks.popleft() if self._deaths[tasks[0].key] >= ATTEMPTS else None
        if tasks:
            self._waiting.appendleft(tasks)
        return given_up
