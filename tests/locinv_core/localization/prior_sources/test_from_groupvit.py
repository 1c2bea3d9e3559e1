"""GroupViT's outlines: as plain arithmetic has them on random weights, and as a planted answer has them."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from pinpoint.locinv_core.localization.prior_sources.from_groupvit import BACKGROUNDS, GroupViT
from pinpoint.locinv_core.localization.prior_sources.from_text import load_text_locator, prior_from_text
from pinpoint.locinv_core.localization.prior_sources.registry import prior_from_argument
from pinpoint.tests.fixtures.tiny_editors import smooth_image
from pinpoint.tests.fixtures.tiny_locators import write_tiny_groupvit


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    return write_tiny_groupvit(tmp_path_factory.mktemp("groupvit"))


class Planted(torch.nn.Module):
    """A model that prefers the first text at the left by ln 81, and all texts alike at the right."""

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.logit_scale = torch.nn.Parameter(torch.tensor(math.log(10.0)))
        self.texts = 0

    def forward(self, input_ids, **inputs):
        self.texts = len(input_ids)
        logits = torch.zeros(1, len(input_ids), 32, 32)
        logits[:, 0, :, :16] = 10 * math.log(81.0)
        return SimpleNamespace(segmentation_logits=logits)


def test_a_pixel_s_score_is_the_phrase_s_share_by_its_group(folder):
    locator = load_text_locator(folder)
    assert isinstance(locator, GroupViT)
    image = smooth_image(32, 32)  # the size that the model works at: nothing is resized
    texts = [f"a photo of a {text}." for text in ("red star", *BACKGROUNDS)]
    mean, std = (torch.tensor(v)[:, None, None] for v in ([0.481, 0.458, 0.408], [0.269, 0.261, 0.276]))
    with torch.no_grad():
        model = locator.model
        ids = [locator.processor.tokenizer(text, return_tensors="pt")["input_ids"] for text in texts]
        words = torch.cat([model.text_projection(model.text_model(one).pooler_output) for one in ids])
        seen = model.vision_model((image - mean) / std, output_attentions=True)
        patches, groups = seen.attentions  # (1, 8, 16) of 16 patches, (1, 4, 8) of 8 groups
        groups_of_patches = (groups @ patches).reshape(1, 4, 4, 4)
        enlarged = F.interpolate(groups_of_patches, size=(32, 32), mode="bilinear", align_corners=False)[0]
        cosines = F.cosine_similarity(words[:, None], model.visual_projection(seen.last_hidden_state[0])[None], dim=-1)
        logits = torch.einsum("tg,ghw->thw", cosines * model.logit_scale.exp(), enlarged)
    torch.testing.assert_close(locator.sureness(image, "red star"), logits.softmax(dim=0)[0], atol=0.02, rtol=0)


def test_the_outline_covers_the_whole_image_and_is_cut_at_a_half(folder):
    locator = load_text_locator(folder)
    planted = Planted(locator.model.config)
    locator = replace(locator, model=planted)
    image = smooth_image(48, 96)
    sureness = locator.sureness(image, "cat")
    assert planted.texts == 10
    # 81 to 9 backgrounds of 1 at the left; one of 10 at the right.
    torch.testing.assert_close(sureness[:, :46], torch.full((48, 46), 0.9))
    torch.testing.assert_close(sureness[:, 50:], torch.full((48, 46), 0.1))
    prior = prior_from_text(locator, image, {"cat": "cat"})
    assert prior.kind == "segment" and 47 <= float(prior.mask("cat").sum()) / 48 <= 49
    locator.sureness(image, "sky at night")
    assert planted.texts == 9  # the sky is no background of itself


def test_the_source_reads_a_folder_and_says_how_sure_its_model_is(folder):
    image = smooth_image(32, 32)
    surest = float(load_text_locator(folder).sureness(image, "red star").max())
    with pytest.raises(ValueError, match=rf"nowhere more than {surest:.2f} sure, requires 0\.5"):
        prior_from_argument(f"star=groupvit:red star@{folder}", image)
