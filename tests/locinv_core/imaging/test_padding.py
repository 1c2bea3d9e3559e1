"""Priors reach the padded frame of an image with nothing in the padding; maps and masks come back without
it."""

from __future__ import annotations

import pytest
import torch

from pinpoint.locinv_core.editing.local_blend import edited_place
from pinpoint.locinv_core.imaging.io import Padding
from pinpoint.locinv_core.imaging.padding import map_on_image, mask_on_image, padded_prior
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.tests.fixtures import tiny_models

# 70x66 pixels, padded to 72x72.
FRAMING = Padding.of(66, 70, 8)


def test_a_prior_is_padded_with_nothing_and_one_of_another_size_is_refused():
    framed = padded_prior(from_boxes({"cat": (60, 50, 70, 66)}, (66, 70)), FRAMING)
    assert framed.size == (72, 72)
    assert framed.mask("cat").sum() == 10 * 16
    with pytest.raises(ValueError, match="prior: its masks have 64x64 pixels, requires the image's 70x66"):
        padded_prior(from_boxes({"cat": (0, 0, 9, 9)}, (64, 64)), FRAMING)


def test_a_map_is_interpolated_between_the_centres_of_its_cells_and_cropped():
    values = torch.arange(9.0).expand(9, 9)
    shown = map_on_image(values, FRAMING)
    assert shown.shape == (66, 70)
    # Cells are 8 pixels wide: the centre of cell c lies between pixels 8c + 3 and 8c + 4.
    assert torch.allclose((shown[:, 11] + shown[:, 12]) / 2, torch.ones(66))
    assert torch.allclose(shown[:, 12:60].diff(dim=1), torch.full((66, 47), 1 / 8), atol=1e-5)


def test_a_mask_of_cells_keeps_hard_edges_and_is_cropped():
    mask = torch.zeros(9, 9)
    mask[1, 8] = 1
    expected = torch.zeros(66, 70)
    expected[8:16, 64:70] = 1
    assert torch.equal(mask_on_image(mask, FRAMING), expected)


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
    assert torch.equal(edited_place(source, swap, prior), prior.mask("cat"))
    assert torch.equal(edited_place(source, other, prior), prior.union())
    grown = edited_place(source, swap, prior, grown=2)
    assert grown[:8, :10].all() and grown[:10, :8].all()  # two pixels more where the image goes on
    assert not grown[10:].any() and not grown[:, 10:].any()


def test_an_edit_that_weighs_a_word_has_its_objects_place_too():
    tokenizer = tiny_models.tiny_model().tokenizer
    source, swap = (parse_prompt(f"a {first} and a star and a house", tokenizer) for first in ("cat", "fox"))
    prior = from_boxes({"cat": (0, 0, 8, 8), "star": (20, 20, 30, 30), "house": (40, 40, 60, 60)}, (66, 70))
    both = torch.maximum(prior.mask("cat"), prior.mask("star"))
    assert torch.equal(edited_place(source, swap, prior, reweighted=["star"]), both)
    assert torch.equal(edited_place(source, source, prior, reweighted=["house"]), prior.mask("house"))
    # A word of another target has no part in this one.
    assert torch.equal(edited_place(source, swap, prior, reweighted=["wolf"]), prior.mask("cat"))
