"""Held-out trials: what the editor is asked to draw."""

from __future__ import annotations

from pinpoint.tests.fixtures.trials import held_out_trial


def test_the_wish_is_the_new_object_in_the_scenes_place_and_nothing_else() -> None:
    for number in range(40, 52):
        trial = held_out_trial(number, objects=2)
        others = [noun for k, noun in enumerate(trial.nouns) if k != trial.edit.index]
        article, rest = trial.wish.split(" ", 1)
        assert article in ("a", "an") and rest.startswith(trial.edit.target_phrase)
        assert not any(noun in trial.wish.split() for noun in others)
        place = rest.removeprefix(trial.edit.target_phrase).strip()
        assert place and place in trial.target
