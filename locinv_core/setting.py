"""A field of a settings class: its default, what it means, and its bounds, for checks and for widgets alike."""

from __future__ import annotations

import math
from dataclasses import field, fields
from typing import Any

HIGHEST_GUIDANCE = 100.0
MOST_STEPS = 1000
MOST_SEED = 2**63 - 1
GUIDANCE = "Classifier-free guidance scale: how strongly the edit follows its prompt. 7.5 is usual; 1 is none."


def setting(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    *,
    step: float | None = None,
    widget: tuple[float, float] | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """A dataclass field with metadata `help`, `low`, `high`, `min`, `max`, `step` and `choices`.

    low and high are the bounds of a value; min and max those of a widget, which are the same unless `widget`
    gives others. `check_settings` reads low, high and choices.
    """
    low_shown, high_shown = (low, high) if widget is None else widget
    shown = {"min": low_shown, "max": high_shown, "step": step}
    return field(default=default, metadata={"help": help, "low": low, "high": high, "choices": choices, **shown})


def guidance_setting(default: float = 7.5, help: str = GUIDANCE) -> Any:
    """The field of a guidance scale, 0 to 100."""
    return setting(default, help, 0, HIGHEST_GUIDANCE, step=0.1)


def share_setting(default: float, help: str) -> Any:
    """The field of a share of something, 0 to 1."""
    return setting(default, help, 0, 1, step=0.05)


def steps_setting(help: str) -> Any:
    """The field of a number of steps, 50 by default."""
    return setting(50, help, 1, widget=(1, MOST_STEPS))


def check_settings(settings: Any) -> None:
    """Raise ValueError for a value of a settings object that is outside the bounds or choices of its field.

    Fields are those that `setting` made: whole numbers where the default is one, else numbers. None passes where it
    is the default.
    """
    for part in fields(settings):
        value, low, high = getattr(settings, part.name), part.metadata.get("low"), part.metadata.get("high")
        if value is None and part.default is None:
            continue
        choices = part.metadata.get("choices")
        if choices and value not in choices:
            raise ValueError(f"{part.name}: got {value!r}, requires one of {', '.join(choices)}")
        if isinstance(part.default, int) and not isinstance(part.default, bool) and low is not None:
            check_whole(part.name, value, int(low))
        elif low is not None and high is not None:
            check_between(part.name, value, low, high)


def check_whole(name: str, value: object, least: int, unit: str = "") -> None:
    """Raise ValueError unless `value`, called `name`, is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{name}: got {value!r}, requires a whole number{unit}, {least} or more")


def check_between(name: str, value: object, low: float, high: float) -> None:
    """Raise ValueError unless `value`, called `name`, is a number from `low` to `high`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type, operator]
        raise ValueError(f"{name}: got {value!r}, requires a number from {low:g} to {high:g}")
