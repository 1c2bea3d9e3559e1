"""Objects by a phrase: what is kept of answers that are planted, and what is refused."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from pinpoint.locinv_core.localization.prior_sources.from_clipseg import ClipSeg
from pinpoint.locinv_core.localization.prior_sources.from_grounding_dino import GroundingDino
from pinpoint.locinv_core.localization.prior_sources.from_text import load_text_locator, prior_from_text
from pinpoint.tests.fixtures.tiny_editors import smooth_image
from pinpoint.tests.fixtures.tiny_locators import write_tiny_clipseg, write_tiny_dino


@pytest.fixture(name="dino_folder", scope="module")
def _dino_folder(tmp_path_factory):
    return write_tiny_dino(tmp_path_factory.mktemp("dino"))


@pytest.fixture(name="clipseg_folder", scope="module")
def _clipseg_folder(tmp_path_factory):
    return write_tiny_clipseg(tmp_path_factory.mktemp("clipseg"))


@dataclass(frozen=True, eq=False)
class PlantedBoxes(GroundingDino):
    """A detector whose answer is planted."""

    found: tuple = ()
    sure: tuple = ()

    def tokens(self, phrase):
        return 4, 256

    def boxes(self, image, phrase):
        return torch.tensor(self.found).reshape(-1, 4), torch.tensor(self.sure)


@dataclass(frozen=True, eq=False)
class PlantedMap(ClipSeg):
    """A segmenter whose answer is planted."""

    values: object = None

    def tokens(self, phrase):
        return 4, 256

    def sureness(self, image, phrase):
        return self.values


def test_of_several_boxes_the_surest_is_kept_or_all():
    locator = PlantedBoxes(None, None, "planted", ((2.0, 3, 9, 8), (10, 10, 14, 12), (0, 0, 5, 5)), (0.9, 0.5, 0.1))
    image = torch.zeros(1, 3, 16, 16)
    best = prior_from_text(locator, image, {"cat": "cat"}).mask("cat")
    both = prior_from_text(locator, image, {"cat": "cat"}, keep="all").mask("cat")
    wanted = torch.zeros(16, 16)
    wanted[3:8, 2:9] = 1
    assert torch.equal(best, wanted)
    wanted[10:12, 10:14] = 1
    assert torch.equal(both, wanted)
    assert prior_from_text(locator, image, {"cat": "cat"}).kind == "detection"


def test_of_several_patches_the_surest_is_kept_or_all():
    values = torch.full((12, 12), 0.05)
    values[1:4, 1:4] = 0.7
    values[6:10, 6:11] = 0.6
    values[8, 8] = 0.95
    locator, image = PlantedMap(None, None, "planted", values), torch.zeros(1, 3, 12, 12)
    best = prior_from_text(locator, image, {"cat": "cat"}).mask("cat")
    assert best.sum() == 20 and best[8, 8] == 1 and best[2, 2] == 0
    assert prior_from_text(locator, image, {"cat": "cat"}, keep="all").mask("cat").sum() == 29
    assert prior_from_text(locator, image, {"cat": "cat"}, threshold=0.8).mask("cat").sum() == 1


def test_what_is_not_found_is_said_with_how_sure_the_model_was():
    image = torch.zeros(1, 3, 16, 16)
    unsure = PlantedBoxes(None, None, "planted", ((2.0, 3, 9, 8),), (0.21,))
    with pytest.raises(ValueError, match=r"'old cat' for 'cat' was not found.*0\.21.*requires 0\.3"):
        prior_from_text(unsure, image, {"cat": "old cat"})
    with pytest.raises(ValueError, match=r"more than 0\.00 sure"):
        prior_from_text(PlantedBoxes(None, None, "planted"), image, {"cat": "cat"})
    with pytest.raises(ValueError, match=r"more than 0\.20 sure"):
        prior_from_text(PlantedMap(None, None, "planted", torch.full((16, 16), 0.2)), image, {"cat": "cat"})


def test_bad_input_is_refused_before_any_pass(dino_folder, clipseg_folder):
    dino, clipseg = load_text_locator(dino_folder), load_text_locator(clipseg_folder)
    image = smooth_image()
    for locator, longest in ((dino, 16), (clipseg, 77)):
        with pytest.raises(ValueError, match=rf"tokens, and the model reads {longest}"):
            prior_from_text(locator, image, {"cat": "cat " * 100})
    for changes, message in (
        ({"phrases": {}}, "words: got none"),
        ({"phrases": {"cat": " . "}}, "'cat' is to be found by an empty text"),
        ({"phrases": {"cat": "cat"}, "threshold": 1.0}, "threshold: got 1.0"),
        ({"phrases": {"cat": "cat"}, "keep": "some"}, "keep: got 'some'"),
    ):
        with pytest.raises(ValueError, match=message):
            prior_from_text(dino, image, **changes)
