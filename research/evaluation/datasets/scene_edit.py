"""Scene-Edit: the counterpart of COCO-Edit (LocInv, Table 3) in the embedded world, where every image comes
with exact masks and with its true edited image; and edits of attributes, for which there are no pairs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from ....locinv_core.imaging.io import save_png
from ...embedded_world.scenes.render import render
from ...embedded_world.scenes.spec import (
    COLOURS,
    HELD_OUT_SEED,
    MATERIALS,
    SceneObject,
    SceneSpec,
    caption,
    sample_scene,
)
from .masks import box_of_mask
from .search_prompts import SearchPrompt, in_rounds, table
from .types import AnnotatedObject, Dataset, Item

FIRST_SCENE: Final = 100_000
"""Held-out scenes below are those on which settings were chosen."""
ATTRIBUTE_COUNT: Final = 20
_CAST_STREAM: Final = 4

SWAPS: Final = table(
    """
    single-object   balloon: balloon → heart             25
    single-object   fox: fox → cat                       22
    single-object   boat: boat → car                     17
    single-object   cat: cat → rabbit                    22
    single-object   tree: tree → mushroom                46
    single-object   star: star → heart                   37
    single-object   bird: bird → fish                    45
    multi-object    apple, cup: apple → heart             2
    multi-object    house, cat: cat → fox                31
    multi-object    cat, rabbit: rabbit → fox            37
    multi-object    fox, balloon: fox → cat              25
    multi-object    flower, tree: flower → mushroom       2
    multi-object    boat, rabbit, tree: rabbit → cat      4
    """
)
"""Each stands for the row of Table 3 of the same number, and has that row's count."""

ATTRIBUTES: Final = table(
    """
    attribute   car: red → blue                     -
    attribute   house: white → wooden               -
    attribute   fish: striped → dotted              -
    attribute   apple, cup: green → red             -
    attribute   flower, rabbit: yellow → purple     -
    attribute   boat, bird: wooden → pink           -
    """
)
"""The first noun is the one whose look changes."""

SCENE_EDIT: Final = (*SWAPS, *ATTRIBUTES)


def build_scene_edit(
    folder: Path, *, count: int | None = None, seed: int = 0, size: int = 128
) -> tuple[Dataset, dict[SearchPrompt, int]]:
    """Draw the images, masks and true edited images into `folder`, and return the data set and counts.

    Every item is a held-out scene of its own with the search prompt's objects; the rest follows from its seed.
    The items go round by round through the prompts, so that the first N of them are of every kind.

    folder: exists, empty. count: images a prompt; None takes the paper's counts, and 20 for attributes.
    seed: another draw, at least 0. size: side of the images, a multiple of 8, at least 64.
    Raises ValueError for an argument out of its range, before anything is written.
    """
    if count is not None and count < 1:
        raise ValueError(f"count: got {count}, requires 1 or more")
    if seed < 0:
        raise ValueError(f"seed: got {seed}, requires 0 or more")
    if size < 64 or size % 8:
        raise ValueError(f"size: got {size}, requires a multiple of 8, at least 64")
    counts = {prompt: count or prompt.paper_count or ATTRIBUTE_COUNT for prompt in SCENE_EDIT}
    for name in ("images", "masks", "changes", "edited"):
        (folder / name).mkdir()
    first = HELD_OUT_SEED + FIRST_SCENE * (seed + 1)
    rounds = in_rounds([[(prompt, number) for number in range(most)] for prompt, most in counts.items()])
    items = [
        _write(folder, prompt, f"{prompt.slug}-{number:03d}", size, *_cast(prompt, first + serial))
        for serial, (prompt, number) in enumerate(rounds)
    ]
    return Dataset("Scene-Edit", tuple(items), folder), counts


def _cast(prompt: SearchPrompt, seed: int) -> tuple[SceneSpec, SceneSpec, int]:
    """A held-out seed's scene of the prompt's objects, in an order that the seed gives, before and after its edit, and
    the number of the object that the edit changes."""
    rng = np.random.default_rng((seed, _CAST_STREAM))
    scene = sample_scene(seed, objects=len(prompt.nouns))
    nouns = [prompt.nouns[number] for number in rng.permutation(len(prompt.nouns))]
    objects = [replace(obj, noun=noun) for obj, noun in zip(scene.objects, nouns, strict=True)]
    if prompt.group == "attribute":
        index = nouns.index(prompt.nouns[0])
        objects, changed = _dressed(objects, index, prompt, rng)
    else:
        index = nouns.index(prompt.edited)
        changed = replace(objects[index], noun=prompt.becomes)
    before = replace(scene, objects=tuple(objects))
    after = replace(before, objects=(*objects[:index], changed, *objects[index + 1 :]))
    return before, after, index


def _dressed(
    objects: list[SceneObject], index: int, prompt: SearchPrompt, rng: Generator
) -> tuple[list[SceneObject], SceneObject]:
    """The objects with the look that the prompt asks for on object `index` and on no other, and that object
    after the edit."""
    looks = (prompt.edited, prompt.becomes)
    own, *spare = (str(name) for name in rng.permutation([name for name in COLOURS if name not in looks]))
    taken = (*looks, own)
    dressed = [
        _with_look(obj, spare.pop(), own) if number != index and obj.adjective in taken else obj
        for number, obj in enumerate(objects)
    ]
    dressed[index] = _with_look(objects[index], prompt.edited, own)
    return dressed, _with_look(dressed[index], prompt.becomes, own)


def _with_look(obj: SceneObject, look: str, own: str) -> SceneObject:
    """The object in a colour, in wood, or in a pattern of its `own` colour."""
    if look == "wooden":
        return replace(obj, colour=None, material=look)
    if look in MATERIALS:
        return replace(obj, colour=own, material=look)
    return replace(obj, colour=look, material="plain")


def _write(
    folder: Path, prompt: SearchPrompt, id: str, size: int, before: SceneSpec, after: SceneSpec, index: int
) -> Item:
    image, masks = render(before, size)
    truth, masks_after = render(after, size)
    nouns = [obj.noun for obj in before.objects]
    objects = (
        AnnotatedObject(noun, _save(mask, folder / "masks" / f"{id}_{noun}.png"), box_of_mask(mask))
        for noun, mask in zip(nouns, masks, strict=True)
    )
    noun = nouns[index]
    return Item(
        id=id,
        image=save_png(image, folder / "images" / f"{id}.png"),
        source=caption(before),
        target=caption(after),
        task=prompt.task,
        objects=tuple(objects),
        edited=(noun,),
        change=_save(masks[index] | masks_after[index], folder / "changes" / f"{id}.png"),
        target_image=save_png(truth, folder / "edited" / f"{id}.png"),
        bindings=((prompt.edited, noun),) if prompt.group == "attribute" else (),
        instruction=prompt.instruction,
    )


def _save(mask: NDArray[np.bool_], path: Path) -> Path:
    return save_png(mask.astype(np.uint8) * np.uint8(255), path)
