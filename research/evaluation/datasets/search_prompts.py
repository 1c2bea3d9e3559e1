"""Search prompts: the objects that an image is looked up by, and the edit that a prompt's images get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class SearchPrompt:
    """A row of LocInv's Table 3.

    nouns: what the image shows. edited: the one of them that changes, or the word for the first one's look.
    becomes: what it changes to. paper_count: the images that the paper has for it; None for what is ours.
    group: "single-object", "multi-object", or "attribute".
    """

    nouns: tuple[str, ...]
    edited: str
    becomes: str
    paper_count: int | None
    group: str

    @property
    def text(self) -> str:
        """The prompt as Table 3 writes it: "cat, dog"."""
        return ", ".join(self.nouns)

    @property
    def edit(self) -> str:
        """The edit as Table 3 writes it: "dog → fox"."""
        return f"{self.edited} → {self.becomes}"

    @property
    def task(self) -> str:
        """What items call their task: "single-object: cat → cougar", "multi-object: dog → fox (cat, dog)"."""
        return f"{self.group}: {self.edit}" + ("" if self.nouns == (self.edited,) else f" ({self.text})")

    @property
    def slug(self) -> str:
        """The start of the items' ids: "multi-cat-dog"."""
        return "-".join((self.group.removesuffix("-object"), *self.nouns))

    @property
    def instruction(self) -> str:
        """The edit as an order: "turn the dog into a fox", "make the car blue"."""
        if self.edited in self.nouns:
            article = "an" if self.becomes[0] in "aeiou" else "a"
            return f"turn the {self.edited} into {article} {self.becomes}"
        return f"make the {self.nouns[0]} {self.becomes}"


def table(group: str, rows: Sequence[tuple[str, str, str, int | None]]) -> tuple[SearchPrompt, ...]:
    """Search prompts of one group, from rows of nouns (spaces between), edited, becomes, paper_count."""
    return tuple(
        SearchPrompt(tuple(nouns.split()), edited, becomes, count, group) for nouns, edited, becomes, count in rows
    )


COCO_EDIT: Final[tuple[SearchPrompt, ...]] = (
    *table(
        "single-object",
        [
            ("airplane", "airplane", "seaplane", 25),
            ("bear", "bear", "panda", 22),
            ("boat", "boat", "canoe", 17),
            ("cat", "cat", "cougar", 22),
            ("elephant", "elephant", "buffalo", 46),
            ("giraffe", "giraffe", "brachiosaurus", 37),
            ("zebra", "zebra", "donkey", 45),
        ],
    ),
    *table(
        "multi-object",
        [
            ("apple banana", "apple", "peach", 2),
            ("bench cat", "cat", "panther", 31),
            ("cat dog", "dog", "fox", 37),
            ("dog frisbee", "dog", "raccoon", 25),
            ("donkey zebra", "donkey", "horse", 2),
            ("person dog boat", "dog", "cat", 4),
        ],
    ),
)
"""LocInv, Table 3."""


def in_rounds(groups: Iterable[Sequence[T]]) -> Iterator[T]:
    """The first of every group, then the second …, so that the first N are of every kind."""
    return (one for one in chain.from_iterable(zip_longest(*groups)) if one is not None)


def counts_table(
    prompts: Sequence[SearchPrompt], found: Mapping[SearchPrompt, int], kept: Mapping[SearchPrompt, int]
) -> str:
    """The counts of a data set beside the paper's, in columns, with their sums."""
    rows = [("prompt", "edit", "found", "kept", "paper")]
    for prompt in prompts:
        paper = "-" if prompt.paper_count is None else str(prompt.paper_count)
        rows.append((prompt.text, prompt.edit, str(found.get(prompt, 0)), str(kept.get(prompt, 0)), paper))
    sums = (sum(found.values()), sum(kept.values()), sum(prompt.paper_count or 0 for prompt in prompts))
    rows.append(("all", "", str(sums[0]), str(sums[1]), str(sums[2])))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
