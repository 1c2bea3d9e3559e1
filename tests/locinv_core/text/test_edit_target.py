"""Which word of a caption a prompt changes, and what the prompt says of it alone."""

from __future__ import annotations

import pytest

from pinpoint.locinv_core.text.edit_target import changed_noun, without_other_objects, word_to_edit
from pinpoint.tests.fixtures.clip_text import prompt


@pytest.mark.parametrize(
    ("caption", "edited", "word"),
    [
        ("a yellow cat and a red star", "a yellow fox and a red star", "cat"),
        ("a yellow cat and a red star", "a yellow cat and a green star", "star"),
        ("a yellow cat and a red star", "a yellow cat and a red dotted star", "star"),
        ("a yellow cat and a star", "a yellow cat and a star in a meadow", None),  # nothing named changes
        ("a yellow cat and a red star", "a yellow cat and a red star", None),
        ("a yellow cat and a red star", "a green cat and a green star", None),  # two do
        ("a cat and a red cat", "a cat and a green cat", "cat#2"),
        ("a Cat, on a mat.", "a dog, on a mat.", "Cat"),
    ],
)
def test_the_changed_word_is_the_one_noun_that_is_swapped_or_described_otherwise(
    caption: str, edited: str, word: str | None
) -> None:
    assert changed_noun(prompt(caption), prompt(edited)) == word


@pytest.mark.parametrize(
    ("caption", "edited", "word", "meant"),
    [
        ("a blue balloon and a pink car", "a blue balloon and a pink boat", "car", "car"),
        ("a blue balloon and a pink car", "a blue balloon and a green car", "pink car", "pink car"),
        ("a blue balloon and a pink car", "a blue balloon and a green car", "pink", "pink"),
        ("a blue balloon and a pink balloon", "a blue balloon and a pink fox", "balloon", "balloon#2"),
        ("a blue balloon and a pink balloon", "a blue balloon and a pink fox", "Balloon#2", "Balloon#2"),
        ("a cat and a dog", "a fox and a boat", "dog", "dog"),  # both change
        ("a cat and a dog", "a cat and a dog at night", "dog", "dog"),  # nothing named does
        ("two cats, a cat", "two cats, a fox", "cat", "cat"),
    ],
)
def test_the_word_that_is_named_is_the_one_of_its_name_that_the_prompt_changes(
    caption: str, edited: str, word: str, meant: str
) -> None:
    assert word_to_edit(prompt(caption), prompt(edited), word) == meant


@pytest.mark.parametrize(
    ("edited", "word", "message"),
    [
        ("a blue balloon and a pink boat", "balloon", "^word: got 'balloon', and the prompt changes 'car'"),
        ("a blue balloon and a pink boat", "balloon#1", "the prompt changes 'car'"),
        ("a blue balloon and a pink boat", "boat", "^word: 'boat' is not in the caption"),
        ("a blue balloon and a pink boat", "car#2", "^word: 'car#2' is not in the caption"),
    ],
)
def test_a_word_that_the_prompt_leaves_as_it_is_cannot_be_what_is_edited(edited: str, word: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        word_to_edit(prompt("a blue balloon and a pink car"), prompt(edited), word)


@pytest.mark.parametrize(
    ("caption", "edited", "word", "alone"),
    [
        (
            "a photo of a blue balloon and a pink car in the desert",
            "a photo of a blue balloon and a pink mushroom in the desert",
            "car",
            "a photo of a pink mushroom in the desert",
        ),
        (
            "a cat, a red dog and the tree at night",
            "a cat, a big dog and the tree at night",
            "dog",
            "a big dog at night",
        ),
        ("at night, a fox and a boat", "at night, a fox and a car", "boat", "at night, a car"),
        ("at night, a fox and a boat", "at night, a cat and a boat", "fox", "at night, a cat"),
        ("a cat and a red cat", "a cat and a green cat", "cat#2", "a green cat"),
        ("a cat on a sofa", "a fox on a sofa", "cat", "a fox on a sofa"),
        ("a cat and a dog", "a dog", "cat", "a dog"),  # nothing has come in its place
        ("a yellow cat and a star", "a yellow cat and a striped star", "star", "a striped star"),
    ],
)
def test_the_prompt_of_one_object_leaves_out_those_listed_beside_it(
    caption: str, edited: str, word: str, alone: str
) -> None:
    assert without_other_objects(prompt(caption), prompt(edited), word) == alone
