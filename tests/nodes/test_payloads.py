"""What travels between the nodes keeps an image's own size through the padding that a model needs."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pinpoint.locinv_core.imaging.padding import Padding
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.nodes.bridge.payloads import InvertedImage, WordMaps, check_prompt, noun_names
from pinpoint.tests.fixtures import tiny_models


def imaged(latents: torch.Tensor) -> InvertedImage:
    """An image of 70x66 pixels, padded to 72x72."""
    inversion = Inversion(latents, (1,), SimpleNamespace(), "fingerprint")  # type: ignore[arg-type]
    padding = Padding.of(66, 70, 8)
    return InvertedImage(SimpleNamespace(), torch.rand(1, 3, 66, 70), padding, inversion)  # type: ignore


def test_a_prior_of_the_images_size_is_padded_with_nothing():
    padded = imaged(torch.zeros(2, 4, 9, 9)).padded(from_boxes({"cat": (60, 50, 70, 66)}, (66, 70)))
    assert padded.size == (72, 72)
    assert padded.mask("cat").sum() == 10 * 16


def test_a_prior_of_another_size_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match="prior: its masks have 64x64 pixels, requires the image's 70x66"):
        imaged(torch.zeros(2, 4, 9, 9)).padded(from_boxes({"cat": (0, 0, 9, 9)}, (64, 64)))


def test_a_map_of_the_padded_image_is_cropped_to_the_image():
    columns = torch.zeros(9, 9)
    columns[:, 0] = 1
    shown = imaged(torch.zeros(2, 4, 9, 9)).on_image(columns)
    assert shown.shape == (66, 70)
    # Cells are 8 pixels wide: the first 4 columns lie before the first cell's centre.
    assert bool((shown[:, :4] == 1).all()) and bool((shown[:, 16:] == 0).all())


def test_an_inversion_of_another_image_or_size_is_refused():
    latents = torch.randn(1, 4, 9, 9)
    inversion = imaged(torch.cat([latents, torch.randn(1, 4, 9, 9)])).inversion
    inversion.check_image(latents * 1.01, 8)
    with pytest.raises(ValueError, match="made of another image"):
        inversion.check_image(latents + 1, 8)
    with pytest.raises(ValueError, match="made of an image of 72x72 pixels, requires one of 64x72"):
        inversion.check_image(torch.randn(1, 4, 9, 8), 8)


def test_a_prompt_that_another_tokenizer_read_is_refused():
    model = tiny_models.tiny_model()
    managed = SimpleNamespace(value=model)
    prompt = parse_prompt("a cat", model.tokenizer)
    check_prompt(prompt, managed)
    other = type(prompt)("a cat", prompt.token_ids[:-1], prompt.words, (), (), prompt.length)
    with pytest.raises(ValueError, match="read for another model"):
        check_prompt(other, managed)


def test_maps_are_chosen_by_word_whatever_its_capitals_and_masks_are_shares_of_the_maximum():
    fox = torch.tensor([[0.1, 0.2], [0.0, 0.4]])
    maps = WordMaps(torch.rand(1, 3, 2, 2), {"Fox": fox, "star": torch.ones(2, 2)}, {"star": torch.zeros(2, 2)})
    assert maps.only([]) is maps
    chosen = maps.only(["fox"])
    assert list(chosen.maps) == ["Fox"] and not chosen.before
    assert torch.equal(chosen.shares(), torch.tensor([[[0.25, 0.5], [0.0, 1.0]]]))
    with pytest.raises(ValueError, match="no map of 'wolf'; there are maps of: Fox, star"):
        maps.only(["wolf"])


def test_masks_of_words_with_maps_are_found_whatever_their_capitals():
    maps = WordMaps(torch.rand(1, 3, 66, 70), {"Cat": torch.ones(66, 70), "star": torch.ones(66, 70)}, {})
    prior = from_boxes({"cat": (0, 0, 9, 9), "moon": (20, 20, 30, 30)}, (66, 70))
    assert maps.masks_of(None) == {}
    found = maps.masks_of(prior)
    assert list(found) == ["Cat"] and found["Cat"].sum() == 81


def test_a_prior_of_an_image_of_another_size_are_refused():
    maps = WordMaps(torch.rand(1, 3, 66, 70), {"cat": torch.ones(66, 70)}, {})
    with pytest.raises(ValueError, match="prior: its masks have 64x64 pixels, requires the image's 70x66"):
        maps.masks_of(from_boxes({"cat": (0, 0, 9, 9)}, (64, 64)))


def test_objects_are_called_so_that_each_is_found_again():
    prompt = parse_prompt("a cat and a Cat", tiny_models.tiny_model().tokenizer, nouns=["cat", "cat#2"])
    names = noun_names(prompt)
    assert names == ["cat", "Cat#2"]
    assert [prompt.find(name).start for name in names] == [2, 12]
