"""Nouns and their adjectives: captions read by hand, and spaCy documents annotated by hand."""

from __future__ import annotations

import importlib.util

import pytest

from pinpoint.locinv_core.text import noun_phrases as module
from pinpoint.locinv_core.text.noun_phrases import find_nouns, nouns_by_rules, nouns_by_spacy
from pinpoint.locinv_core.text.prompt import word_spans

CAPTIONS = {
    "a striped red cat and a wooden house on the beach": (
        "cat house beach",
        "cat:striped cat:red house:wooden",
    ),
    "a photo of a cat": ("cat", ""),
    "An image of a group of people in front of a big house.": ("people house", "house:big"),
    "a red and white cat": ("cat", "cat:red cat:white"),
    "a red, white and blue flag": ("flag", "flag:red flag:white flag:blue"),
    "a small, fluffy dog": ("dog", "dog:small dog:fluffy"),
    "a green tree, blue sky": ("tree sky", "tree:green sky:blue"),
    "a photo of a mountain lion sitting on a wooden bench next to a mirror": (
        "lion bench mirror",
        "bench:wooden",
    ),
    "the cat is red": ("cat", "cat:red"),
    "the house is painted bright blue": ("house", "house:bright house:blue"),
    "an orange on a table": ("orange table", ""),
    "an orange cat and a gold fish at night": ("cat fish night", "cat:orange fish:gold"),
    "a glass of water": ("glass water", ""),
    "the cat's hat": ("cat's hat", ""),
    "a man riding a horse": ("man horse", ""),
    "a running dog near a parked car": ("dog car", "dog:running car:parked"),
    "A wolf standing in the snow, looking at the camera.": ("wolf snow camera", ""),
    "a white wolf howls": ("wolf", "wolf:white"),
    "a woman dressed in red holding an umbrella": ("woman umbrella", ""),
    "the big cat that ate the fish": ("cat fish", "cat:big"),
    "an ice-cream and a three-legged, dark-red stool": (
        "ice-cream stool",
        "stool:three-legged stool:dark-red",
    ),
    "a very friendly butterfly on a brightly coloured building": (
        "butterfly building",
        "butterfly:friendly building:coloured",
    ),
    "a plain blue boat on the sea and a dotted pink balloon in the meadow at night": (
        "boat sea balloon meadow night",
        "boat:plain boat:blue balloon:dotted balloon:pink",
    ),
    "a tree with leaves": ("tree leaves", ""),
    "cat": ("cat", ""),
    "red": ("", ""),
}


@pytest.mark.parametrize("caption", CAPTIONS)
def test_the_rules_read_a_caption_as_a_person_does(caption: str) -> None:
    spans = word_spans(caption)
    words = [caption[start:end] for start, end in spans]
    nouns, pairs = nouns_by_rules(caption, spans)
    assert " ".join(words[index] for index in nouns) == CAPTIONS[caption][0]
    assert " ".join(f"{words[noun]}:{words[adjective]}" for noun, adjective in pairs) == CAPTIONS[caption][1]


def test_repeated_nouns_keep_their_own_adjectives() -> None:
    text = "a red cat and a blue cat"
    assert nouns_by_rules(text, word_spans(text)) == ((2, 6), ((2, 1), (6, 5)))


def spacy_doc(annotated: str):
    """A document from `word/POS/dependency/head` items: what a parser would say, written by hand."""
    spacy = pytest.importorskip("spacy")
    from spacy.tokens import Doc

    rows = [item.split("/") for item in annotated.split()]
    return Doc(
        spacy.blank("en").vocab,
        words=[row[0] for row in rows],
        pos=[row[1] for row in rows],
        deps=[row[2] for row in rows],
        heads=[int(row[3]) for row in rows],
    )


@pytest.mark.parametrize(
    ("annotated", "nouns", "pairs"),
    [
        ("a/DET/det/2 red/ADJ/amod/2 cat/NOUN/ROOT/2", (2,), ((2, 1),)),
        (
            "a/DET/det/4 red/ADJ/amod/4 and/CCONJ/cc/1 white/ADJ/conj/1 cat/NOUN/ROOT/4",
            (4,),
            ((4, 1), (4, 3)),
        ),
        ("the/DET/det/1 cat/NOUN/nsubj/2 is/AUX/ROOT/2 red/ADJ/acomp/2", (1,), ((1, 3),)),
        (
            "a/DET/det/1 photo/NOUN/ROOT/1 of/ADP/prep/1 a/DET/det/5 mountain/NOUN/compound/5 lion/NOUN/pobj/2",
            (5,),
            (),
        ),
        ("a/DET/det/2 parked/VERB/amod/2 car/NOUN/ROOT/2", (2,), ((2, 1),)),
        ("Paris/PROPN/ROOT/0", (0,), ()),
    ],
)
def test_a_spacy_parse_gives_heads_and_their_adjectives(annotated: str, nouns: tuple, pairs: tuple) -> None:
    doc = spacy_doc(annotated)
    assert nouns_by_spacy(doc, word_spans(doc.text)) == (nouns, pairs)


def test_spacys_tokens_are_joined_to_our_words_by_their_characters() -> None:
    # spaCy cuts "ice-cream" in three and the text has punctuation; ours are a, cold, ice-cream.
    doc = spacy_doc("a/DET/det/5 cold/ADJ/amod/5 ,/PUNCT/punct/5 ice/NOUN/compound/5 -/PUNCT/punct/5 cream/NOUN/ROOT/5")
    spans = [(0, 1), (2, 6), (9, 20)]
    assert doc.text[9:20] == "ice - cream"
    assert nouns_by_spacy(doc, spans) == ((2,), ((2, 1),))


def test_without_spacys_model_the_rules_read_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_spacy_parser", lambda: None)
    assert find_nouns("a red cat", word_spans("a red cat")) == ((2,), ((2, 1),))


def test_a_model_that_does_not_load_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    spacy = pytest.importorskip("spacy")

    def broken(*_: object, **__: object) -> None:
        raise OSError("cannot find the model's data")

    monkeypatch.setattr(spacy, "load", broken)
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: object())
    assert module._spacy_parser.__wrapped__() is None


@pytest.mark.skipif(
    importlib.util.find_spec(module.SPACY_MODEL) is None, reason="spaCy's English model is not installed"
)
def test_spacys_english_model_reads_the_papers_kind_of_caption() -> None:
    text = "a striped red cat and a wooden house on the beach"
    nouns, pairs = find_nouns(text, word_spans(text))
    assert nouns == (3, 7, 10)
    assert set(pairs) >= {(3, 2), (7, 6)}
