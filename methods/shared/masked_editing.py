"""Editing inside a given mask with a region editor."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ...locinv_core.backbones.base import Backbone
from ...locinv_core.cost import CostTracker
from ...locinv_core.setting import check_settings, guidance_setting, setting, steps_setting
from ...region_core.editors.base import check_strength
from ...region_core.editors.registry import editor_named
from ..types import EditTask, MethodOutcome, on_cpu, prompts_of
from .object_names import edit_mask


@dataclass(frozen=True)
class MaskedSettings:
    """Of an edit inside a mask. Raises ValueError for a value out of bounds."""

    steps: int = steps_setting("DDIM steps. 50 is usual; fewer are faster.")
    strength: float = setting(0.75, "The share of the schedule that is run.")
    guidance: float = guidance_setting()
    negative: str = setting("", "What the edit should not show.")
    composite: bool = setting(False, "Whether the image outside the mask stays as it is, bit for bit.")
    feather: float = setting(2.0, "Pixels over which the composite's seam is softened.")

    def __post_init__(self) -> None:
        check_settings(self)
        check_strength(self.strength)


def edit_masked(
    editor_name: str,
    model: Backbone | None,
    task: EditTask,
    settings: MaskedSettings,
    seed: int,
    tracker: CostTracker,
) -> MethodOutcome:
    """Edit inside the task's mask, towards its target prompt, by the region editor of this name."""
    assert model is not None
    editor = editor_named(editor_name).using(model, **asdict(settings))
    mask = edit_mask(task, *prompts_of(model, task))
    with tracker.stage("edit"):
        edited = editor.edit(task.image, mask[None, None], task.target, seed, tracker=tracker)
    return MethodOutcome(on_cpu(edited), mask=mask, details={"editor": editor.name})
