"""Settings of methods from flat choices by name, as JSON and the command line have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ...locinv_core.editing.settings import EditSettings, with_current_names
from ...locinv_core.inversion.null_text import NullTextSettings
from ...locinv_core.localization.token_optimizer import TuningSettings
from ...locinv_core.pipeline import EditOptions
from ...locinv_core.recipe import EditRecipe

REQUEST_SETTINGS = (
    *("steps", "tokens", "null", "tuning", "null_text", "interleaved"),
    *("composite", "feather", "composite_grow"),
)
"""What a recipe takes beside the fields of its own settings (those of `EditSettings`, say)."""


def made_settings(kind: type[Any], name: str, choices: Mapping[str, Any]) -> Any:
    """`kind(**choices)`, a list (JSON's) for a tuple. Raises ValueError for a field that the method `name` lacks."""
    has = list(kind.__dataclass_fields__)
    for choice in choices:
        if choice not in has:
            raise ValueError(f"{choice}: the method {name!r} has no such setting, only {', '.join(has)}")
    return kind(**{key: as_tuple(value) for key, value in choices.items()})


def edit_options(recipe: EditRecipe, choices: Mapping[str, Any]) -> EditOptions:
    """A recipe with all choices made: those of REQUEST_SETTINGS and the fields of its own settings.

    tuning and null_text are mappings of the fields of `TuningSettings` and `NullTextSettings`.
    """
    if recipe.settings_type is EditSettings:
        choices = with_current_names(choices)
    own = {field.name for field in fields(recipe.settings_type)}
    for name in choices:
        if name not in own and name not in REQUEST_SETTINGS:
            has = ", ".join([*sorted(own), *REQUEST_SETTINGS])
            raise ValueError(f"{name}: the method {recipe.name!r} has no such setting, only {has}")
    recipe = recipe.with_choices(choices.get("tokens"), choices.get("null"))
    request = {name: choices[name] for name in REQUEST_SETTINGS if name in choices and name not in ("tokens", "null")}
    tuning, null_text = request.pop("tuning", None), request.pop("null_text", None)
    if tuning is not None:
        request["tuning"] = _tuning(recipe, tuning)
    if null_text is not None:
        request["null_text"] = _filled(NullTextSettings, "null_text", null_text)
    settings = recipe.settings(**{name: as_tuple(choices[name]) for name in choices if name in own})
    return EditOptions(recipe=recipe, settings=settings, **request)


def as_tuple(value: Any) -> Any:
    """A list as a tuple, all the way down; anything else as it is."""
    return tuple(as_tuple(part) for part in value) if isinstance(value, list) else value


def _tuning(recipe: EditRecipe, choices: Any) -> TuningSettings:
    if recipe.tokens == "off":
        raise ValueError(f"tuning: the method {recipe.name!r} optimizes no tokens")
    made: TuningSettings = _filled(TuningSettings, "tuning", choices, TuningSettings.for_solver(recipe.tokens))
    return made


def _filled(kind: type[Any], name: str, choices: Any, base: Any = None) -> Any:
    """`kind` with these choices of its fields, and the others as `base` has them."""
    if not isinstance(choices, dict):
        raise ValueError(f"{name}: got {choices!r}, requires a mapping of its settings")
    has = [field.name for field in fields(kind)]
    for key in choices:
        if key not in has:
            raise ValueError(f"{name}: there is no {key!r}, only {', '.join(has)}")
    return kind(**{**({} if base is None else vars(base)), **choices})
