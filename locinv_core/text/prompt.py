"""Prompts: the words of a text, the tokens of each word, and which words name objects or describe them.

Words are joined to tokens by character offsets, so punctuation, double spaces and words of several tokens need no
special case.
"""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .noun_phrases import Found, find_nouns
from .weights import read_weights

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_INNER = "'’-‐‑"
_LONGEST = 100_000  # transformers writes 1e30 into model_max_length when nobody said what it is


@dataclass(frozen=True)
class Word:
    """A word of a prompt, or a phrase of neighbouring words.

    text: as written. start, end: character offsets in `Prompt.text`, end exclusive.
    tokens: positions in `Prompt.token_ids` (the start token is position 0).
    """

    text: str
    start: int
    end: int
    tokens: tuple[int, ...]


@dataclass(frozen=True)
class Prompt:
    """A text as the text encoder reads it, and as people do.

    text: without the marks of weights, which `weights` has: (L,), one a token; () where all are 1.
    token_ids: (L,) ids, start and end tokens included, padded to the tokenizer's `model_max_length` L.
    nouns: indices into `words`. pairs: (noun, adjective) indices into `words`.
    length: how many of the ids are not padding, start and end tokens counted; the end token is at length - 1.
    """

    text: str
    token_ids: tuple[int, ...]
    words: tuple[Word, ...]
    nouns: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]
    length: int
    weights: tuple[float, ...] = ()

    def find(self, name: str) -> Word:
        """The word called `name`, whatever its capitals; "cat#2" is the second cat.

        Several words ("mountain lion") give one span over the tokens of all of them, when they stand side by
        side. Raises ValueError, listing the words there are, when there is no such word.
        """
        return self.phrase([self.words[index] for index in self.locate(name)])

    def phrase(self, words: Sequence[Word]) -> Word:
        """Neighbouring words as one, from the first to the last."""
        start, end = words[0].start, words[-1].end
        return Word(self.text[start:end], start, end, tuple(token for word in words for token in word.tokens))

    def locate(self, name: str) -> range:
        """The indices into `words` of what `find` finds. Raises ValueError as `find` does."""
        wanted, occurrence = _split_occurrence(name)
        key = [_key(part) for part in wanted.split()]
        starts = [
            start
            for start in range(len(self.words) - len(key) + 1)
            if key
            and [_key(word.text) for word in self.words[start : start + len(key)]] == key
            and not any(self._gap(index).strip() for index in range(start, start + len(key) - 1))
        ]
        if not 1 <= occurrence <= len(starts):
            there = f"; it has {len(starts)} of them" if starts else ""
            words = ", ".join(word.text for word in self.words) or "none"
            raise ValueError(f"word {name!r} is not in the prompt {self.text!r}{there}; its words are: {words}")
        return range(starts[occurrence - 1], starts[occurrence - 1] + len(key))

    def _gap(self, index: int) -> str:
        return self.text[self.words[index].end : self.words[index + 1].start]


def parse_prompt(
    text: str,
    tokenizer: PreTrainedTokenizerBase,
    *,
    nouns: Sequence[str] | None = None,
    bindings: Sequence[tuple[str, str]] | None = None,
    name: str = "prompt",
) -> Prompt:
    """Words, token spans, nouns, (noun, adjective) pairs and weights of `text`, which errors call `name`.

    nouns: the words that name objects, as `Prompt.find` takes them, in place of the ones found by grammar (of
    a phrase, its last word).
    bindings: (adjective, noun) in place of the pairs found by grammar; their nouns join the nouns.
    Raises ValueError for an empty text, a text of more tokens than the text encoder reads, a character that
    the tokenizer does not know, and a noun or binding whose word is not in the text.
    """
    if not text.strip():
        raise ValueError(f"{name} is empty: got {text!r}, require at least one word")
    text, by_character = read_weights(text)
    ids, length, spans = _tokenize(text, tokenizer, name)
    weights: tuple[float, ...] = ()
    if any(weight != 1 for weight in by_character):
        of_tokens = [by_character[start] if end > start else 1.0 for start, end in spans]
        weights = tuple(of_tokens + [1.0] * (len(ids) - len(of_tokens)))
    words = tuple(
        Word(text[start:end], start, end, _tokens_within(spans, start, end, text)) for start, end in word_spans(text)
    )
    prompt = Prompt(text, ids, words, (), (), length)

    by_grammar: Found = ((), ())
    if nouns is None or bindings is None:
        by_grammar = find_nouns(text, [(word.start, word.end) for word in words])
    found, found_pairs = by_grammar
    if nouns is not None:
        found = tuple(prompt.locate(name)[-1] for name in nouns)
    if bindings is None:
        pairs = tuple(pair for pair in found_pairs if pair[0] in found)
    else:
        pairs = tuple(
            (prompt.locate(noun)[-1], index) for adjective, noun in bindings for index in prompt.locate(adjective)
        )
        for noun, adjective in pairs:
            if noun == adjective:
                raise ValueError(f"binding of {words[noun].text!r} to itself: require an adjective and a noun")
    named = sorted({*found, *(noun for noun, _ in pairs)})
    return Prompt(text, ids, words, tuple(named), tuple(dict.fromkeys(pairs)), length, weights)


def empty_prompt(tokenizer: PreTrainedTokenizerBase) -> Prompt:
    """The text without words that the unconditional branch reads (the paper's empty string in Eq. 3)."""
    ids, length, _ = _tokenize("", tokenizer)
    return Prompt("", ids, (), (), (), length)


def word_spans(text: str) -> list[tuple[int, int]]:
    """Character spans of the words: maximal runs of letters, marks, digits, inner apostrophes and hyphens.

    A word begins with a letter or a digit: the mark that ends a sign, as that of a heart, is no word.
    """
    classes = "".join("'" if character in _INNER else unicodedata.category(character)[0] for character in text)
    return [match.span() for match in re.finditer("[LN](?:[LMN]|'(?=[LMN]))*", classes)]


def _key(text: str) -> str:
    return unicodedata.normalize("NFC", text).casefold().replace("’", "'")


def same_word(left: str, right: str) -> bool:
    """Whether two words are the same but for capitals and how accents and apostrophes are written."""
    return _key(left) == _key(right)


def _split_occurrence(name: str) -> tuple[str, int]:
    match = re.fullmatch(r"(.*?)#(\d+)", name.strip(), re.DOTALL)
    return (match[1], int(match[2])) if match else (name, 1)


def _tokens_within(spans: Sequence[tuple[int, int]], start: int, end: int, text: str) -> tuple[int, ...]:
    tokens = tuple(index for index, (left, right) in enumerate(spans) if left < end and start < right)
    if not tokens:
        raise ValueError(f"prompt word {text[start:end]!r} has no token: the tokenizer does not know its characters")
    return tokens


def _tokenize(
    text: str, tokenizer: PreTrainedTokenizerBase, name: str = "prompt"
) -> tuple[tuple[int, ...], int, list[tuple[int, int]]]:
    """Padded ids (L,), how many are not padding, and the characters of each token ((0, 0) for none)."""
    limit = int(tokenizer.model_max_length)
    if limit > _LONGEST:
        raise ValueError(
            f"tokenizer.model_max_length is {limit}: require the number of tokens that the text encoder reads"
        )
    fast = bool(getattr(tokenizer, "is_fast", False))
    options = {"return_offsets_mapping": True} if fast else {}
    encoded = tokenizer(text, add_special_tokens=False, verbose=False, **options)
    content = [int(token) for token in encoded["input_ids"]]
    if fast:
        spans = [(int(a), int(b)) for a, b in encoded["offset_mapping"]]
    else:
        spans = offsets_by_decoding(text, content, tokenizer)
    special = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    for token, (start, end) in zip(content, spans, strict=True):
        if token in special:
            raise ValueError(
                f"{name} {text!r}: {text[start:end]!r} reads as the start or end token; "
                "it is written out, or has characters that the tokenizer does not know"
            )
    length = len(content) + 2
    if length > limit:
        raise ValueError(
            f"{name} {textwrap.shorten(text, 60)!r} is too long: it has {len(content)} tokens and the text "
            f"encoder reads {limit - 2} beside its start and end tokens; leave out {length - limit} tokens"
        )
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    ids = [tokenizer.bos_token_id, *content, tokenizer.eos_token_id, *[pad] * (limit - length)]
    return tuple(int(token) for token in ids), length, [(0, 0), *spans, (0, 0)]


def offsets_by_decoding(
    text: str, token_ids: Iterable[int], tokenizer: PreTrainedTokenizerBase
) -> list[tuple[int, int]]:
    """The characters of each token, for tokenizers that give no offsets: decode along the text.

    Both sides are compared without spaces and capitals and in compatibility decomposition. Tokens that hold
    parts of one character share its span. Raises ValueError when the tokens do not spell the text.
    """
    letters = [(letter, index) for index, character in enumerate(text) for letter in _plain(character)]
    spans: list[tuple[int, int]] = []
    position, group = 0, []
    for token in token_ids:
        group.append(token)
        piece = tokenizer.decode(group, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if "\ufffd" in piece:  # the bytes so far end inside a character
            continue
        piece = _plain(piece)
        if piece != "".join(letter for letter, _ in letters[position : position + len(piece)]):
            rest = "".join(letter for letter, _ in letters[position:])
            raise ValueError(f"prompt {text!r}: cannot tell which characters token {piece!r} stands for, at {rest!r}")
        covered = letters[position : position + len(piece)]
        span = (covered[0][1], covered[-1][1] + 1) if covered else (0, 0)
        spans += [span] * len(group)
        position, group = position + len(piece), []
    if group or position != len(letters):
        raise ValueError(f"prompt {text!r}: its tokens spell only a part of it; the tokenizer leaves characters out")
    return spans


def _plain(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text.lower())
    straight = decomposed.translate({ord("‘"): "'", ord("’"): "'", ord("“"): '"', ord("”"): '"'})
    return "".join(character for character in straight if not character.isspace())
