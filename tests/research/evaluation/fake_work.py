"""Performers that edit nothing: what the machinery around them does is what the tests are about."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from pinpoint.research.evaluation.datasets.types import AnnotatedObject, Item
from pinpoint.research.evaluation.execution.work_items import Outcome, Task, Variant


def items(folder: Path, count: int) -> list[Item]:
    """Items of one red square, their images in `folder`."""
    found = []
    for number in range(count):
        image = folder / f"{number}.png"
        Image.fromarray(np.full((64, 64, 3), number, np.uint8)).save(image)
        obj = AnnotatedObject("square", None, (8.0, 8.0, 24.0, 24.0))
        item = Item(
            id=f"item-{number}",
            image=image,
            source="a red square",
            target="a red circle",
            task="drawn: square → circle",
            objects=(obj,),
            edited=("square",),
        )
        found.append(item)
    return found


def variants(*names: str, **settings: object) -> list[Variant]:
    return [Variant(name, name, {"steps": 4, **settings}) for name in names]


def tasks(folder: Path, count: int, *methods: str) -> list[list[Task]]:
    return [[Task(item, variant) for variant in variants(*methods)] for item in items(folder, count)]


@dataclass(frozen=True)
class FakeRecipe:
    """Writes a line to `log` for each task it begins, then does what the lists of "item method" tell it to.

    slow: wait until it is killed. deadly: kill its own process each time, fatal_once: the first time.
    failing: raise. nan: measure what is no number.
    """

    log: Path
    model: str = "f00d"
    failing: Sequence[str] = ()
    deadly: Sequence[str] = ()
    fatal_once: Sequence[str] = ()
    slow: Sequence[str] = ()
    nan: Sequence[str] = ()
    refuses: str | None = None
    dies_opening: bool = False

    def open(self) -> FakePerformer:
        if self.refuses is not None:
            raise ValueError(self.refuses)
        if self.dies_opening and (self.log.parent / "opened once").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        (self.log.parent / "opened once").touch()
        return FakePerformer(self)


@dataclass(frozen=True)
class FakePerformer:
    recipe: FakeRecipe

    def fingerprint(self, variant: Variant) -> str:
        return self.recipe.model

    def __call__(self, task: Task) -> Outcome:
        name = f"{task.item.id} {task.variant.name}"
        begun_before = name in begun(self.recipe.log)
        with self.recipe.log.open("a", encoding="utf-8") as log:
            log.write(f"{name} {os.getpid()}\n")
        if name in self.recipe.failing:
            raise RuntimeError(f"no {name}\ntoday")
        if name in self.recipe.deadly or (name in self.recipe.fatal_once and not begun_before):
            os.kill(os.getpid(), signal.SIGKILL)
        if name in self.recipe.slow:
            time.sleep(600)
        if name in self.recipe.nan:
            return Outcome({"length": float("nan")}, {"square": {"iou_curve": [0.5, 0.25]}})
        return Outcome({"length": float(len(name))}, {}, 12.0, 8.0, 2.0, 1.0, b"image of " + name.encode())


class ThreadsRecipe:
    """Opens itself, which says how many threads torch has."""

    def open(self) -> ThreadsRecipe:
        return self

    def fingerprint(self, variant: Variant) -> str:
        return "none"

    def __call__(self, task: Task) -> Outcome:
        import torch

        return Outcome({"threads": float(torch.get_num_threads())})


class DevicesRecipe:
    """Opens itself, which says how many GPUs its process may see; 0 where nobody has said."""

    def open(self) -> DevicesRecipe:
        return self

    def fingerprint(self, variant: Variant) -> str:
        return "none"

    def __call__(self, task: Task) -> Outcome:
        names = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        return Outcome({"devices": float(len([name for name in names.split(",") if name]))})


def begun(log: Path) -> list[str]:
    """The tasks that were begun, in order."""
    if not log.exists():
        return []
    return [line.rpartition(" ")[0] for line in log.read_text(encoding="utf-8").splitlines()]


def process_ids(log: Path) -> list[int]:
    """Who began them."""
    return [int(line.rpartition(" ")[2]) for line in log.read_text(encoding="utf-8").splitlines()]


def wait_for(what: str, log: Path, seconds: float = 120.0) -> None:
    """Wait until a task was begun."""
    end = time.monotonic() + seconds
    while what not in begun(log):
        if time.monotonic() > end:
            raise TimeoutError(f"{what} was not begun in {seconds:g} s")
        time.sleep(0.05)


def alive(process: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
