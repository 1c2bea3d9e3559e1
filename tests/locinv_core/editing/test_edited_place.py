"""Which part of the image an edit may change: the masks of its objects."""

from __future__ import annotations

import torch

from pinpoint.locinv_core.editing.edited_objects import edited_mask
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.tests.fixtures import tiny_models


def test_an_edit_has_its_objects_places_or_all_places_if_one_of_its_objects_has_none():
    tokenizer = tiny_models.tiny_model().tokenizer
    source, swap, other = (
        parse_prompt(f"a {first} and a {second} and a {third}", tokenizer)
        for first, second, third in (
            ("cat", "star", "house"),
            ("fox", "star", "house"),
            ("cat", "star", "boat"),
        )
    )
    prior = from_boxes({"cat": (0, 0, 8, 8), "star": (20, 20, 30, 30)}, (66, 70))
    assert torch.equal(edited_mask(source, swap, prior), prior.mask("cat"))
    assert torch.equal(edited_mask(source, other, prior), prior.union())
    grown = edited_mask(source, swap, prior, grown=2)
    assert grown[:8, :10].all() and grown[:10, :8].all()  # two pixels more where the image goes on
    assert not grown[10:].any() and not grown[:, 10:].any()


def test_an_edit_that_weighs_a_word_has_its_objects_place_too():
    tokenizer = tiny_models.tiny_model().tokenizer
    source, swap = (parse_prompt(f"a {first} and a star and a house", tokenizer) for first in ("cat", "fox"))
    prior = from_boxes({"cat": (0, 0, 8, 8), "star": (20, 20, 30, 30), "house": (40, 40, 60, 60)}, (66, 70))
    both = torch.maximum(prior.mask("cat"), prior.mask("star"))
    assert torch.equal(edited_mask(source, swap, prior, reweighted=["star"]), both)
    assert torch.equal(edited_mask(source, source, prior, reweighted=["house"]), prior.mask("house"))
    # A word of another target has no part in this one.
    assert torch.equal(edited_mask(source, swap, prior, reweighted=["wolf"]), prior.mask("cat"))
