"""Data sets of edits: images, what they show and should show, where their objects are, and, where it is
known, the true edited image; read from files and written to them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ....locinv_core.text.prompt import Prompt, Word, word_spans
from .fields import (
    Box,
    box_of,
    file_inside,
    flag_of,
    list_of,
    mapping_of,
    pair_of,
    read_json,
    runs_of,
    text_of,
)

if TYPE_CHECKING:
    from torch import Tensor

FORMAT: Final = "pinpoint-dataset"
VERSION: Final = 1
FILE_NAME: Final = "dataset.json"
NOTE_NAME: Final = "dataset.txt"
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class Place:
    """A word of the source prompt, and where its object is.

    word: as `Prompt.find` takes it: "cat", "cat#2", "mountain lion".
    mask: image of the image's size, white where the object is. box: (x0, y0, x1, y1) in pixels, x1 and y1
    exclusive. runs: the mask where no file has it, as `decode_runs` takes it. Without mask and runs, the
    box is all that is known.
    """

    word: str
    mask: Path | None
    box: Box
    runs: tuple[int, ...] | None = None


@dataclass(frozen=True)
class OpenItem:
    """An item's images. image, target_image: (1, 3, H, W) in [0, 1]; masks: word -> (H, W) float32, 0 or 1;
    place, change: (H, W) float32, 1 where the edit is to be, and where it may show: the same, but for an item
    with `change_border`."""

    image: Tensor
    masks: Mapping[str, Tensor]
    place: Tensor
    change: Tensor
    target_image: Tensor | None


@dataclass(frozen=True)
class Item:
    """One edit of one image.

    id: letters, digits and ". _ -", so that it can name files. source, target: the prompts.
    task: the editing task, "GROUP: what changes", for example "single-object: cat → fox".
    edited: the words of `places` whose object the edit changes.
    change: mask file, white where the edit may show; None: the union of the edited places, or change_runs.
    change_border: whether the edit may show in the image's outermost pixels, too, without being there.
    bindings: (adjective, noun) of the source, for an edit of an attribute. instruction: the edit as an order.
    Raises ValueError for an id that cannot name a file, a word twice or not in the source prompt, and an
    edited word without a place.
    """

    id: str
    image: Path
    source: str
    target: str
    task: str
    places: tuple[Place, ...]
    edited: tuple[str, ...]
    change: Path | None
    target_image: Path | None
    bindings: tuple[tuple[str, str], ...] = ()
    instruction: str | None = None
    change_runs: tuple[int, ...] | None = None
    change_border: bool = False

    def __post_init__(self) -> None:
        named = f"item {self.id!r}"
        if not _ID.fullmatch(self.id):
            raise ValueError(f"{named}: its id requires letters, digits and . _ - (at most 100, no dot first)")
        words = [place.word for place in self.places]
        for word in self.edited:
            if word not in words:
                raise ValueError(f"{named}: the edited word {word!r} has no place; {words} have one")
        if not self.edited and self.change is None and self.change_runs is None:
            raise ValueError(f"{named}: nothing says where the edit shows, requires edited words or a change mask")
        source = words_of(self.source)
        for word in (*words, *(word for binding in self.bindings for word in binding)):
            try:
                source.locate(word)
            except ValueError as error:
                raise ValueError(f"{named}: {error}") from None
        if len({source.locate(word) for word in words}) != len(words):
            raise ValueError(f"{named}: its places have the words {words}, requires every word once")

    @property
    def group(self) -> str:
        """What the task is one of, as `group_of_task` says it."""
        return group_of_task(self.task)

    def open(self) -> OpenItem:
        """Read the images. Raises ValueError for one that cannot be read, or of another size."""
        import torch

        from ....locinv_core.imaging.io import load_image

        image = load_image(self.image)
        size = int(image.shape[-2]), int(image.shape[-1])
        masks = {place.word: self._place(place, size) for place in self.places}
        if self.change is None and self.change_runs is None:
            place = torch.stack([masks[word] for word in self.edited]).amax(dim=0)
        elif self.change is None and not self.change_runs and self.change_border:
            place = torch.zeros(size)  # the border is mask enough, where an annotation has nothing
        else:
            place = self._mask("change", self.change, self.change_runs, size)
        change = place.clone()
        if self.change_border:
            change[[0, -1]] = 1
            change[:, [0, -1]] = 1
        target = None if self.target_image is None else load_image(self.target_image)
        if target is not None and target.shape != image.shape:
            raise ValueError(
                f"item {self.id!r}: its true edited image is {tuple(target.shape[-2:])} "
                f"and its image {size}, requires the same (H, W)"
            )
        return OpenItem(image, masks, place, change, target)

    def _place(self, place: Place, size: tuple[int, int]) -> Tensor:
        from ....locinv_core.localization.priors import from_boxes

        if place.mask is None and place.runs is None:
            try:
                return from_boxes({place.word: place.box}, size).mask(place.word)
            except ValueError as error:
                raise ValueError(f"item {self.id!r}: {error}") from error
        return self._mask(place.word, place.mask, place.runs, size)

    def _mask(self, word: str, path: Path | None, runs: tuple[int, ...] | None, size: tuple[int, int]) -> Tensor:
        from ....locinv_core.localization.priors import from_mask_files, from_masks
        from .mask_rle import decode_runs

        try:
            if path is not None:
                return from_mask_files({word: path}, size=size).mask(word)
            return from_masks({word: decode_runs(runs or (), size)}, size=size).mask(word)
        except ValueError as error:
            raise ValueError(f"item {self.id!r}: {error}") from error


@dataclass(frozen=True)
class Dataset:
    """Edits, and the folder that holds their files. Raises ValueError for no item, or an id that two have."""

    name: str
    items: tuple[Item, ...]
    folder: Path

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError(f"dataset {self.name!r} has no item, requires at least one")
        seen: set[str] = set()
        for item in self.items:
            if item.id.lower() in seen:
                raise ValueError(f"dataset {self.name!r}: two items are called {item.id!r}")
            seen.add(item.id.lower())


def read_dataset(path: Path) -> Dataset:
    """Read a data set: a folder, or the file that lists it.

    The file is dataset.json, a scenes.json of `pinpoint scenes`, or PIE-Bench's mapping_file.json with its
    images in annotation_images beside it; a folder is one that holds one of these. No file that it names
    may lie outside its folder. Raises ValueError for anything else, naming what is wrong.
    """
    file = _listing(path)
    content = mapping_of(read_json(file), f"dataset {str(file)!r}")
    if "format" in content:
        return _from_listing(content, file)
    if "scenes" in content:
        from .scenes_listing import dataset_of_scenes

        return dataset_of_scenes(content, file)
    from .pie_bench import dataset_of_mapping

    return dataset_of_mapping(content, file)


def write_dataset(dataset: Dataset, folder: Path) -> Path:
    """Write dataset.json into `folder`, whole or not at all, and return its path.

    Its files are there already, or in folders within. Raises ValueError for one that lies elsewhere.
    """
    from ....locinv_core.imaging.io import written_whole

    items = [_entry(item, folder) for item in dataset.items]
    content = {"format": FORMAT, "version": VERSION, "name": dataset.name, "items": items}
    path = folder / FILE_NAME
    with written_whole(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


def note_dataset(path: Path, folder: Path) -> None:
    """Say in a run's folder which data set it was on, for `noted_dataset` to find."""
    from ....locinv_core.imaging.io import written_whole

    with written_whole(folder / NOTE_NAME) as unfinished:
        unfinished.write_text(f"{path.absolute()}\n", encoding="utf-8")


def noted_dataset(folder: Path) -> Path:
    """The data set of a run's folder: in the folder itself, or where its note says that it is.

    Raises ValueError for a folder without either.
    """
    if (folder / FILE_NAME).is_file():
        return folder
    note = folder / NOTE_NAME
    if not note.is_file():
        raise ValueError(f"dataset: {str(folder)!r} holds no {FILE_NAME}, and nothing says where it is")
    return Path(note.read_text(encoding="utf-8").strip())


def _listing(path: Path) -> Path:
    if not path.is_dir():
        if not path.exists():
            raise ValueError(f"dataset: there is no {str(path)!r}")
        return path
    names = (FILE_NAME, "scenes.json", "mapping_file.json")
    for name in names:
        if (path / name).is_file():
            return path / name
    raise ValueError(f"dataset: {str(path)!r} holds none of {', '.join(names)}")


def _from_listing(content: Mapping[str, Any], file: Path) -> Dataset:
    if content["format"] != FORMAT or content.get("version") != VERSION:
        raise ValueError(
            f"dataset {str(file)!r} is {content['format']!r} version {content.get('version')!r}, "
            f"requires {FORMAT!r} version {VERSION}"
        )
    named = f"dataset {str(file)!r}"
    items = [
        _item(mapping_of(entry, f"{named}: item {number}"), file.parent, number)
        for number, entry in enumerate(list_of(content.get("items"), f"{named}: items"))
    ]
    return Dataset(text_of(content.get("name"), f"{named}: name"), tuple(items), file.parent)


def _item(entry: Mapping[str, Any], folder: Path, number: int) -> Item:
    id = text_of(entry.get("id"), f"item {number}: id")
    named = f"item {id!r}"

    def file(key: str) -> Path | None:
        return None if entry.get(key) is None else file_inside(folder, entry[key], f"{named}: {key}")

    instruction = entry.get("instruction")
    runs = entry.get("change_runs")
    places = list_of(entry.get("places"), f"{named}: places")
    return Item(
        id=id,
        image=file_inside(folder, entry.get("image"), f"{named}: image"),
        source=text_of(entry.get("source"), f"{named}: source"),
        target=text_of(entry.get("target"), f"{named}: target"),
        task=text_of(entry.get("task"), f"{named}: task"),
        places=tuple(_place(mapping_of(place, f"{named}: place"), folder, named) for place in places),
        edited=tuple(text_of(word, f"{named}: edited") for word in list_of(entry.get("edited"), f"{named}: edited")),
        change=file("change"),
        target_image=file("target_image"),
        bindings=tuple(
            pair_of(pair, f"{named}: bindings") for pair in list_of(entry.get("bindings", []), f"{named}: bindings")
        ),
        instruction=None if instruction is None else text_of(instruction, f"{named}: instruction"),
        change_runs=None if runs is None else runs_of(runs, f"{named}: change_runs"),
        change_border=flag_of(entry.get("change_border", False), f"{named}: change_border"),
    )


def _place(entry: Mapping[str, Any], folder: Path, named: str) -> Place:
    word = text_of(entry.get("word"), f"{named}: word of a place")
    mask, runs = entry.get("mask"), entry.get("runs")
    return Place(
        word,
        None if mask is None else file_inside(folder, mask, f"{named}: mask of {word!r}"),
        box_of(entry.get("box"), f"{named}: box of {word!r}"),
        None if runs is None else runs_of(runs, f"{named}: runs of {word!r}"),
    )


def _entry(item: Item, folder: Path) -> dict[str, Any]:
    def name(path: Path | None) -> str | None:
        if path is None:
            return None
        try:
            relative = path.absolute().relative_to(folder.absolute()).as_posix()
        except ValueError:
            raise ValueError(f"item {item.id!r}: {str(path)!r} is not in {str(folder)!r}") from None
        file_inside(folder, relative, f"item {item.id!r}")
        return relative

    places = [
        {"word": place.word, "mask": name(place.mask), "box": list(place.box)}
        | ({} if place.runs is None else {"runs": list(place.runs)})
        for place in item.places
    ]
    entry: dict[str, Any] = {
        "id": item.id,
        "image": name(item.image),
        "source": item.source,
        "target": item.target,
        "task": item.task,
        "places": places,
        "edited": list(item.edited),
        "change": name(item.change),
        "target_image": name(item.target_image),
        "bindings": [list(pair) for pair in item.bindings],
        "instruction": item.instruction,
    }
    if item.change_runs is not None:
        entry["change_runs"] = list(item.change_runs)
    if item.change_border:
        entry["change_border"] = True
    return entry


def group_of_task(task: str) -> str:
    """What a task is one of: "single-object" of "single-object: cat → fox"."""
    return task.partition(":")[0].strip()


def words_of(text: str) -> Prompt:
    """The text's words, without tokens: enough to look words up."""
    words = tuple(Word(text[start:end], start, end, ()) for start, end in word_spans(text))
    return Prompt(text, (), words, (), (), 0)
