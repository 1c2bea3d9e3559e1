"""Edits of a scene whose true outcome is known, because the edited scene can be drawn as well."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from numpy.random import Generator

from .backgrounds import place_phrase
from .spec import COLOURS, NOUNS, SceneObject, SceneSpec, with_article

EditKind = Literal["swap", "attribute"]

_EDIT_STREAM: Final = 3
_OTHER_PATTERN: Final = {"striped": "dotted", "dotted": "striped"}
_TO_WOOD, _TO_PATTERN = 0.3, 0.5
WORDINGS: Final = 4


@dataclass(frozen=True)
class Edit:
    """One word of a scene's caption changed for another.

    Attributes:
        kind: "swap" changes the noun, "attribute" the colour, the material, or the pattern.
        index: which of the scene's objects.
        source_word, target_word: "cat" and "fox", or "red" and "wooden".
        phrase, target_phrase: the object's phrase before and after: "red cat", "red fox".
    """

    kind: EditKind
    index: int
    source_word: str
    target_word: str
    phrase: str
    target_phrase: str

    def wish(self, background: str) -> str:
        """What is to be drawn, in its place and without its company: "a red fox on the beach"."""
        return f"{with_article(self.target_phrase)} {place_phrase(background)}"


def sample_edit(spec: SceneSpec, seed: int, kind: EditKind | None = None) -> tuple[Edit, SceneSpec]:
    """An edit of one object, and the scene after it: everything but that object's look stays.

    The new noun or adjective is none that another object of the scene has.

    The same scene, seed and kind give the same edit; without a kind, either has equal chances.

    Raises:
        ValueError: for a negative seed or an unknown kind.
    """
    if seed < 0:
        raise ValueError(f"seed: got {seed}, requires 0 or more")
    if kind not in (None, "swap", "attribute"):
        raise ValueError(f"kind: got {kind!r}, requires 'swap' or 'attribute'")
    rng = np.random.default_rng((spec.seed, seed, _EDIT_STREAM))
    coin = rng.random() < 0.5
    index = int(rng.integers(len(spec.objects)))
    chosen: EditKind = kind or ("swap" if coin else "attribute")
    before = spec.objects[index]
    if chosen == "swap":
        taken = {obj.noun for obj in spec.objects}
        after = replace(before, noun=str(rng.choice([noun for noun in NOUNS if noun not in taken])))
        words = before.noun, after.noun
    else:
        after = _new_look(before, {obj.adjective for obj in spec.objects}, rng)
        same_colour = before.adjective == after.adjective
        words = (before.material, after.material) if same_colour else (before.adjective, after.adjective)
    edited = replace(spec, objects=tuple(after if k == index else obj for k, obj in enumerate(spec.objects)))
    return Edit(chosen, index, *words, before.phrase, after.phrase), edited


def _new_look(obj: SceneObject, taken: set[str], rng: Generator) -> SceneObject:
    to_wood, to_pattern = rng.random() < _TO_WOOD, rng.random() < _TO_PATTERN
    colour = str(rng.choice([name for name in COLOURS if name not in taken]))
    if obj.material in _OTHER_PATTERN:
        return replace(obj, material=_OTHER_PATTERN[obj.material]) if to_pattern else replace(obj, colour=colour)
    if obj.material == "plain" and to_wood and "wooden" not in taken:
        return replace(obj, colour=None, material="wooden")
    return replace(obj, colour=colour, material="plain")


def instructions(edit: Edit) -> list[str]:
    """The edit as an order, in `WORDINGS` wordings; the first is "turn the red cat into a red fox"."""
    noun, target_noun = (phrase.split()[-1] for phrase in (edit.phrase, edit.target_phrase))
    short = f"turn the {noun} into {with_article(target_noun)}"
    if edit.kind == "attribute":
        short = f"make the {noun} {edit.target_phrase.removesuffix(f' {noun}')}"
    whole = [
        f"{verb} {with_article(edit.target_phrase)}"
        for verb in (f"turn the {edit.phrase} into", f"replace the {edit.phrase} with", f"change the {edit.phrase} to")
    ]
    return [whole[0], short, *whole[1:]]
