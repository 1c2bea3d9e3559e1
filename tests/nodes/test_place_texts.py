"""Points and phrases as artists type them."""

from __future__ import annotations

import pytest

from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.nodes.bridge.place_texts import phrases_from_text, places_of, points_from_text


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


def test_a_words_places_come_together_whatever_its_capitals():
    prior = from_boxes({"cat": (2, 3, 10, 12), "dog": (20, 20, 30, 30)}, (64, 64))
    places = places_of("", "Cat=5,6\nCAT!=9,10", prior)
    assert list(places) == ["cat", "dog"]
    assert (places["cat"].boxes, places["cat"].on, places["cat"].off) == (
        ((2, 3, 10, 12),),
        ((5, 6),),
        ((9, 10),),
    )
    # What is typed goes before the prior's place.
    typed = places_of("Dog=1,1,5,5\ndog#1=6,6,9,9", "", prior)
    assert typed["dog"].boxes == ((1, 1, 5, 5), (6, 6, 9, 9)) and typed["cat"].boxes == ((2, 3, 10, 12),)
    with pytest.raises(ValueError, match="neither a box, a point nor a prior"):
        places_of(" ", "", None)
