"""Which words of a caption name objects, and which adjectives describe them.

LocInv §3.4 finds the adjective-noun pairs by spaCy. Where its English model is installed it parses here too
(`pip install "comfyui-pinpoint[nlp]"`, then `python -m spacy download en_core_web_sm`); else rules do. They
are for captions ("a striped red cat on the beach"), not for prose; where they fail, name the words yourself
(`parse_prompt(nouns=…, bindings=…)`).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spacy.tokens import Doc, Token

SPACY_MODEL = "en_core_web_sm"
Spans = Sequence[tuple[int, int]]
Found = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]

_log = logging.getLogger(__name__)
_ADJECTIVE_ENDINGS = ("ful", "ous", "less", "ish", "like", "esque")


def find_nouns(text: str, spans: Spans) -> Found:
    """(nouns, pairs): indices of the words that name objects; (noun, adjective) indices in the nouns' order.

    spans: character spans of the words of `text`.
    "photo of a cat" names a cat, and a compound ("mountain lion") its last word.
    """
    parser = spacy_parser(SPACY_MODEL)
    return nouns_by_rules(text, spans) if parser is None else nouns_by_spacy(parser(text), spans)


@cache
def spacy_parser(model: str) -> Any | None:
    """spaCy's pipeline of this name; None where spaCy or the model is not installed or cannot be loaded."""
    if find_spec("spacy") is None:
        return None
    if find_spec(model) is None:
        _log.info("Rules find a prompt's nouns; to have spaCy parse it: python -m spacy download %s", model)
        return None
    try:
        import spacy

        return spacy.load(model, exclude=["ner", "lemmatizer"])
    except (ImportError, OSError, ValueError) as error:  # ValueError: built for another numpy
        _log.warning("spaCy's model %s cannot be loaded (%s); rules find a prompt's nouns", model, error)
        return None


def nouns_by_spacy(doc: Doc, spans: Spans) -> Found:
    """`find_nouns` from a parsed document (needs part-of-speech tags and dependencies)."""
    word_of = {
        token.i: index
        for token in doc
        for index, (start, end) in enumerate(spans)
        if token.idx < end and start < token.idx + len(token)
    }
    objects = [token for token in doc if token.pos_ in ("NOUN", "PROPN") and token.i in word_of and not _skipped(token)]
    nouns = {word_of[token.i] for token in objects}
    pairs = []
    for token in doc:
        noun = _described(token) if token.pos_ == "ADJ" or token.dep_ == "amod" else None
        if noun is not None and token.i in word_of and word_of.get(noun.i) in nouns:
            pairs.append((word_of[noun.i], word_of[token.i]))
    return tuple(sorted(nouns)), tuple(sorted({pair for pair in pairs if pair[0] != pair[1]}))


def _skipped(token: Token) -> bool:
    """A compound's first word, or a word for the image and not for an object in it."""
    if token.dep_ == "compound" and token.head.pos_ in ("NOUN", "PROPN"):
        return True
    following = token.doc[token.i + 1].lower_ if token.i + 1 < len(token.doc) else ""
    return following == "of" and _listed(token.lower_, "no objects before of")


def _described(adjective: Token) -> Token | None:
    """The noun that an adjective describes: "red cat", "red and white cat", "the cat is red"."""
    head = adjective
    while head.dep_ == "conj" and head.head.pos_ == "ADJ":
        head = head.head
    if head.dep_ == "amod":
        return head.head
    if head.dep_ in ("acomp", "oprd"):
        return next((child for child in head.head.children if child.dep_ in ("nsubj", "nsubjpass")), None)
    return None


def nouns_by_rules(text: str, spans: Spans) -> Found:
    """`find_nouns` by word lists and suffixes: cut the text into noun phrases, take the last word of each."""
    tagger = _Rules()
    words = [text[start:end].lower().replace("’", "'") for start, end in spans]
    for index, word in enumerate(words):
        gap = text[spans[index - 1][1] : spans[index][0]] if index else ""
        if gap.strip():
            tagger.join("," if gap.strip() == "," else ".", words[index:])
        if _listed(word, "conjunctions"):
            tagger.join("," if word in ("and", "or", "but") else ".", words[index + 1 :])
        else:
            tagger.read(index, word, words[index + 1 :])
    tagger.close()
    return tuple(sorted(set(tagger.nouns))), tuple(sorted(set(tagger.pairs)))


class _Rules:
    """The noun phrase being read, and what was found so far."""

    def __init__(self) -> None:
        self.nouns: list[int] = []
        self.pairs: list[tuple[int, int]] = []
        self.phrase: list[tuple[int, str]] = []  # (index, word) of adjectives and nouns read so far
        self.determined = ""  # the determiner that the phrase opened with
        self.opening = "start"  # what came before the phrase: start, preposition, verb, break

    def read(self, index: int, word: str, following: Sequence[str]) -> None:
        after = following[0] if following else ""
        prepositions = ["prepositions"]
        prepositions += ["no objects before of"] if after == "of" else []
        prepositions += ["sides"] if after in ("of", "to") else []
        if word == "that" and self.phrase:  # the cat that sat there
            self.close()
        elif _listed(word, "determiners") or word[0].isdigit():
            if self.phrase:
                self.close()
            self.determined = word
        elif _listed(word, *prepositions):
            self.close("preposition")
        elif _listed(word, "pronouns"):
            self.close()
        elif _listed(word, "copulas") or self._is_verb(word, after):
            self.close("verb")
        elif not is_adverb(word):
            self.phrase.append((index, word))
            if word.endswith(("'s", "s'")):  # the cat's hat: a cat and a hat
                self.close()

    def join(self, mark: str, following: Sequence[str]) -> None:
        """A comma or conjunction: "red and white cat" carries on, between objects it closes the phrase."""
        listed = self.phrase and all(is_adjective(word) for _, word in self.phrase)
        # "small, and red cat" is decided at the conjunction, which is in none of these lists.
        content = following and not _listed(following[0], "determiners", "prepositions", "pronouns")
        if not (mark == "," and listed and content):
            self.close()

    def close(self, opening: str = "break") -> None:
        """End the phrase: its last word is an object unless every word of it only describes."""
        phrase, determined, before = self.phrase, self.determined, self.opening
        self.phrase, self.determined, self.opening = [], "", opening
        if not phrase:
            return
        last, word = phrase[-1]
        describes = all(is_adjective(other) for _, other in phrase)
        if describes and (not _listed(word, "adjectives that are also nouns") or (before == "verb" and not determined)):
            if before == "verb" and self.nouns:  # "the cat is red", "a house painted red"
                self.pairs += [(self.nouns[-1], index) for index, _ in phrase]
            return
        self.nouns.append(last)
        self.pairs += [(last, index) for index, other in phrase[:-1] if is_adjective(other) or _is_participle(other)]

    def _is_verb(self, word: str, after: str) -> bool:
        named = any(not is_adjective(other) and not _is_participle(other) for _, other in self.phrase)
        colour_noun = bool(self.phrase) and _listed(self.phrase[-1][1], "adjectives that are also nouns")
        if _listed(word, "verbs"):
            return named or colour_noun or not (self.phrase or self.determined or self.opening == "preposition")
        if _is_participle(word) and not is_adjective(word):
            if named or colour_noun or not after or _breaks(after):
                return True
            return not self.phrase and not self.determined and self.opening in ("break", "verb")
        # "a wolf howls": a plural cannot end a phrase that opens with a or an
        plural = word.endswith("s") and not word.endswith(("ss", "us", "is", "as", "os", "lens"))
        return named and plural and "'" not in word and self.determined in ("a", "an")


def is_adjective(word: str) -> bool:
    """A word that describes: one of the lists, or so by its ending or its hyphen ("three-legged")."""
    if "-" in word:
        parts = word.split("-")
        return parts[0].isdigit() or _listed(parts[-1], "adjectives") or _is_participle(parts[-1])
    ending = len(word) > 5 and word.endswith(_ADJECTIVE_ENDINGS) and not word.endswith("fish")
    return ending or _listed(word, "adjectives", "adjectives that are also nouns")


def is_adverb(word: str) -> bool:
    """A word that describes neither an object nor a place of one: "very", "brightly", "outdoors"."""
    return _listed(word, "adverbs") or (len(word) > 4 and word[-2:] == "ly" and not _listed(word, "-ly but no adverb"))


def _is_participle(word: str) -> bool:
    ending = (word.endswith("ing") and len(word) > 5) or (word.endswith("ed") and len(word) > 4)
    return ending and not _listed(word, "-ed or -ing but no participle")


def _breaks(word: str) -> bool:
    return is_adverb(word) or _listed(word, "determiners", "prepositions", "conjunctions", "pronouns", "copulas")


@cache
def _word_lists() -> dict[str, frozenset[str]]:
    text = (Path(__file__).parent / "word_lists.txt").read_text(encoding="utf-8")
    sections = (section.split("]") for section in text.split("[")[1:])
    return {name: frozenset(words.split()) for name, words in sections}


def _listed(word: str, *names: str) -> bool:
    return any(word in _word_lists()[name] for name in names)
