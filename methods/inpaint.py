"""Stable Diffusion inpainting (Rombach et al. 2022) inside a given mask: a UNet that reads the mask."""

from __future__ import annotations

from dataclasses import dataclass

from ..locinv_core.cost import CostTracker
from ..locinv_core.setting import setting
from .shared.masked_editing import MaskedSettings, edit_masked
from .types import EditTask, Method, MethodModels, MethodOutcome


@dataclass(frozen=True)
class InpaintSettings(MaskedSettings):
    """Of SD inpainting, which starts from noise. Raises ValueError for a value out of bounds."""

    strength: float = setting(1.0, "The share of the schedule that is run.")
    blend: bool = setting(
        True, "Whether the source's latents are put back outside the mask after every step; diffusers does not."
    )


def edit_task(
    models: MethodModels, task: EditTask, settings: InpaintSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """SD inpainting inside the task's mask, towards its target prompt."""
    return edit_masked("inpaint", models.inpaint, task, settings, seed, tracker)


METHOD = Method(
    "inpaint", "SD inpainting", "Rombach et al. 2022", "masked", ("inpaint", "mask"), InpaintSettings, edit_task
)
