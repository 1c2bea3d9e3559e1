"""Objects by text: as plain arithmetic has them, on random weights of the real architectures; what is kept, on
answers that are planted."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPSegForImageSegmentation, GroundingDinoForObjectDetection

from pinpoint.locinv_core.backbones.clip_tokenizer import clip_tokenizer
from pinpoint.locinv_core.imaging.io import to_pil
from pinpoint.locinv_core.localization.prior_from_text import (
    ClipSeg,
    GroundingDino,
    load_text_locator,
    prior_from_text,
)
from pinpoint.tests.fixtures.tiny_editors import smooth_image
from pinpoint.tests.fixtures.tiny_encoders import write_tiny_vit
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


def test_grounding_dino_s_boxes_are_where_its_tokens_are_surest(dino_folder):
    locator = load_text_locator(dino_folder)
    assert isinstance(locator, GroundingDino)
    image = smooth_image(64, 96)
    boxes, sureness = locator.boxes(image, "Yellow Cat")
    model = GroundingDinoForObjectDetection.from_pretrained(dino_folder).eval()
    inputs = locator.processor(images=to_pil(image), text="yellow cat.", return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    found = []
    for logits, (x, y, width, height) in zip(output.logits[0], output.pred_boxes[0].tolist(), strict=True):
        left, right = (min(max((x + side * width / 2) * 96, 0), 96) for side in (-1, 1))
        top, bottom = (min(max((y + side * height / 2) * 64, 0), 64) for side in (-1, 1))
        if right > left and bottom > top:
            found.append((float(logits.sigmoid().max()), left, top, right, bottom))
    found.sort(reverse=True)
    assert len(found) > 1
    torch.testing.assert_close(torch.cat([sureness[:, None], boxes], dim=1), torch.tensor(found), atol=1e-3, rtol=0)


def test_clipseg_s_outline_is_where_its_enlarged_map_is_sure(clipseg_folder):
    locator = load_text_locator(clipseg_folder)
    assert isinstance(locator, ClipSeg)
    image = smooth_image(32, 32)  # the size that the model works at: nothing is resized
    model = CLIPSegForImageSegmentation.from_pretrained(clipseg_folder).eval()
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    pixels = ((image * 255).round() / 255 - mean) / std
    ids = torch.tensor([clip_tokenizer()("a red star")["input_ids"]])
    with torch.no_grad():
        wanted = model(input_ids=ids, pixel_values=pixels).logits.reshape(32, 32).sigmoid()
    assert torch.allclose(locator.sureness(image, "a red star"), wanted, atol=1e-4)
    least = float(wanted.flatten().quantile(0.8))
    prior = prior_from_text(locator, image, {"star": "a red star"}, threshold=least, keep="all")
    assert prior.kind == "segment"
    assert float((prior.mask("star") != (wanted >= least)).float().mean()) < 0.01
    bigger = locator.sureness(F.interpolate(image, scale_factor=3, mode="nearest"), "a red star")
    assert bigger.shape == (96, 96)
    assert float((F.avg_pool2d(bigger[None, None], 3)[0, 0] - wanted).abs().max()) < 0.3


def test_weights_in_half_precision_are_read_as_float32(clipseg_folder, tmp_path):
    shutil.copytree(clipseg_folder, tmp_path / "half")
    CLIPSegForImageSegmentation.from_pretrained(clipseg_folder).half().save_pretrained(tmp_path / "half")
    image = smooth_image(32, 32)
    full, half = (load_text_locator(folder) for folder in (clipseg_folder, tmp_path / "half"))
    assert isinstance(full, ClipSeg) and isinstance(half, ClipSeg)
    # Half precision keeps eleven bits of a weight.
    torch.testing.assert_close(
        half.sureness(image, "a red star"), full.sureness(image, "a red star"), atol=0.05, rtol=0
    )


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


def test_what_is_no_such_model_is_refused(tmp_path):
    for name in (tmp_path / "nowhere", "nobody/nothing", write_tiny_vit(tmp_path / "vit")):
        with pytest.raises(ValueError, match="requires a Grounding DINO or a CLIPSeg"):
            load_text_locator(name)


def test_weights_that_were_cut_short_are_refused(clipseg_folder, tmp_path):
    shutil.copytree(clipseg_folder, tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cannot be opened"):
        load_text_locator(tmp_path / "cut")
