"""Data sets from a scenes.json, as `pinpoint scenes` writes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from .dataset import Dataset, Item, Place
from .fields import box_of, file_inside, list_of, mapping_of, text_of


def dataset_of_scenes(content: Mapping[str, Any], file: Path) -> Dataset:
    """The data set of a scenes.json that was read from `file`.

    An item's id is its image's name, its task "swap: cat → fox" or "attribute: red → wooden"; the edit may
    show in the edited object's mask. Raises ValueError for a scene that lacks something.
    """
    scenes = list_of(content["scenes"], f"dataset {str(file)!r}: scenes")
    items = [
        _item(mapping_of(scene, f"scene {number}"), file.parent, f"scene {number}")
        for number, scene in enumerate(scenes)
    ]
    return Dataset("scenes", tuple(items), file.parent)


def _item(scene: Mapping[str, Any], folder: Path, named: str) -> Item:
    image = file_inside(folder, scene.get("image"), f"{named}: image")
    truth = scene.get("target_image")
    edit = mapping_of(scene.get("edit"), f"{named}: edit")
    kind, before, after = (text_of(edit.get(key), f"{named}: {key} of edit") for key in ("kind", "from", "to"))
    objects = [mapping_of(obj, f"{named}: object") for obj in list_of(scene.get("objects"), f"{named}: objects")]
    edited = tuple(text_of(obj.get("noun"), f"{named}: noun") for obj in objects if obj.get("edited") is True)
    return Item(
        id=PurePosixPath(image.name).stem,
        image=image,
        source=text_of(scene.get("source"), f"{named}: source"),
        target=text_of(scene.get("target"), f"{named}: target"),
        task=f"{kind}: {before} → {after}",
        places=tuple(_place(obj, folder, named) for obj in objects),
        edited=edited,
        change=None,
        target_image=None if truth is None else file_inside(folder, truth, f"{named}: target_image"),
        bindings=tuple((before, noun) for noun in edited) if kind == "attribute" else (),
    )


def _place(obj: Mapping[str, Any], folder: Path, named: str) -> Place:
    noun = text_of(obj.get("noun"), f"{named}: noun")
    return Place(
        noun,
        file_inside(folder, obj.get("mask"), f"{named}: mask of {noun!r}"),
        box_of(obj.get("box"), f"{named}: box of {noun!r}"),
    )
