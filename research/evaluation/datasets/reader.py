"""Data sets on disk: dataset.json is read and written, other listings are handed to their own readers."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Final

from ....locinv_core.imaging.io import written_whole
from .fields import Fields, box_of, file_inside, flag_of, list_of, mapping_of, pair_of, read_json, runs_of, text_of
from .pie_bench import dataset_of_mapping
from .scenes_listing import dataset_of_scenes
from .types import AnnotatedObject, Dataset, Item

FORMAT: Final = "pinpoint-dataset"
VERSION: Final = 1
FILE_NAME: Final = "dataset.json"
NOTE_NAME: Final = "dataset.txt"
_KEYS: Final = {"objects": "places"}
_OMITTED: Final = ("runs", "change_runs", "change_border")
"""Fields that are written only where they say something."""


def read_dataset(path: Path) -> Dataset:
    """Read a data set: a folder, or the file that lists it.

    The file is dataset.json, a scenes.json of `pinpoint scenes`, or PIE-Bench's mapping_file.json with its
    images in annotation_images beside it; a folder is one that holds one of these. No file that it names
    may lie outside its folder. Raises ValueError for anything else, naming what is wrong.
    """
    file = _listing(path)
    named = f"dataset {str(file)!r}"
    content = Fields(mapping_of(read_json(file), named), named, file.parent)
    if "format" in content.content:
        return _from_listing(content)
    return dataset_of_scenes(content) if "scenes" in content.content else dataset_of_mapping(content)


def write_dataset(dataset: Dataset, folder: Path) -> Path:
    """Write dataset.json into `folder`, which holds its files already, atomically, and return its path.

    Raises ValueError for a file that lies elsewhere.
    """
    items = [_entry(item, folder) for item in dataset.items]
    content = {"format": FORMAT, "version": VERSION, "name": dataset.name, "items": items}
    path = folder / FILE_NAME
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def note_dataset(path: Path, folder: Path) -> None:
    """Say in a run's folder which data set it was on, for `noted_dataset` to find."""
    with written_whole(folder / NOTE_NAME) as unfinished:
        unfinished.write_text(f"{path.absolute()}\n", encoding="utf-8")


def noted_dataset(folder: Path) -> Path:
    """The data set in a run's folder, or where its note says that it is. Raises ValueError where neither is."""
    if (folder / FILE_NAME).is_file():
        return folder
    note = folder / NOTE_NAME
    if not note.is_file():
        raise ValueError(f"dataset: {str(folder)!r} holds no {FILE_NAME}, and nothing says where it is")
    return Path(note.read_text(encoding="utf-8").strip())


def _listing(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"dataset: there is no {str(path)!r}")
    if not path.is_dir():
        return path
    names = (FILE_NAME, "scenes.json", "mapping_file.json")
    found = [path / name for name in names if (path / name).is_file()]
    if not found:
        raise ValueError(f"dataset: {str(path)!r} holds none of {', '.join(names)}")
    return found[0]


def _from_listing(content: Fields) -> Dataset:
    found = content.content["format"], content.content.get("version")
    if found != (FORMAT, VERSION):
        raise ValueError(f"{content.named} is {found[0]!r} version {found[1]!r}, requires {FORMAT!r} version {VERSION}")
    items = tuple(_item(entry) for entry in content.each("items", "item"))
    return Dataset(content.read("name", text_of), items, content.folder)


def _item(entry: Fields) -> Item:
    id = entry.read("id", text_of)
    entry = replace(entry, named=f"item {id!r}")
    return Item(
        id=id,
        image=entry.read("image", entry.file_of),
        source=entry.read("source", text_of),
        target=entry.read("target", text_of),
        task=entry.read("task", text_of),
        objects=tuple(_object(obj) for obj in entry.each("places")),
        edited=tuple(text_of(word, f"{entry.named}: edited") for word in entry.read("edited", list_of)),
        change=entry.maybe("change", entry.file_of),
        target_image=entry.maybe("target_image", entry.file_of),
        bindings=tuple(pair_of(pair, f"{entry.named}: bindings") for pair in entry.maybe("bindings", list_of) or ()),
        instruction=entry.maybe("instruction", text_of),
        change_runs=entry.maybe("change_runs", runs_of),
        change_border=entry.maybe("change_border", flag_of) or False,
    )


def _object(entry: Fields) -> AnnotatedObject:
    mask, runs = entry.maybe("mask", entry.file_of), entry.maybe("runs", runs_of)
    return AnnotatedObject(entry.read("word", text_of), mask, entry.read("box", box_of), runs)


def _entry(item: Item, folder: Path) -> Any:
    def plain(value: Any) -> Any:
        if isinstance(value, Path):
            return _name(value, folder, f"item {item.id!r}")
        if isinstance(value, tuple):
            return [plain(part) for part in value]
        if not isinstance(value, Item | AnnotatedObject):
            return value
        own = {part.name: getattr(value, part.name) for part in fields(value)}
        return {_KEYS.get(name, name): plain(one) for name, one in own.items() if one or name not in _OMITTED}

    return plain(item)


def _name(path: Path, folder: Path, named: str) -> str:
    """The file's name relative to the folder that it has to be in."""
    try:
        relative = path.absolute().relative_to(folder.absolute()).as_posix()
    except ValueError:
        raise ValueError(f"{named}: {str(path)!r} is not in {str(folder)!r}") from None
    file_inside(folder, relative, named)
    return relative
