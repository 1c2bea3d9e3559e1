"""Progress on stderr: a bar a stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID
    from torch import Tensor

PLAIN_EVERY = 0.25
"""Share of a stage's steps between two plain lines."""


class ConsoleProgress:
    """The progress callback of the command line, and the context that its display lives in."""

    def __init__(self) -> None:
        self._bars: Bars | None = None
        self._tasks: dict[str, TaskID] = {}
        self._printed: dict[str, int] = {}

    def __enter__(self) -> ConsoleProgress:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns: list[Any] = [
                TextColumn("{task.description:12}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
            ]
            self._bars = Progress(*columns, console=Console(stderr=True))
            self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def __call__(self, stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        """Show that `step` of `steps` of a stage is done."""
        if self._bars is not None:
            if stage not in self._tasks:
                self._tasks[stage] = self._bars.add_task(stage, total=steps)
            self._bars.update(self._tasks[stage], completed=step, total=steps)
            return
        quarter = int(step / steps / PLAIN_EVERY)
        if quarter > self._printed.get(stage, 0) or (step == steps and stage not in self._printed):
            self._printed[stage] = quarter
            print(f"{stage} {step}/{steps}", file=sys.stderr, flush=True)
