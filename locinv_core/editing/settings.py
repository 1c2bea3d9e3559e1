"""The settings of a Prompt-to-Prompt edit, checked when they are made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

Blend = Literal["auto", "off", "prior", "prior+map", "map"]
"""Where a target may differ from the source (see `local_blend`)."""

Carry = Literal["original", "tuned", "keys"]
"""What a target prompt takes of the tuned vectors of the words that it shares with the source."""

InPlace = Literal["original", "tuned"]
"""How the word of an object that changes its look alone attends in its own place."""

BLENDS: tuple[str, ...] = get_args(Blend)
CARRIES: tuple[str, ...] = get_args(Carry)
IN_PLACE: tuple[str, ...] = get_args(InPlace)
HIGHEST_GUIDANCE = 100.0
HIGHEST_FACTOR = 100.0


@dataclass(frozen=True)
class EditSettings:
    """How an edit follows its source. A *share* is a part of the T steps, 0 to 1, counted from the noisiest.

    A share s ends before step round(s·T). Words are named as `Prompt.find` takes them, and may stand in any
    of the targets. Raises ValueError for a value out of bounds.
    """

    guidance: float = 7.5
    """Scale of classifier-free guidance of the targets, 0 to 100. At 1 nothing runs unconditionally."""
    cross_replace_steps: float = 0.8
    """Share of the steps in which the targets' cross-attention follows the source's."""
    word_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Target word → (start, end): the shares between which it follows, in place of (0, cross_replace)."""
    self_replace_steps: float = 0.4
    """Share of the steps in which self-attention is the source's, on grids no finer than the word maps'."""
    equalizer: Mapping[str, float] = field(default_factory=dict)
    """Target word → factor of its attention in every step, −100 to 100 (P2P Reweight)."""
    blend: Blend = "auto"
    """`auto` blends by the prior if all objects that the edit touches have one, and else not at all."""
    blend_start: float = 0.2
    """Share of the steps that pass before blending."""
    blend_threshold: float = 0.3
    """A cell belongs to a word where the word's map exceeds this part of its maximum, 0 to 1."""
    blend_grow: int = 1
    """By how many cells of the word maps' grid a blended place grows on every side."""
    carry: Carry = "original"
    """`original`: none, `tuned`: as they are, `keys`: for attention's keys, with the original's values."""
    in_place: InPlace = "original"
    """`original`: the tuned word of an object that the target keeps but for its look attends in its place as
    before it was tuned, and elsewhere as tuned; `tuned`: as tuned everywhere. That is so, too, for words
    without a place in the prior and where the target carries tuned vectors."""
    proximal_quantile: float = 0.7
    """Proximal guidance drops the part of the guidance difference below this quantile of its magnitude."""
    proximal_pull: float = 0.1
    """By how much it pulls clean latents to z_0 where the difference was dropped."""
    proximal_until: float = 0.4
    """It pulls at timesteps below this part of the schedule's (400 of 1000)."""
    proximal_grow: int = 1
    """By how many latent cells the place that is not pulled grows on every side."""

    def __post_init__(self) -> None:
        check_between("guidance", self.guidance, 0, HIGHEST_GUIDANCE)
        for name in ("cross_replace_steps", "self_replace_steps", "blend_start", "blend_threshold"):
            check_between(name, getattr(self, name), 0, 1)
        for name in ("proximal_quantile", "proximal_pull", "proximal_until"):
            check_between(name, getattr(self, name), 0, 1)
        for name in ("blend_grow", "proximal_grow"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise ValueError(f"{name}: got {value!r}, requires a whole number of cells, 0 or more")
        if self.blend not in BLENDS:
            raise ValueError(f"blend: got {self.blend!r}, requires one of {', '.join(BLENDS)}")
        if self.carry not in CARRIES:
            raise ValueError(f"carry: got {self.carry!r}, requires one of {', '.join(CARRIES)}")
        if self.in_place not in IN_PLACE:
            raise ValueError(f"in_place: got {self.in_place!r}, requires one of {', '.join(IN_PLACE)}")
        for name in ("word_ranges", "equalizer"):
            if not isinstance(getattr(self, name), Mapping):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, requires a value for each of some words")
        for word, bounds in self.word_ranges.items():
            if not isinstance(bounds, (tuple, list)) or len(bounds) != 2:
                raise ValueError(f"word_ranges[{word!r}]: got {bounds!r}, requires two shares (start, end)")
            for bound in bounds:
                check_between(f"word_ranges[{word!r}]", bound, 0, 1)
            if bounds[0] > bounds[1]:
                raise ValueError(f"word_ranges[{word!r}]: got {bounds!r}, requires a start before the end")
        for word, factor in self.equalizer.items():
            check_between(f"equalizer[{word!r}]", factor, -HIGHEST_FACTOR, HIGHEST_FACTOR)


def step_of(share: float, steps: int) -> int:
    """The step that a share of `steps` ends before: the nearest whole number to share·steps."""
    return round(share * steps)


def check_between(name: str, value: object, low: float, high: float) -> None:
    """Raise ValueError unless `value`, called `name`, is a number from `low` to `high`."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or not low <= value <= high:  # type: ignore[arg-type, operator]
        raise ValueError(f"{name}: got {value!r}, requires a number from {low:g} to {high:g}")
