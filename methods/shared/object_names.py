"""The objects that an edit changes, by name, and where it may show."""

from __future__ import annotations

from torch import Tensor

from ...locinv_core.editing.edited_objects import edited_mask, edited_objects
from ...locinv_core.imaging.padding import Padding
from ...locinv_core.text.prompt import Prompt
from ...locinv_core.text.word_alignment import align
from ..types import WANTS, EditTask, check_mask


def object_name(prompt: Prompt, noun: int) -> str:
    """The word at this index with the adjectives that describe it: "red cat"."""
    words = sorted({noun, *(adjective for owner, adjective in prompt.pairs if owner == noun)})
    return " ".join(prompt.words[i].text for i in words)


def with_article(name: str) -> str:
    """ "a fox", "an owl"."""
    return f"{'an' if name[:1].lower() in 'aeiou' else 'a'} {name}"


def changed_objects(source: Prompt, target: Prompt) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the edit changes, by name ("red cat"), in the source and in the target; none where it only adds
    or removes."""
    objects = edited_objects(source, target, align(source, target))
    return (
        tuple(dict.fromkeys(object_name(source, i) for i in objects.source)),
        tuple(dict.fromkeys(object_name(target, j) for j in objects.target)),
    )


def edit_mask(task: EditTask, source: Prompt, target: Prompt) -> Tensor:
    """(H, W) float32: where the edit may show, of the task's mask or its prior.

    Raises ValueError for neither, and for either at another size than the image's.
    """
    if task.mask is not None:
        check_mask(task.mask, task.image)
        return task.mask.float().cpu()
    if task.prior is None:
        raise ValueError(f"mask: got none, requires {WANTS['mask']}")
    own_size = Padding.of(task.image.shape[-2], task.image.shape[-1], 1)
    mask = edited_mask(source, target, task.prior.padded(own_size)).float().cpu()
    check_mask(mask, task.image)
    return mask
