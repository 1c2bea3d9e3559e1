"""Blended Latent Diffusion (Avrahami et al. 2023) inside a given mask."""

from __future__ import annotations

from ..locinv_core.cost import CostTracker
from .shared.masked_editing import MaskedSettings, edit_masked
from .types import EditTask, Method, MethodModels, MethodOutcome


def edit_task(
    models: MethodModels, task: EditTask, settings: MaskedSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """Blended Latent Diffusion inside the task's mask, towards its target prompt."""
    return edit_masked("blended", models.model, task, settings, seed, tracker)


METHOD = Method(
    "blended",
    "Blended Latent Diffusion",
    "Avrahami et al. 2023",
    "masked",
    ("model", "mask"),
    MaskedSettings,
    edit_task,
)
