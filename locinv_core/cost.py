"""One run's progress and cost: the callback that long work reports through, and the meter of UNet passes.

A *NFE* (FE) is one full UNet forward pass of one sample; a backward pass counts two more,
and a pass stopped early counts its share of the multiply-adds.
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
    """What long work calls after every step; it may raise to cancel the work.

    `step` counts from 1 to `steps`. `preview_latents` is (B, C, h, w) or None.
    """

    def __call__(self, stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None: ...


@dataclass
class CostTracker:
    """The progress callback of one run, and what the run has cost so far, by stage.

    `forward_equivalents` and `seconds` map a stage's name to its cost. Passes made only to fill a report
    belong to the stage `report`, which `total` leaves out.
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
        """Book passes and seconds under `name` until the block ends; an inner stage's time is its own."""
        outer_name = self.current if self._stages else None
        self._stages.append(name)
        self.forward_equivalents.setdefault(name, 0.0)
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
        """Tell the callback that `step` of `steps` of the current stage is done."""
        if self.progress is not None:
            self.progress(self.current, step, steps, preview_latents)

    @property
    def total(self) -> float:
        """NFE of everything but the stage `report`."""
        return sum(cost for stage, cost in self.forward_equivalents.items() if stage != REPORT_STAGE)

    def _add(self, stage: str, cost: float) -> None:
        self.forward_equivalents[stage] = self.forward_equivalents.get(stage, 0.0) + cost
