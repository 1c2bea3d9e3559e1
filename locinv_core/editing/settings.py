"""The settings of a Prompt-to-Prompt edit, checked when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..options import (
    ATTRIBUTE_ATTENTION,
    LOCAL_BLENDS,
    TARGET_EMBEDDINGS,
    AttributeAttention,
    LocalBlendMode,
    TargetEmbeddings,
)
from ..setting import HIGHEST_GUIDANCE, check_between, check_whole

HIGHEST_FACTOR = 100.0

Shares = float | tuple[float, float]
"""A share s of the steps stands for (0, s); a pair for (start, end)."""

ALL_WORDS = "default_"
"""In `cross_replace_steps` by word, the name that stands for every word that is not named (P2P's own)."""

DEFAULT_CROSS_REPLACE = 0.8

OLD_NAMES: Mapping[str, str] = {
    "blend": "local_blend",
    "carry": "target_embeddings",
    "in_place": "attribute_attention",
    "cross_replace": "cross_replace_steps",
    "self_replace": "self_replace_steps",
    "reweight": "equalizer",
    "word_ranges": "cross_replace_steps",
}
"""What settings were called before they had Prompt-to-Prompt's names; `with_current_names` reads the old."""


@dataclass(frozen=True)
class EditSettings:
    """How an edit follows its source. A *share* is a part of the T steps, 0 to 1, counted from the noisiest.

    A share s ends before step round(s·T). Words are named as `Prompt.find` takes them, and may stand in any
    of the targets. Raises ValueError for a value out of bounds.
    """

    guidance: float = 7.5
    """Scale of classifier-free guidance of the targets, 0 to 100. At 1 nothing runs unconditionally."""
    cross_replace_steps: Shares | Mapping[str, Shares] = DEFAULT_CROSS_REPLACE
    """Shares in which the targets' cross-attention follows the source's; by target word, if it is a mapping.

    There "default_" stands for all other words; without it they follow for 0.8 of the steps.
    """
    self_replace_steps: float = 0.4
    """Share of the steps in which self-attention is the source's, on grids no finer than the word maps'."""
    equalizer: Mapping[str, float] = field(default_factory=dict)
    """Target word → factor of its attention in every step, −100 to 100 (P2P Reweight)."""
    local_blend: LocalBlendMode = "auto"
    """`auto` blends by the prior if all objects that the edit touches have one, and else not at all."""
    blend_start: float = 0.2
    """Share of the steps that pass before blending."""
    blend_threshold: float = 0.3
    """A cell belongs to a word where the word's map exceeds this part of its maximum, 0 to 1."""
    blend_grow: int = 1
    """By how many cells of the word maps' grid the blended mask grows on every side."""
    target_embeddings: TargetEmbeddings = "original"
    """`original`: none, `tuned`: as they are, `keys`: for attention's keys, with the original's values."""
    attribute_attention: AttributeAttention = "original"
    """`original`: in an attribute edit the optimized word attends inside its object's mask as before it was
    optimized, and elsewhere as optimized; `tuned`: as optimized everywhere. That is so, too, for words without a
    prior and where `target_embeddings` is not `original`."""
    proximal_quantile: float = 0.7
    """Proximal guidance drops the part of the guidance difference below this quantile of its magnitude."""
    proximal_pull: float = 0.1
    """By how much it pulls clean latents to z_0 where the difference was dropped."""
    proximal_until: float = 0.4
    """It pulls at timesteps below this part of the schedule's (400 of 1000)."""
    proximal_grow: int = 1
    """By how many latent cells the region that is not pulled grows on every side."""

    def __post_init__(self) -> None:
        check_between("guidance", self.guidance, 0, HIGHEST_GUIDANCE)
        for name in ("self_replace_steps", "blend_start", "blend_threshold"):
            check_between(name, getattr(self, name), 0, 1)
        for name in ("proximal_quantile", "proximal_pull", "proximal_until"):
            check_between(name, getattr(self, name), 0, 1)
        for name in ("blend_grow", "proximal_grow"):
            check_whole(name, getattr(self, name), 0, " of cells")
        options = {
            "local_blend": LOCAL_BLENDS,
            "target_embeddings": TARGET_EMBEDDINGS,
            "attribute_attention": ATTRIBUTE_ATTENTION,
        }
        for name, known in options.items():
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, requires one of {', '.join(known)}")
        if not isinstance(self.equalizer, Mapping):
            raise ValueError(f"equalizer: got {self.equalizer!r}, requires a factor for each of some words")
        if isinstance(self.cross_replace_steps, Mapping):
            for word, shares in self.cross_replace_steps.items():
                _check_shares(f"cross_replace_steps[{word!r}]", shares)
        else:
            _check_shares("cross_replace_steps", self.cross_replace_steps)
        for word, factor in self.equalizer.items():
            check_between(f"equalizer[{word!r}]", factor, -HIGHEST_FACTOR, HIGHEST_FACTOR)

    @property
    def cross_replace_ranges(self) -> dict[str, tuple[float, float]]:
        """`cross_replace_steps` as (start, end) by word; `ALL_WORDS` is always among them, and first."""
        given = self.cross_replace_steps
        by_word = {ALL_WORDS: DEFAULT_CROSS_REPLACE, **given} if isinstance(given, Mapping) else {ALL_WORDS: given}
        return {word: (s[0], s[1]) if isinstance(s, (tuple, list)) else (0.0, s) for word, s in by_word.items()}


def with_current_names(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of `EditSettings` from choices in which they may have their old names.

    `word_ranges`, (start, end) by target word, joins `cross_replace_steps`. Raises ValueError for a setting
    that is given under both of its names.
    """
    current: dict[str, Any] = {}
    for name, value in choices.items():
        new = OLD_NAMES.get(name, name)
        if name != "word_ranges":
            if new in current:
                raise ValueError(f"{name}: got {value!r}, but {new!r}, which is the same setting, is given, too")
            current[new] = value
    ranges = choices.get("word_ranges", {})
    if not isinstance(ranges, Mapping):
        raise ValueError(f"word_ranges: got {ranges!r}, requires two shares (start, end) for each of some words")
    if ranges:
        common = current.get("cross_replace_steps", DEFAULT_CROSS_REPLACE)
        common = common if isinstance(common, Mapping) else {ALL_WORDS: common}
        current["cross_replace_steps"] = {**common, **ranges}
    return current


def step_of(share: float, steps: int) -> int:
    """The step that a share of `steps` ends before: the nearest whole number to share·steps."""
    return round(share * steps)


def _check_shares(name: str, value: object) -> None:
    """Raise ValueError unless `value` is a share, or a (start, end) of shares."""
    shares: Any = value if isinstance(value, (tuple, list)) and len(value) == 2 else (0.0, value)
    for share in shares:
        check_between(name, share, 0, 1)
    if shares[0] > shares[1]:
        raise ValueError(f"{name}: got {value!r}, requires a start before the end")
