"""What differs between two texts, word by word, for pages that mark it."""

from __future__ import annotations

import difflib
import re

Piece = tuple[str, bool]
"""Some of a text, and whether it differs from the other text's."""


def text_change(source: str, target: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, cut between words; joined they are the texts, without white space at the end."""
    one, other = (re.findall(r"\s*\S+", text) for text in (source, target))
    matcher = difflib.SequenceMatcher(
        a=[word.strip() for word in one], b=[word.strip() for word in other], autojunk=False
    )
    pieces: tuple[list[Piece], list[Piece]] = ([], [])
    for kind, a0, a1, b0, b1 in matcher.get_opcodes():
        for side, words in zip(pieces, (one[a0:a1], other[b0:b1]), strict=True):
            if words:
                side.append(("".join(words), kind != "equal"))
    return pieces
