"""The settings of an edit: their bounds, shares of the steps by word, and the names that they had before."""

from __future__ import annotations

import pytest

from pinpoint.locinv_core.editing.settings import EditSettings, with_current_names


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guidance", -0.1),
        ("guidance", 101),
        ("guidance", float("nan")),
        ("guidance", "7.5"),
        ("guidance", True),
        ("cross_replace_steps", 1.1),
        ("self_replace_steps", -1),
        ("local_blend", "prior+maps"),
        ("blend_start", float("inf")),
        ("blend_threshold", 2),
        ("blend_grow", -1),
        ("blend_grow", 1.5),
        ("target_embeddings", "values"),
        ("attribute_attention", "keys"),
        ("proximal_quantile", 1.01),
        ("proximal_pull", None),
        ("proximal_until", -0.5),
        ("proximal_grow", True),
        ("cross_replace_steps", {"fox": (0.5, 0.2)}),
        ("cross_replace_steps", {"fox": "half"}),
        ("cross_replace_steps", {"fox": (0.0, 1.5)}),
        ("equalizer", {"fox": float("nan")}),
        ("equalizer", {"fox": "much"}),
        ("equalizer", 2.0),
        ("cross_replace_steps", ((0.0, 0.5),)),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_its_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}"):
        EditSettings(**{name: value})


@pytest.mark.parametrize(
    ("given", "ranges"),
    [
        (0.5, {"default_": (0, 0.5)}),
        ((0.1, 0.6), {"default_": (0.1, 0.6)}),
        ({"fox": 0.3}, {"default_": (0, 0.8), "fox": (0, 0.3)}),
        ({"fox": [0.2, 1], "default_": 0.4}, {"default_": (0, 0.4), "fox": (0.2, 1)}),
    ],
)
def test_cross_replace_steps_are_a_share_or_a_start_and_an_end_for_all_words_or_by_word(given, ranges):
    assert EditSettings(cross_replace_steps=given).cross_replace_ranges == ranges


def test_settings_are_read_under_the_names_that_they_had_before():
    old = {"guidance": 3.0, "blend": "off", "carry": "keys", "in_place": "tuned", "self_replace": 0.1}
    new = {
        "guidance": 3.0,
        "local_blend": "off",
        "target_embeddings": "keys",
        "attribute_attention": "tuned",
        "self_replace_steps": 0.1,
    }
    assert with_current_names(old) == new
    assert with_current_names({"word_ranges": {"fox": (0, 0.5)}, "cross_replace": 0.6, "reweight": {"fox": 2}}) == {
        "cross_replace_steps": {"default_": 0.6, "fox": (0, 0.5)},
        "equalizer": {"fox": 2},
    }
    assert with_current_names({"word_ranges": {}}) == {}
    with pytest.raises(ValueError, match="blend: got 'off', but 'local_blend', which is the same setting"):
        with_current_names({"local_blend": "map", "blend": "off"})
    with pytest.raises(ValueError, match=r"word_ranges: got 0.5, requires two shares"):
        with_current_names({"word_ranges": 0.5})
