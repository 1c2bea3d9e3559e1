"""CLIPSeg's outlines, as plain arithmetic has them, on random weights of the real architecture."""

from __future__ import annotations

import shutil

import pytest
import torch
import torch.nn.functional as F
from transformers import CLIPSegForImageSegmentation

from pinpoint.locinv_core.backbones.clip_tokenizer import clip_tokenizer
from pinpoint.locinv_core.localization.prior_sources.from_clipseg import ClipSeg
from pinpoint.locinv_core.localization.prior_sources.from_text import load_text_locator, prior_from_text
from pinpoint.tests.fixtures.tiny_editors import smooth_image
from pinpoint.tests.fixtures.tiny_locators import write_tiny_clipseg


@pytest.fixture(name="clipseg_folder", scope="module")
def _clipseg_folder(tmp_path_factory):
    return write_tiny_clipseg(tmp_path_factory.mktemp("clipseg"))


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
