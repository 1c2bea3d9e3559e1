"""Which token of a source prompt gives its attention map to which token of a target prompt (Prompt-to-Prompt).

Words are aligned, not tokens and not `split(" ")`, so a swap may change the number of tokens or of words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from .prompt import Prompt, Word, same_word


@dataclass(frozen=True)
class Alignment:
    """How the cross-attention of a source prompt feeds that of a target prompt.

    mapper: (L_source, L_target) float32. Target map j is the sum over i of source map i times mapper[i, j];
        a column sums to 1, or to 0 where nothing of the source corresponds.
    alpha: (L_target,) float32, 1 where the target token takes that map, 0 where it keeps its own (P2P
    Refine).
    swaps: (source word, target word) that replace one another; phrases where runs of unequal length do.
    changed: indices of the target's words that the source lacks, swapped or inserted.
    removed: indices of the source's words that the target lacks, swapped or deleted.
    kind: "same" (nothing changed: Reweight), "replace" (swaps alone), "refine" (insertions or deletions).
    """

    mapper: Tensor
    alpha: Tensor
    swaps: tuple[tuple[Word, Word], ...]
    changed: tuple[int, ...]
    removed: tuple[int, ...]
    kind: Literal["same", "replace", "refine"]


class _Unit(NamedTuple):
    """A word, or a token of punctuation between words (word = -1)."""

    key: str
    tokens: tuple[int, ...]
    word: int


def align(source: Prompt, target: Prompt) -> Alignment:
    """Align the words of two prompts, and from them their tokens.

    The alignment keeps as many words as it can, then as much punctuation, with as few gaps as it can
    (Needleman-Wunsch with affine gaps; ties go to the earliest match). Between two kept words, n source words
    against m target words are a swap when neither is 0: word by word when n = m, else the whole run against
    the whole run. Within a swap tokens go one to one when their numbers agree; else every target token takes
    the mean of the source tokens' maps.
    The start and end tokens map to their like, padding to padding at the same distance from the end token.
    """
    left, right = _units(source), _units(target)
    mapper = torch.zeros(len(source.token_ids), len(target.token_ids))
    swaps: list[tuple[Word, Word]] = []
    refined = False

    pairs = _matches(left, right)
    for kept, (first, last), (start, stop) in _runs(pairs, len(left), len(right)):
        if kept:
            _connect(mapper, left[first].tokens, right[start].tokens)
            continue
        lost, gained = left[first:last], right[start:stop]
        words, marks = _swapped_words(source, target, lost, gained), _swapped_marks(lost, gained)
        for old, new in words:
            _connect(mapper, old.tokens, new.tokens)
        for old_mark, new_mark in marks:
            _connect(mapper, old_mark.tokens, new_mark.tokens)
        swaps += words
        for is_word, swapped in ((True, bool(words)), (False, bool(marks))):
            refined |= not swapped and any((unit.word >= 0) == is_word for unit in [*lost, *gained])

    _connect(mapper, (0,), (0,))
    for position in range(target.length - 1, len(target.token_ids)):
        from_end = position - (target.length - 1)
        mapper[min(source.length - 1 + from_end, len(source.token_ids) - 1), position] = 1.0

    common = [(i, j) for i, j in pairs if left[i].word >= 0]
    changed = set(range(len(target.words))) - {right[j].word for _, j in common}
    removed = set(range(len(source.words))) - {left[i].word for i, _ in common}
    same = len(pairs) == len(left) == len(right)
    return Alignment(
        mapper=mapper,
        alpha=(mapper.sum(dim=0) > 0).float(),
        swaps=tuple(swaps),
        changed=tuple(sorted(changed)),
        removed=tuple(sorted(removed)),
        kind="same" if same else "refine" if refined else "replace",
    )


def _units(prompt: Prompt) -> list[_Unit]:
    """Words and punctuation in reading order; a word's key is its text, a punctuation token's its id."""
    word_of = {token: index for index, word in enumerate(prompt.words) for token in word.tokens}
    units: list[_Unit] = []
    for position in range(1, prompt.length - 1):
        index = word_of.get(position, -1)
        if index < 0:
            units.append(_Unit(f"token {prompt.token_ids[position]}", (position,), -1))
        elif not units or units[-1].word != index:
            word = prompt.words[index]
            units.append(_Unit(word.text, word.tokens, index))
    return units


def _equal(left: _Unit, right: _Unit) -> bool:
    if left.word < 0 or right.word < 0:
        return left.word == right.word and left.key == right.key
    return same_word(left.key, right.key)


def _matches(left: list[_Unit], right: list[_Unit]) -> tuple[tuple[int, int], ...]:
    """The kept pairs (i, j): of the best score (words kept, punctuation kept, minus gaps) the earliest match.

    `difflib.SequenceMatcher` does not do: it takes the longest run that matches first, which may keep fewer
    words ("very very big" and "very big", among the tests).
    """
    rows, columns = len(left), len(right)

    @cache
    def best(i: int, j: int, in_gap: bool) -> tuple[tuple[int, int, int], tuple[tuple[int, int], ...]]:
        """The score and the pairs of left[i:] against right[j:]; opening a gap costs, staying in one does not."""
        found = []
        if i < rows and j < columns and _equal(left[i], right[j]):
            (words, marks, gaps), pairs = best(i + 1, j + 1, False)
            is_word = left[i].word >= 0
            found.append(((words + is_word, marks + (not is_word), gaps), ((i, j), *pairs)))
        for following in ((i + 1, j), (i, j + 1)):
            if following[0] <= rows and following[1] <= columns:
                (words, marks, gaps), pairs = best(*following, True)
                found.append(((words, marks, gaps - (not in_gap)), pairs))
        return max(found, key=itemgetter(0), default=((0, 0, 0), ()))

    return best(0, 0, False)[1]


def _runs(
    pairs: Sequence[tuple[int, int]], rows: int, columns: int
) -> list[tuple[bool, tuple[int, int], tuple[int, int]]]:
    """(kept, left range, right range): single kept pairs, and the runs between them that differ."""
    runs: list[tuple[bool, tuple[int, int], tuple[int, int]]] = []
    i = j = 0
    for next_i, next_j in [*pairs, (rows, columns)]:
        if (i, j) != (next_i, next_j):
            runs.append((False, (i, next_i), (j, next_j)))
        if next_i < rows:
            runs.append((True, (next_i, next_i + 1), (next_j, next_j + 1)))
        i, j = next_i + 1, next_j + 1
    return runs


def _swapped_words(source: Prompt, target: Prompt, lost: list[_Unit], gained: list[_Unit]) -> list[tuple[Word, Word]]:
    old = [source.words[unit.word] for unit in lost if unit.word >= 0]
    new = [target.words[unit.word] for unit in gained if unit.word >= 0]
    if len(old) == len(new):
        return list(zip(old, new, strict=True))
    return [(source.phrase(old), target.phrase(new))] if old and new else []


def _swapped_marks(lost: list[_Unit], gained: list[_Unit]) -> list[tuple[_Unit, _Unit]]:
    """Punctuation against punctuation, one to one or not at all."""
    old, new = [unit for unit in lost if unit.word < 0], [unit for unit in gained if unit.word < 0]
    return list(zip(old, new, strict=True)) if len(old) == len(new) else []


def _connect(mapper: Tensor, sources: tuple[int, ...], targets: tuple[int, ...]) -> None:
    """One to one when the numbers agree, else every target is the mean of the sources."""
    if len(sources) == len(targets):
        mapper[list(sources), list(targets)] = 1.0
    else:
        for position in targets:
            mapper[list(sources), position] = 1.0 / len(sources)
