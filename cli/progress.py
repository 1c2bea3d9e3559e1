"""Progress on stderr: a bar a stage on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from tqdm import tqdm

PLAIN_EVERY = 0.25
"""Share of a stage's steps between two plain lines."""


class ConsoleProgress:
    """The progress callback of the command line, and the context that its display lives in."""

    def __init__(self) -> None:
        self._on_terminal = False
        self._bars: dict[str, tqdm[None]] = {}
        self._printed: dict[str, int] = {}

    def __enter__(self) -> ConsoleProgress:
        self._on_terminal = sys.stderr.isatty()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for bar in self._bars.values():
            bar.close()

    def __call__(self, stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        """Show that `step` of `steps` of a stage is done."""
        if self._on_terminal:
            from tqdm import tqdm

            if stage not in self._bars:
                self._bars[stage] = tqdm(desc=f"{stage:12}", total=steps, file=sys.stderr, dynamic_ncols=True)
            bar = self._bars[stage]
            bar.total, bar.n = steps, step
            bar.refresh()
            return
        quarter = int(step / steps / PLAIN_EVERY)
        if quarter > self._printed.get(stage, 0) or (step == steps and stage not in self._printed):
            self._printed[stage] = quarter
            print(f"{stage} {step}/{steps}", file=sys.stderr, flush=True)
