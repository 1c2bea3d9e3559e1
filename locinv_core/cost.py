"""Progress and cost: the callback that long work reports through, and the count of UNet passes.

Cost is in NFE-equivalents: a forward pass of one sample is 1, its backward 2; a pass that is stopped early
counts by its share of the multiply-adds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

BACKWARD_COST = 2.0
REPORT_STAGE = "report"


class Progress(Protocol):
    """Called after every step, from 1 to `steps`, with latents (B, C, h, w) to preview or None; it may raise to
    cancel the work."""

    def __call__(self, stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None: ...


@dataclass
class CostTracker:
    """A progress callback, and NFE-equivalents and seconds so far, by the stage's name.

    Passes made only to fill a report belong to the stage `report`, which `total` leaves out.
    """

    progress: Progress | None = None
    forward_equivalents: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    _stages: list[str] = field(default_factory=list)

    @property
    def current(self) -> str:
        """Name of the innermost stage under way; `other` outside every stage."""
        return self._stages[-1] if self._stages else "other"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count passes and seconds under `name` until the block ends; an inner stage's seconds are its own."""
        outer_name = self.current if self._stages else None
        self._stages.append(name)
        self._add(name, 0.0)
        began = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - began
            self._stages.pop()
            self.seconds[name] = self.seconds.get(name, 0.0) + spent
            if outer_name is not None:
                self.seconds[outer_name] = self.seconds.get(outer_name, 0.0) - spent

    def count_forward(self, samples: int, share: float = 1.0) -> None:
        """Add `samples` forward passes, each `share` of a full one."""
        self._add(self.current, samples * share)

    def count_backward(self, samples: int, share: float = 1.0, stage: str | None = None) -> None:
        """Add the backward of `samples` passes that were `share` of a full one."""
        self._add(stage or self.current, BACKWARD_COST * samples * share)

    def report(self, step: int, steps: int, preview_latents: Tensor | None = None) -> None:
        """Call the callback: `step` of `steps` of the current stage is done."""
        if self.progress is not None:
            self.progress(self.current, step, steps, preview_latents)

    @property
    def total(self) -> float:
        """NFE-equivalents of everything but the stage `report`."""
        return sum(cost for stage, cost in self.forward_equivalents.items() if stage != REPORT_STAGE)

    def _add(self, stage: str, cost: float) -> None:
        self.forward_equivalents[stage] = self.forward_equivalents.get(stage, 0.0) + cost
