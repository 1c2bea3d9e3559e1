"""Scenes of the embedded world: what is where, and how to say it.

A scene follows from its seed alone: training's are ``TRAINING_SEEDS``, all that is measured or shown is from
``HELD_OUT_SEED`` upwards.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.random import Generator

from .backgrounds import BACKGROUNDS, GROUND, place_phrase
from .materials import COLOURS, MATERIALS
from .shapes import NOUNS

__all__ = ["BACKGROUNDS", "COLOURS", "HELD_OUT_SEED", "MATERIALS", "NOUNS", "TRAINING_SEEDS", "Box", "SceneObject",
           "SceneSpec", "caption", "sample_scene"]  # fmt: skip

Box = tuple[int, int, int, int]

TRAINING_SEEDS: Final[range] = range(1_000_000)
HELD_OUT_SEED: Final[int] = 10_000_000

SIDE: Final[int] = 128  # boxes are in pixels of an image this wide
_GAP = 3
_SIDES = {1: (46, 62), 2: (42, 57), 3: (38, 45)}
_COUNTS = (0.45, 0.43, 0.12)
_MATERIAL_SHARES = (0.58, 0.14, 0.14, 0.14)
_TEMPLATES = ("{objects} {place}", "a photo of {objects} {place}", "a picture of {objects} {place}",
              "{place}, {objects}")  # fmt: skip
_TEMPLATE_SHARES = (0.5, 0.2, 0.2, 0.1)
_NO_ADJECTIVES, _NO_PLACE = 0.12, 0.10
_LAYOUT_STREAM, _CAPTION_STREAM = 0, 2


@dataclass(frozen=True)
class SceneObject:
    """An object in a scene.

    Attributes:
        noun, material: one of ``NOUNS`` and of ``MATERIALS``. colour: of ``COLOURS``, ``None`` for wood.
        box: (x0, y0, x1, y1) that it is drawn in, in pixels of an image 128 wide, x1 and y1 exclusive.
        mirrored: drawn facing the other way.
    """

    noun: str
    colour: str | None
    material: str
    box: Box
    mirrored: bool = False

    @property
    def adjective(self) -> str:
        """The word for its look: the colour, or "wooden"."""
        return "wooden" if self.colour is None else self.colour

    @property
    def phrase(self) -> str:
        """How a caption names it, without the article: "red cat", "striped red cat", "wooden cat"."""
        pattern = f"{self.material} " if self.material in ("striped", "dotted") else ""
        return f"{pattern}{self.adjective} {self.noun}"


@dataclass(frozen=True)
class SceneSpec:
    """A scene: its objects in the order of the caption, its place, the seed, and the caption's template."""

    objects: tuple[SceneObject, ...]
    background: str
    seed: int
    template: int = 0


def _boxes(rng: Generator, count: int) -> list[Box]:
    """Places for ``count`` objects that touch neither each other nor the image's edge."""
    least, most = _SIDES[count]
    floor = round(SIDE * GROUND)
    while True:
        boxes: list[Box] = []
        for _ in range(count):
            width = int(rng.integers(least, most + 1))
            height = int(np.clip(round(width * rng.uniform(0.93, 1.07)), 38, 62))
            x0 = int(rng.integers(2, SIDE - 2 - width + 1))
            y1 = int(rng.integers(max(floor, height + 3), SIDE - 4 + 1))
            boxes.append((x0, y1 - height, x0 + width, y1))
        if all(_apart(first, second) for i, first in enumerate(boxes) for second in boxes[:i]):
            return boxes


def _apart(first: Box, second: Box) -> bool:
    return any(one[k + 2] + _GAP <= other[k] for one, other in ((first, second), (second, first)) for k in (0, 1))


def sample_scene(seed: int, *, objects: int | None = None) -> SceneSpec:
    """The scene of a seed: objects with different nouns and different adjectives.

    ``objects``: how many; by default 45 % of the scenes have one, 43 % two, 12 % three.

    Raises:
        ValueError: for a negative seed, or a number of objects that is not 1, 2 or 3.
    """
    if seed < 0:
        raise ValueError(f"seed: got {seed}, requires 0 or more")
    if objects not in (None, 1, 2, 3):
        raise ValueError(f"objects: got {objects}, requires 1, 2 or 3")
    rng = np.random.default_rng((seed, _LAYOUT_STREAM))
    drawn = int(rng.choice((1, 2, 3), p=_COUNTS))
    count = drawn if objects is None else objects
    background = BACKGROUNDS[rng.integers(len(BACKGROUNDS))]
    template = int(rng.choice(len(_TEMPLATES), p=_TEMPLATE_SHARES))
    nouns = rng.permutation(len(NOUNS))[:count]
    colours = rng.permutation(len(COLOURS))[:count]
    chosen: list[SceneObject] = []
    for noun, colour, box in zip(nouns, colours, _boxes(rng, count), strict=True):
        material = str(rng.choice(MATERIALS, p=_MATERIAL_SHARES))
        if material == "wooden" and any(other.material == "wooden" for other in chosen):
            material = "plain"
        shade = None if material == "wooden" else COLOURS[colour]
        chosen.append(SceneObject(NOUNS[noun], shade, material, box, bool(rng.random() < 0.5)))
    return SceneSpec(tuple(chosen), background, seed, template)


def with_article(phrase: str) -> str:
    """The phrase with "a" or "an" before it."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"


def _listed(phrases: list[str]) -> str:
    named = [with_article(phrase) for phrase in phrases]
    return named[0] if len(named) == 1 else f"{', '.join(named[:-1])} and {named[-1]}"


def caption(spec: SceneSpec, *, vary: bool = False) -> str:
    """The scene in plain English: "a red cat and a wooden house on the beach".

    ``vary``, for training: by the scene's seed, 12 % of the captions lack the adjectives, 10 % the place.
    """
    adjectives = place = True
    if vary:
        chance = np.random.default_rng((spec.seed, _CAPTION_STREAM)).random(2)
        adjectives, place = bool(chance[0] >= _NO_ADJECTIVES), bool(chance[1] >= _NO_PLACE)
    named = _listed([obj.phrase if adjectives else obj.noun for obj in spec.objects])
    text = _TEMPLATES[spec.template].format(objects=named, place=place_phrase(spec.background) if place else "")
    return text.strip(" ,")
