"""A data set of edits: images, their prompts, the masks of their objects and, where it exists, the ground truth."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ....locinv_core.text.prompt import Prompt, Word, word_spans
from .fields import Box
from .masks import decode_runs

if TYPE_CHECKING:
    from torch import Tensor

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True)
class AnnotatedObject:
    """A word of the source prompt, and the mask or box of its object.

    word: as `Prompt.find` takes it: "cat", "cat#2", "mountain lion".
    mask: image of the image's size, white inside. box: (x0, y0, x1, y1) in pixels, x1 and y1 exclusive.
    runs: the mask where no file has it, as `decode_runs` takes it. Without mask and runs only the box is known.
    """

    word: str
    mask: Path | None
    box: Box
    runs: tuple[int, ...] | None = None


@dataclass(frozen=True)
class OpenItem:
    """An item's images. image, target_image: (1, 3, H, W) in [0, 1]; masks: word -> (H, W) float32, 0 or 1.

    edit_mask, change: (H, W) float32, 1 where the edit is to be, and where it may show: the same, but for an
    item with `change_border`.
    """

    image: Tensor
    masks: Mapping[str, Tensor]
    edit_mask: Tensor
    change: Tensor
    target_image: Tensor | None


@dataclass(frozen=True)
class Item:
    """One edit of one image.

    id: letters, digits and ". _ -", so that it can name files. source, target: the prompts.
    task: the editing task, "GROUP: what changes", for example "single-object: cat → fox".
    edited: the words of `objects` that the edit changes.
    change: mask file, white where the edit may show; None: the union of the edited objects, or change_runs.
    change_border: whether the edit may show in the image's outermost pixels, too, without being there.
    bindings: (adjective, noun) of the source, for an edit of an attribute. instruction: the edit as an order.
    Raises ValueError for an id that cannot name a file, a word twice or not in the source prompt, and an
    edited word without mask or box.
    """

    id: str
    image: Path
    source: str
    target: str
    task: str
    objects: tuple[AnnotatedObject, ...]
    edited: tuple[str, ...]
    change: Path | None = None
    target_image: Path | None = None
    bindings: tuple[tuple[str, str], ...] = ()
    instruction: str | None = None
    change_runs: tuple[int, ...] | None = None
    change_border: bool = False

    def __post_init__(self) -> None:
        named = f"item {self.id!r}"
        if not _ID.fullmatch(self.id):
            raise ValueError(f"{named}: its id requires letters, digits and . _ - (at most 100, no dot first)")
        words = [obj.word for obj in self.objects]
        for word in self.edited:
            if word not in words:
                raise ValueError(f"{named}: the edited word {word!r} has no mask or box; {words} have one")
        if not self.edited and self.change is None and self.change_runs is None:
            raise ValueError(f"{named}: nothing says where the edit shows, requires edited words or a change mask")
        source = words_of(self.source)
        try:
            located = {source.locate(word) for word in words}
            for word in (word for binding in self.bindings for word in binding):
                source.locate(word)
        except ValueError as error:
            raise ValueError(f"{named}: {error}") from None
        if len(located) != len(words):
            raise ValueError(f"{named}: its objects have the words {words}, requires every word once")

    @property
    def group(self) -> str:
        return group_of_task(self.task)

    def digest(self) -> str:
        """16 hex digits that change with the texts, boxes and runs, and with the content of the files."""
        total = hashlib.sha256()
        texts = (self.source, self.target, self.edited, self.bindings, self.instruction, self.change_runs)
        total.update(repr(texts).encode())
        if self.change_border:
            total.update(b"border")
        for obj in self.objects:
            total.update(repr((obj.word, tuple(map(float, obj.box)), obj.runs)).encode())
        for path in (self.image, self.change, self.target_image, *(obj.mask for obj in self.objects)):
            total.update(b"-" if path is None else hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()[:16]

    def open(self) -> OpenItem:
        """Read the images. Raises ValueError for one that cannot be read, or of another size."""
        import torch

        from ....locinv_core.imaging.io import load_image

        image = load_image(self.image)
        size = int(image.shape[-2]), int(image.shape[-1])
        masks = {obj.word: self._mask(obj, size) for obj in self.objects}
        if self.change is None and self.change_runs is None:
            edit_mask = torch.stack([masks[word] for word in self.edited]).amax(dim=0)
        elif self.change is None and not self.change_runs and self.change_border:
            edit_mask = torch.zeros(size)  # the border is mask enough, where an annotation has nothing
        else:
            edit_mask = self._mask(AnnotatedObject("change", self.change, (0, 0, 0, 0), self.change_runs), size)
        change = edit_mask.clone()
        if self.change_border:
            change[[0, -1]] = change[:, [0, -1]] = 1
        target = None if self.target_image is None else load_image(self.target_image)
        if target is not None and target.shape != image.shape:
            raise ValueError(
                f"item {self.id!r}: its true edited image is {tuple(target.shape[-2:])} "
                f"and its image {size}, requires the same (H, W)"
            )
        return OpenItem(image, masks, edit_mask, change, target)

    def _mask(self, obj: AnnotatedObject, size: tuple[int, int]) -> Tensor:
        from ....locinv_core.localization.priors import from_boxes, from_mask_files, from_masks

        try:
            if obj.mask is not None:
                prior = from_mask_files({obj.word: obj.mask}, size=size)
            elif obj.runs is not None:
                prior = from_masks({obj.word: decode_runs(obj.runs, size)}, size=size)
            else:
                prior = from_boxes({obj.word: obj.box}, size)
        except ValueError as error:
            raise ValueError(f"item {self.id!r}: {error}") from error
        return prior.mask(obj.word)


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


def group_of_task(task: str) -> str:
    """ "single-object" of "single-object: cat → fox"."""
    return task.partition(":")[0].strip()


def words_of(text: str) -> Prompt:
    """The text's words, without tokens: enough to look words up."""
    words = tuple(Word(text[start:end], start, end, ()) for start, end in word_spans(text))
    return Prompt(text, (), words, (), (), 0)
