"""Which word a prompt changes, and where it is found."""

from __future__ import annotations

import pytest
import torch

from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.encoders.clip import load_clip
from pinpoint.region_core.encoders.vit import load_vit
from pinpoint.region_core.object_localization.attention_localizer import Located
from pinpoint.region_core.object_localization.box_ranking import Place
from pinpoint.region_core.object_localization.word_place import (
    changed_noun,
    find_changed,
    place_of,
    without_company,
    word_to_edit,
)
from pinpoint.research.embedded_world.checks.trials import held_out_trial
from pinpoint.research.embedded_world.scenes.wording import overlap
from pinpoint.tests.fixtures.clip_text import prompt
from pinpoint.tests.fixtures.tiny_editors import small_model


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
def test_the_editor_is_told_of_the_object_without_those_beside_it(
    caption: str, edited: str, word: str, alone: str
) -> None:
    assert without_company(prompt(caption), prompt(edited), word) == alone


def test_the_changed_object_is_found_in_a_scene_of_two() -> None:
    model, vision, guide = load_edit_model("embedded"), load_vit("embedded"), load_clip("embedded")
    for number in (3, 8):
        trial, tracker = held_out_trial(number, objects=2, kind="swap"), CostTracker()
        located = find_changed(model, vision, guide, trial.image, trial.source, trial.target, tracker=tracker)
        assert located is not None and located.word == trial.noun
        assert overlap(located.box, trial.boxes[trial.edit.index]) > 0.5
        assert tracker.total < 6  # one early-stopped pass a noise level
        other = trial.nouns[1 - trial.edit.index]
        told = find_changed(model, vision, guide, trial.image, trial.source, trial.target, word=other)
        assert told is not None
        assert overlap(told.box, trial.boxes[1 - trial.edit.index]) > 0.5


def test_nothing_is_looked_for_where_no_one_word_changes_or_the_model_would_cut_the_text() -> None:
    model, tracker = small_model(), CostTracker()
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert find_changed(model, None, None, picture, "a cat", "a cat", tracker=tracker) is None
    long = "a cat " * 60
    assert find_changed(model, None, None, picture, long, "a dog", tracker=tracker) is None
    assert tracker.total == 0
    with pytest.raises(ValueError, match="'dog' is not in the prompt"):
        find_changed(model, None, None, picture, "a cat", "a dog", word="dog")
    with pytest.raises(ValueError, match="tokens"):
        find_changed(model, None, None, picture, long, "a dog", word="cat")


def test_a_found_place_is_its_box() -> None:
    located = Located(
        "cat", "a cat", (Place((2.0, 1.0, 5.0, 3.0), 1.0, 1.0, None),), torch.ones(2, 2), torch.zeros(0, 2)
    )
    mask = place_of(located, (4, 6))
    assert mask.tolist() == [[0] * 6, [0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [0] * 6]
