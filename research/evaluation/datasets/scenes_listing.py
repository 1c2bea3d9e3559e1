"""Data sets from a scenes.json, as `pinpoint scenes` writes it."""

from __future__ import annotations

from pathlib import PurePosixPath

from .fields import Fields, box_of, text_of
from .types import AnnotatedObject, Dataset, Item


def dataset_of_scenes(content: Fields) -> Dataset:
    """The data set; an item's id is its image's name, its task "swap: cat → fox" or "attribute: red → wooden".

    Raises ValueError for a scene that lacks something.
    """
    return Dataset("scenes", tuple(_item(scene) for scene in content.each("scenes", "scene")), content.folder)


def _item(scene: Fields) -> Item:
    image = scene.read("image", scene.file_of)
    edit = scene.read("edit", scene.inner)
    kind, before, after = (edit.read(key, text_of) for key in ("kind", "from", "to"))
    objects = scene.each("objects")
    edited = tuple(obj.read("noun", text_of) for obj in objects if obj.content.get("edited") is True)
    return Item(
        id=PurePosixPath(image.name).stem,
        image=image,
        source=scene.read("source", text_of),
        target=scene.read("target", text_of),
        task=f"{kind}: {before} → {after}",
        objects=tuple(
            AnnotatedObject(obj.read("noun", text_of), obj.read("mask", obj.file_of), obj.read("box", box_of))
            for obj in objects
        ),
        edited=edited,
        target_image=scene.maybe("target_image", scene.file_of),
        bindings=tuple((before, noun) for noun in edited) if kind == "attribute" else (),
    )
