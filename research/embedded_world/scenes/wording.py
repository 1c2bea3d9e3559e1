"""What the dual encoder learns to tell apart: a scene and an object in it, named rightly and named wrongly.

The wrong texts differ from the right ones in a word or two, as texts do before and after an edit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from .edits import sample_edit
from .spec import SIDE, Box, SceneSpec, caption, sample_scene, with_article

_FORMS = ("{}", "{}", "a photo of {}", "a picture of {}")
_BARE, _NOUN_ONLY = 0.25, 0.25
_TRADED, _MISCOUNTED = 0.2, 0.4
_POOR = 0.3
_SPARED = 0.6  # of an object; what an edit covers less of it is no edit of it
_TEMPLATE_SCENES = 64  # whose templates other wordings take, and whose objects are added

Window = tuple[float, float, float, float]


@dataclass(frozen=True)
class Example:
    """One scene's part of a batch.

    Attributes:
        caption: of the whole scene; altered: with a word of one object wrong, two objects' looks traded, or an
            object left out or added. content, altered_content: what they name, object by object.
        phrase: names one object ("a photo of a red boat"); name: without the frame ("red boat").
        altered_phrase, altered_name: the same for what that object is not.
        window: (x0, y0, x1, y1), a crop that shows the object; poor: one that does not, or hardly.
        obj: names that are true of the object; scene: names that are true of some object in the scene.
    """

    caption: str
    altered: str
    phrase: str
    name: str
    altered_phrase: str
    altered_name: str
    window: Window
    poor: Window
    obj: frozenset[str]
    scene: frozenset[str]
    content: frozenset[str]
    altered_content: frozenset[str]


@lru_cache(maxsize=32768)
def _scene(seed: int) -> SceneSpec:
    return sample_scene(seed)


@lru_cache(maxsize=32768)
def _edited(seed: int) -> SceneSpec:
    return sample_edit(_scene(seed), 0)[1]


def word_scene(seed: int, rng: Generator, *, size: int = SIDE) -> Example:
    """An example from the scene of a training seed; wording, edit and windows come from ``rng``."""
    return _word(_scene(seed), rng, size)


def word_edited(seed: int, rng: Generator, *, size: int = SIDE) -> Example:
    """An example from what the training set "edited" shows: the scene of a training seed after its first edit."""
    return _word(_edited(seed), rng, size)


def botched_places(seed: int, rng: Generator, *, size: int = SIDE) -> tuple[Window, Window]:
    """Where an edit of that scene goes wrong: a square of it, and what of the edited image is shown there.

    Half of the time the same place, which cuts the edited object off; else all of the object, drawn again elsewhere.
    """
    spec = _scene(seed)
    index = sample_edit(spec, 0)[0].index
    before, after = spec.objects[index].box, _edited(seed).objects[index].box
    cut_off = rng.random() < 0.5
    while True:
        if cut_off:
            square = _in_pixels(poor_window(before, rng, size=size))
            kept = _covered(before, square)
            if 0.15 < kept < _SPARED:
                return square, square
        else:
            x, y = rng.uniform(0.1 * size, 0.9 * size, 2)
            square = _in_pixels(_square(x, y, rng.uniform(0.15, 0.6) * size, size))
            if _covered(before, square) < _SPARED:
                return square, _in_pixels(object_window(after, rng, size=size))


def _in_pixels(window: Window) -> Window:
    x0, y0, x1, y1 = (float(round(end)) for end in window)
    return x0, y0, x1, y1


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _both(box: Sequence[float], other: Sequence[float]) -> float:
    """The area that two boxes share."""
    across, down = (min(box[k + 2], other[k + 2]) - max(box[k], other[k]) for k in (0, 1))
    return max(across, 0.0) * max(down, 0.0)


def _covered(box: Sequence[float], window: Window) -> float:
    """The share of a box that a window covers."""
    return _both(box, window) / _area(box)


def _word(spec: SceneSpec, rng: Generator, size: int) -> Example:
    edit, edited = sample_edit(spec, int(rng.integers(2**31)))
    obj = spec.objects[edit.index]
    wrong, fault = edited, rng.random()
    if fault < _MISCOUNTED:
        wrong = _miscounted(spec, rng)
    elif len(spec.objects) > 1 and fault < _MISCOUNTED + _TRADED:
        wrong = _traded(spec)
    right = _reworded(spec, rng)
    noun_only = rng.random() < _NOUN_ONLY
    name = obj.noun if noun_only else obj.phrase
    altered_name = edited.objects[edit.index].noun if noun_only and edit.kind == "swap" else edit.target_phrase
    return Example(
        caption=caption(right, vary=True),
        altered=caption(_reworded(wrong, rng)),
        phrase=_phrase(name, rng),
        name=name,
        altered_phrase=_phrase(altered_name, rng),
        altered_name=altered_name,
        window=object_window(obj.box, rng, size=size),
        poor=poor_window(obj.box, rng, size=size),
        obj=frozenset((obj.phrase, obj.noun)),
        scene=frozenset(text for other in spec.objects for text in (other.phrase, other.noun)),
        content=frozenset(obj.phrase for obj in spec.objects),
        altered_content=frozenset(obj.phrase for obj in wrong.objects),
    )


def _reworded(spec: SceneSpec, rng: Generator) -> SceneSpec:
    """The scene with its objects in another order, and another wording of its caption."""
    order = rng.permutation(len(spec.objects))
    manner = int(rng.integers(2**31))
    return replace(
        spec,
        objects=tuple(spec.objects[k] for k in order),
        template=_scene(manner % _TEMPLATE_SCENES).template,
        seed=manner,
    )


def _traded(spec: SceneSpec) -> SceneSpec:
    """The scene with the looks of its first two objects traded."""
    first, second, *rest = spec.objects
    traded = (
        replace(obj, colour=other.colour, material=other.material) for obj, other in ((first, second), (second, first))
    )
    return replace(spec, objects=(*traded, *rest))


def _miscounted(spec: SceneSpec, rng: Generator) -> SceneSpec:
    """The scene with one of its objects left out, or, where it has one or by chance two, with one added."""
    if len(spec.objects) > 2 or (len(spec.objects) == 2 and rng.random() < 0.5):
        left_out = int(rng.integers(len(spec.objects)))
        return replace(spec, objects=spec.objects[:left_out] + spec.objects[left_out + 1 :])
    here = {obj.noun for obj in spec.objects}
    while True:
        other = _scene(int(rng.integers(_TEMPLATE_SCENES))).objects[0]
        if other.noun not in here:
            return replace(spec, objects=(*spec.objects, other))


def _phrase(name: str, rng: Generator) -> str:
    if rng.random() < _BARE:
        return name
    return _FORMS[int(rng.integers(len(_FORMS)))].format(with_article(name))


def overlap(first: Sequence[float], second: Sequence[float]) -> float:
    """Intersection over union of two boxes (x0, y0, x1, y1)."""
    both = _both(first, second)
    return both / (_area(first) + _area(second) - both)


def _square(x: float, y: float, side: float, size: int) -> Window:
    """A square around (x, y), cut off at the image's edges as proposals are."""
    half = side / 2
    return max(x - half, 0.0), max(y - half, 0.0), min(x + half, float(size)), min(y + half, float(size))


def object_window(box: Box, rng: Generator, *, size: int) -> Window:
    """A square around an object, a little too small to half as large again, a little off its middle."""
    x0, y0, x1, y1 = box
    longest = max(x1 - x0, y1 - y0)
    shift = rng.uniform(-0.1, 0.1, 2) * longest
    side = longest * rng.uniform(0.9, 1.45)
    return _square((x0 + x1) / 2 + shift[0], (y0 + y1) / 2 + shift[1], side, size)


def poor_window(box: Box, rng: Generator, *, size: int) -> Window:
    """A square whose IoU with an object's box is under 0.3: a part, the surroundings, another place."""
    x0, y0, x1, y1 = box
    while True:
        if rng.random() < 0.7:
            x = (x0 + x1) / 2 + rng.uniform(-1, 1) * (x1 - x0)
            y = (y0 + y1) / 2 + rng.uniform(-1, 1) * (y1 - y0)
        else:
            x, y = rng.uniform(0, size, 2)
        window = _square(min(max(x, 4), size - 4), min(max(y, 4), size - 4), rng.uniform(16, 0.9 * size), size)
        if overlap(window, box) < _POOR:
            return window


def true_of_object(examples: Sequence[Example], names: Sequence[str]) -> Tensor:
    """Which names (T,) are true of which examples' objects: (E, T) bool."""
    return torch.tensor([[name in example.obj for name in names] for example in examples])


def true_of_scene(examples: Sequence[Example], names: Sequence[str]) -> Tensor:
    """Which names (T,) are true of some object in which examples' scenes: (E, T) bool."""
    return torch.tensor([[name in example.scene for name in names] for example in examples])


def numpy_generator(rng: torch.Generator) -> Generator:
    """NumPy's random numbers, seeded by the next of torch's."""
    return np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng)))
