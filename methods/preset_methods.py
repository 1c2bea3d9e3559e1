"""The methods of `locinv_core.presets` behind the signature of all methods, with flat settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

from ..locinv_core.cost import CostTracker
from ..locinv_core.editing.settings import EditSettings, with_current_names
from ..locinv_core.inversion.null_text import NullTextSettings
from ..locinv_core.localization.token_optimizer import TuningSettings
from ..locinv_core.pipeline import EditRequest, localized_edit
from .presets import Method, MethodSettings
from .types import EditTask, MethodModels, MethodOutcome, as_tuple, on_cpu

REQUEST_SETTINGS = (
    *("steps", "tokens", "null", "tuning", "null_text", "interleaved"),
    *("composite", "feather", "composite_grow"),
)
"""What a preset takes beside the fields of its own settings (those of `EditSettings`, say)."""


@dataclass(frozen=True)
class PresetSettings:
    """A preset with all of its choices made."""

    method: Method
    settings: MethodSettings
    steps: int = 50
    tuning: TuningSettings | None = None
    null_text: NullTextSettings | None = None
    interleaved: bool = True
    composite: bool = False
    feather: float = 2.0
    composite_grow: float = 0.0


def preset_settings(method: Method) -> Callable[..., PresetSettings]:
    """What makes the settings of `method` from flat choices: REQUEST_SETTINGS and the method's own fields.

    tuning and null_text are mappings of the fields of `TuningSettings` and `NullTextSettings`.
    """

    def made(**choices: Any) -> PresetSettings:
        if method.settings_type is EditSettings:
            choices = with_current_names(choices)
        own = {field.name for field in fields(method.settings_type)}
        for name in choices:
            if name not in own and name not in REQUEST_SETTINGS:
                has = ", ".join([*sorted(own), *REQUEST_SETTINGS])
                raise ValueError(f"{name}: the method {method.name!r} has no such setting, only {has}")
        chosen = method.with_choices(choices.pop("tokens", None), choices.pop("null", None))
        tuning, null_text = choices.pop("tuning", None), choices.pop("null_text", None)
        request = {name: choices.pop(name) for name in REQUEST_SETTINGS if name in choices}
        return PresetSettings(
            chosen,
            chosen.settings(**{name: as_tuple(value) for name, value in choices.items()}),
            tuning=_tuning(chosen, tuning),
            null_text=_filled(NullTextSettings, "null_text", null_text),
            **request,
        )

    return made


def edit_by_preset(
    models: MethodModels, task: EditTask, settings: PresetSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """Run `localized_edit`; the seed is DiffEdit's, where its settings have none other, and no one else's."""
    assert models.model is not None
    request = EditRequest(
        task.image,
        task.source,
        task.target,
        task.prior,
        method=settings.method,
        bindings=task.bindings,
        steps=settings.steps,
        settings=_seeded(settings.settings, seed),
        tuning=settings.tuning,
        null_text=settings.null_text or NullTextSettings(),
        interleaved=settings.interleaved,
        composite_pixels=settings.composite,
        feather=settings.feather,
        composite_grow=settings.composite_grow,
    )
    made = localized_edit(models.model, request, inversion=task.inversion, tracker=tracker)
    return MethodOutcome(
        on_cpu(made.edited),
        on_cpu(made.reconstruction),
        source_maps=made.edit.source_maps,
        details={"bindings": [list(binding) for binding in made.bindings]},
        localized=made,
        request=request,
    )


def _seeded(settings: MethodSettings, seed: int) -> MethodSettings:
    if getattr(settings, "seed", None) != 0:
        return settings
    values = {field.name: getattr(settings, field.name) for field in fields(settings)}
    return type(settings)(**{**values, "seed": seed})


def _tuning(method: Method, choices: Any) -> TuningSettings | None:
    if choices is None:
        return None
    if method.tokens == "off":
        raise ValueError(f"tuning: the method {method.name!r} tunes no words")
    base = TuningSettings.for_solver(method.tokens)
    defaults = {field.name: getattr(base, field.name) for field in fields(base)}
    return _filled(TuningSettings, "tuning", {**defaults, **_mapping("tuning", choices)})


def _filled(kind: type[Any], name: str, choices: Any) -> Any:
    if choices is None:
        return None
    has = [field.name for field in fields(kind)]
    for key in _mapping(name, choices):
        if key not in has:
            raise ValueError(f"{name}: there is no {key!r}, only {', '.join(has)}")
    return kind(**choices)


def _mapping(name: str, choices: Any) -> dict[str, Any]:
    if not isinstance(choices, dict):
        raise ValueError(f"{name}: got {choices!r}, requires a mapping of its settings")
    return choices
