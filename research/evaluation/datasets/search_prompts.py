"""Search prompts: the objects that an image is looked up by, and the edit that a prompt's images get."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Final, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class SearchPrompt:
    """A row of LocInv's Table 3.

    edited: the noun that changes, or the word for the first one's look. paper_count: the images that the paper has
    for it; None for what is ours. group: "single-object", "multi-object", or "attribute".
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


def table(text: str) -> tuple[SearchPrompt, ...]:
    """Search prompts from lines "GROUP NOUNS: EDITED → BECOMES COUNT", the count "-" for none."""
    rows = [re.split(r"[:,]? +", line.strip()) for line in text.strip().splitlines()]
    return tuple(
        SearchPrompt(tuple(nouns), edited, becomes, None if count == "-" else int(count), group)
        for group, *nouns, edited, _, becomes, count in rows
    )


COCO_EDIT: Final = table(
    """
    single-object   airplane: airplane → seaplane           25
    single-object   bear: bear → panda                      22
    single-object   boat: boat → canoe                      17
    single-object   cat: cat → cougar                       22
    single-object   elephant: elephant → buffalo            46
    single-object   giraffe: giraffe → brachiosaurus        37
    single-object   zebra: zebra → donkey                   45
    multi-object    apple, banana: apple → peach             2
    multi-object    bench, cat: cat → panther               31
    multi-object    cat, dog: dog → fox                     37
    multi-object    dog, frisbee: dog → raccoon             25
    multi-object    donkey, zebra: donkey → horse            2
    multi-object    person, dog, boat: dog → cat             4
    """
)
"""LocInv, Table 3."""


def in_rounds(groups: Iterable[Sequence[T]]) -> Iterator[T]:
    """The first of every group, then the second …, so that the first N are of every kind."""
    return (one for one in chain.from_iterable(zip_longest(*groups)) if one is not None)


def counts_table(
    prompts: Sequence[SearchPrompt], found: Mapping[SearchPrompt, int], kept: Mapping[SearchPrompt, int]
) -> str:
    """The counts of a data set beside the paper's, in columns, with their sums."""
    rows: list[tuple[str, ...]] = [("prompt", "edit", "found", "kept", "paper")]
    for prompt in prompts:
        paper = "-" if prompt.paper_count is None else str(prompt.paper_count)
        rows.append((prompt.text, prompt.edit, str(found.get(prompt, 0)), str(kept.get(prompt, 0)), paper))
    sums = sum(found.values()), sum(kept.values()), sum(prompt.paper_count or 0 for prompt in prompts)
    rows.append(("all", "", *map(str, sums)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    form = "  ".join(f"{{:{'<<>>>'[k]}{width}}}" for k, width in enumerate(widths))
    return "\n".join(form.format(*row).rstrip() for row in rows)
