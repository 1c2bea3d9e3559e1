"""What is to be done: an item edited by a variant of a method, and who does such a task."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..datasets.types import Item


@dataclass(frozen=True)
class Variant:
    """A method with its settings, under the name that tables call it by.

    settings: whatever JSON can hold, all that decides the result beside image, model and seed.
    """

    name: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


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
    image: bytes | None = None
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
        return Outcome(error=" ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":"))


def _check_finite(outcome: Outcome) -> None:
    """Raise ValueError for a figure that JSON has no number for."""
    figures: dict[str, Any] = {f"metric {name}": value for name, value in outcome.metrics.items()}
    for word, own in outcome.words.items():
        figures |= {f"{name} of {word!r}": value for name, value in own.items()}
    for name, value in figures.items():
        for number in value if isinstance(value, (list, tuple)) else (value,):
            if isinstance(number, float) and not math.isfinite(number):
                raise ValueError(f"{name}: it is {number}, requires a finite number")
