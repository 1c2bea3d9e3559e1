"""Progress of work that is many edits: the bar goes with what they have cost, not with the steps of each."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .progress import NodeProgress, NodeRun

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.cost import CostTracker
    from .previews import LatentPreview

_STAGE = "edits"


class MeteredProgress(NodeProgress):
    """The core's progress callback: shows the share of `forecast` NFE that are spent."""

    def __init__(self, forecast: float, preview: LatentPreview | None) -> None:
        super().__init__([_STAGE], preview)
        self._forecast = max(1, round(forecast))
        self.meter: CostTracker | None = None

    def __call__(self, stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        """Raises ComfyUI's InterruptProcessingException if the artist has cancelled."""
        spent = 0 if self.meter is None else min(round(self.meter.total), self._forecast)
        super().__call__(_STAGE, spent, self._forecast, preview_latents)


def metered_run(forecast: float, preview: LatentPreview | None = None) -> NodeRun:
    """The run of a node that is expected to cost `forecast` NFE."""
    progress = MeteredProgress(forecast, preview)
    progress.meter = tracker = NodeRun(progress)
    return tracker
