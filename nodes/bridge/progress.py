"""A node's progress, previews, cost and cancel, in ComfyUI's terms."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import comfy.model_management
import comfy.utils
from comfy_execution.utils import get_executing_context

from ...locinv_core.cost import CostTracker

if TYPE_CHECKING:
    from torch import Tensor

    from .previews import LatentPreview

_PREVIEW_SECONDS = 0.2
_PREVIEW_SIZE = 512


class NodeProgress:
    """The core's progress callback: moves the node's bar and shows latents as they form.

    The bar covers all `stages` of the node, one after the other or in turns. `steps` is how many each has,
    where they differ.
    """

    def __init__(
        self,
        stages: Sequence[str],
        preview: LatentPreview | None = None,
        steps: Mapping[str, int] | None = None,
    ) -> None:
        self._done = dict.fromkeys(stages, 0)
        self._steps = steps or {}
        self._bar = comfy.utils.ProgressBar(1)
        self._preview = preview
        self._shown_at = -_PREVIEW_SECONDS

    def __call__(self, stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        """Raises ComfyUI's InterruptProcessingException if the user has cancelled."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        if stage not in self._done:
            return
        self._done[stage] = step
        shown = None
        now = time.monotonic()
        if self._preview is not None and preview_latents is not None and now > self._shown_at + _PREVIEW_SECONDS:
            self._shown_at = now
            shown = ("JPEG", self._preview.image(preview_latents), _PREVIEW_SIZE)
        total = sum(self._steps.get(name, steps) for name in self._done)
        self._bar.update_absolute(sum(self._done.values()), total, shown)


class NodeTracker(CostTracker):
    """A cost tracker that a cancel stops before the next UNet pass, also in the middle of a step."""

    def count_forward(self, samples: int, share: float = 1.0) -> None:
        comfy.model_management.throw_exception_if_processing_interrupted()
        super().count_forward(samples, share)

    @property
    def cost(self) -> str:
        """What the work cost."""
        return f"{self.total:.0f} NFE, {sum(self.seconds.values()):.1f} s"

    def show_cost(self) -> None:
        """Write what the work cost under the node."""
        show_text(self.cost)


class _MeteredProgress(NodeProgress):
    """Progress of work that is many edits: the share of `forecast` NFE that are spent, not the steps of each edit."""

    def __init__(self, forecast: float, preview: LatentPreview | None) -> None:
        super().__init__(["edits"], preview)
        self._forecast = max(1, round(forecast))
        self.meter: CostTracker | None = None

    def __call__(self, stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        spent = 0 if self.meter is None else min(round(self.meter.total), self._forecast)
        super().__call__("edits", spent, self._forecast, preview_latents)


def node_tracker(
    *stages: str, preview: LatentPreview | None = None, steps: Mapping[str, int] | None = None
) -> NodeTracker:
    """The tracker of a node that goes through these stages; `steps` is how many each has, where they differ."""
    return NodeTracker(NodeProgress(stages, preview, steps))


def metered_tracker(forecast: float, preview: LatentPreview | None = None) -> NodeTracker:
    """The tracker of a node that is expected to cost `forecast` NFE."""
    progress = _MeteredProgress(forecast, preview)
    progress.meter = tracker = NodeTracker(progress)
    return tracker


def show_text(text: str) -> None:
    """Write a line under the node that is being run."""
    from server import PromptServer

    context = get_executing_context()
    server = getattr(PromptServer, "instance", None)
    if context is not None and server is not None and hasattr(server, "send_progress_text"):
        server.send_progress_text(text, context.node_id, server.client_id)
