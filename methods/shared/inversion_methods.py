"""The methods that edit a DDIM inversion: each is a recipe, which `locinv_core.pipeline` runs."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from ...locinv_core.cost import CostTracker
from ...locinv_core.pipeline import EditOptions, EditRequest, check_edit_request, localized_edit
from ...locinv_core.recipe import EditRecipe
from ..types import EditTask, Method, MethodModels, MethodOutcome, Need, on_cpu


def inversion_method(recipe: EditRecipe, label: str, paper: str, needs: tuple[Need, ...] = ("model",)) -> Method:
    """The method that runs a recipe."""
    return Method(recipe.name, label, paper, "frozen", needs, recipe.settings_type, edit_inversion, check, recipe)


def check(models: MethodModels, task: EditTask, settings: EditOptions) -> None:
    """Raise ValueError, before any pass, for what the recipe would refuse."""
    assert models.model is not None
    request = request_of(task, settings, 0)
    check_edit_request(models.model, request, inversion=task.inversion, to_find=task.to_find)


def edit_inversion(
    models: MethodModels, task: EditTask, settings: EditOptions, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """Run `localized_edit`; the seed is DiffEdit's, where its settings have none other, and no one else's."""
    assert models.model is not None
    made = localized_edit(
        models.model,
        request_of(task, settings, seed),
        inversion=task.inversion,
        reconstruct=task.reconstruct,
        tracker=tracker,
    )
    return MethodOutcome(
        on_cpu(made.edited),
        None if made.reconstruction is None else on_cpu(made.reconstruction),
        source_maps=made.edit.source_maps,
        details={"bindings": [list(binding) for binding in made.bindings]},
        localized=made,
    )


def request_of(task: EditTask, options: EditOptions, seed: int) -> EditRequest:
    """The task with these options."""
    chosen: dict[str, Any] = {field.name: getattr(options, field.name) for field in fields(EditOptions)}
    settings = options.edit_settings
    if getattr(settings, "seed", None) == 0:
        settings = replace(settings, seed=seed)
    chosen["settings"] = settings
    return EditRequest(task.image, task.source, task.target, task.prior, task.bindings, **chosen)
