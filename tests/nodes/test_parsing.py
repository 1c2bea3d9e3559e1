"""Text fields are read as their tooltips say, and what cannot be read is quoted."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.nodes.bridge.parsing import (
    NO_NOUN,
    boxes_from_text,
    factors_from_text,
    nouns_from_text,
    pairs_from_text,
    phrases_from_text,
    points_from_text,
    ranges_from_text,
    sam_prompts,
    sentence_pairs_from_text,
    sentences_from_text,
    words_from_text,
)
from pinpoint.tests.fixtures.tiny_models import tiny_model


def test_boxes_are_read_line_by_line_and_those_of_one_word_are_kept_together():
    text = "cat=11,30,57,73\n\n cat#2 = 1.5, 2, 3, 4 \ncat=0,0,5,5"
    assert boxes_from_text(text) == {"cat": [(11, 30, 57, 73), (0, 0, 5, 5)], "cat#2": [(1.5, 2, 3, 4)]}


@pytest.mark.parametrize("line", ["cat", "cat=1,2,3", "cat=1,2,3,x", "=1,2,3,4", "cat=1,2,3,4,5"])
def test_a_line_that_is_no_box_is_quoted(line):
    with pytest.raises(ValueError, match=f"boxes: got the line '{line}'"):
        boxes_from_text(f"dog=1,2,3,4\n{line}")


def test_no_box_at_all_is_refused():
    with pytest.raises(ValueError, match="boxes: got none"):
        boxes_from_text(" \n ")


def test_factors_and_ranges_are_read_by_word():
    assert factors_from_text("fox=1.5, red = -2\nmountain lion=3") == {
        "fox": 1.5,
        "red": -2.0,
        "mountain lion": 3.0,
    }
    assert ranges_from_text("fox=0-0.5, red=.25 – 1") == {"fox": (0.0, 0.5), "red": (0.25, 1.0)}
    assert factors_from_text("") == {} and ranges_from_text(" ") == {}


@pytest.mark.parametrize("text", ["fox", "fox=much"])
def test_a_factor_that_is_no_number_is_quoted(text):
    with pytest.raises(ValueError, match=f"equalizer: got '{text}'"):
        factors_from_text(text)


@pytest.mark.parametrize("text", ["fox=0.5", "fox=a-b"])
def test_a_range_that_is_no_range_is_quoted(text):
    with pytest.raises(ValueError, match=f"word_ranges: got '{text}'"):
        ranges_from_text(text)


def test_pairs_and_words_are_lists_by_comma_or_line():
    assert pairs_from_text("yellow:cat, red : star") == [("yellow", "cat"), ("red", "star")]
    assert words_from_text("cat, mountain lion\nstar,") == ["cat", "mountain lion", "star"]
    with pytest.raises(ValueError, match="bindings: got 'yellow cat'"):
        pairs_from_text("yellow cat")


def test_sentence_pairs_and_templates_are_read_line_by_line():
    assert sentence_pairs_from_text("a cat -> a fox\n\n the old cat->the old, red fox ") == (
        ("a cat", "a fox"),
        ("the old cat", "the old, red fox"),
    )
    assert sentence_pairs_from_text(" \n") == ()
    assert sentences_from_text("a {}\n\n  one {}, alone ") == ("a {}", "one {}, alone")


@pytest.mark.parametrize("line", ["a cat, a fox", "a cat ->", "-> a fox"])
def test_a_pair_without_two_sentences_is_quoted(line):
    with pytest.raises(ValueError, match=f"pairs: got the line '{line}'"):
        sentence_pairs_from_text(f"a cat -> a fox\n{line}")


def test_the_words_that_name_objects_are_listed_none_of_them_or_left_to_grammar():
    assert nouns_from_text("cat, mountain lion") == ["cat", "mountain lion"]
    assert nouns_from_text(" - ") == []
    assert nouns_from_text("") is None and nouns_from_text(" , \n") is None


def test_a_prompt_whose_list_of_objects_is_a_dash_names_none():
    tokenizer = tiny_model().tokenizer
    found = parse_prompt("a yellow cat", tokenizer, nouns=nouns_from_text(""))
    assert [found.words[index].text for index in found.nouns] == ["cat"]
    none = parse_prompt("a yellow cat", tokenizer, nouns=nouns_from_text("-"))
    assert none.nouns == () and none.pairs == ()


def test_the_browser_writes_the_same_sign_for_no_object():
    script = Path(__file__).resolve().parents[2] / "web" / "lib" / "prompt_words.js"
    assert f'export const NO_NOUN = "{NO_NOUN}";' in script.read_text(encoding="utf-8")


def test_points_on_an_object_and_beside_it_are_told_apart():
    on, off = points_from_text("cat=3,4\ncat != 10.5, 2; cat#2 = 0,0\n\ncat=7,8")
    assert on == {"cat": [(3.0, 4.0), (7.0, 8.0)], "cat#2": [(0.0, 0.0)]}
    assert off == {"cat": [(10.5, 2.0)]}
    assert points_from_text(" \n") == ({}, {})


@pytest.mark.parametrize("line", ["cat", "cat=3", "cat=3,4,5", "=3,4", "!=3,4", "cat=a,b", "3,4"])
def test_a_line_that_is_no_point_is_quoted(line):
    with pytest.raises(ValueError, match="points: got the line") as caught:
        points_from_text(f"cat=1,1\n{line}")
    assert repr(line) in str(caught.value)


def test_a_word_is_looked_for_by_its_phrase_or_by_itself():
    phrases = phrases_from_text("cat = yellow cat on the left\nstar; cat#2")
    assert phrases == {"cat": "yellow cat on the left", "star": "star", "cat#2": "cat"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" \n ", "words: got none"),
        ("cat=", "got the line 'cat='"),
        ("=a cat", "got the line '=a cat'"),
        ("cat\ncat=old", "'cat' is given twice"),
        ("cat\nCat=old", "'Cat' is given twice"),
    ],
)
def test_a_line_that_describes_nothing_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        phrases_from_text(text)


def test_boxes_and_points_of_a_word_come_together_whatever_its_capitals():
    prior = from_boxes({"cat": (2, 3, 10, 12), "dog": (20, 20, 30, 30)}, (64, 64))
    places = sam_prompts("", "Cat=5,6\nCAT!=9,10", prior)
    assert list(places) == ["cat", "dog"]
    assert (places["cat"].boxes, places["cat"].on, places["cat"].off) == (
        ((2, 3, 10, 12),),
        ((5, 6),),
        ((9, 10),),
    )
    # What is typed goes before the prior's box.
    typed = sam_prompts("Dog=1,1,5,5\ndog#1=6,6,9,9", "", prior)
    assert typed["dog"].boxes == ((1, 1, 5, 5), (6, 6, 9, 9)) and typed["cat"].boxes == ((2, 3, 10, 12),)
    with pytest.raises(ValueError, match="neither a box, a point nor a prior"):
        sam_prompts(" ", "", None)
