"""Outlines by SAM 2: what the library's own passes give on random weights, and what a planted answer gives."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pinpoint.locinv_core.imaging.io import to_pil
from pinpoint.locinv_core.localization.prior_sources import from_sam2 as module
from pinpoint.locinv_core.localization.prior_sources.from_sam import SamPrompt, prior_from_segment_anything
from pinpoint.locinv_core.localization.prior_sources.from_sam2 import Sam2, load_outliner, load_sam2
from pinpoint.locinv_core.localization.prior_sources.registry import prior_from_argument
from pinpoint.tests.fixtures.tiny_editors import smooth_image
from pinpoint.tests.fixtures.tiny_locators import write_tiny_clipseg, write_tiny_sam2

BOX = (10.0, 6.0, 40.0, 30.0)
POINTS = {"input_points": [[[[20.0, 20.0], [12.0, 8.0]]]], "input_labels": [[[1, 0]]]}


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    """Named as the published models are: by what they do with videos."""
    folder = write_tiny_sam2(tmp_path_factory.mktemp("sam2"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "sam2_video"}))
    return folder


@pytest.fixture(name="sam2", scope="module")
def _sam2(folder):
    return load_sam2(folder)


class Planted(torch.nn.Linear):
    """A model whose answer is planted: the left half, or, as the best of three, the upper half."""

    def get_image_embeddings(self, pixels):
        return [pixels]

    def forward(self, multimask_output, image_embeddings, **prompts):
        masks = torch.full((1, 1, 3 if multimask_output else 1, 4, 4), -1.0)
        masks[..., -1, :, :2] = 1
        if multimask_output:
            masks[:, :, 1, :2, :] = 1
        return SimpleNamespace(pred_masks=masks, iou_scores=torch.tensor([[[0.2, 0.9, 0.8][: masks.shape[2]]]]))


@pytest.mark.parametrize(
    ("prompt", "given", "several"),
    [
        (SamPrompt(boxes=(BOX,)), {"input_boxes": [[list(BOX)]]}, False),
        (SamPrompt(on=((20.0, 33.0),)), {"input_points": [[[[20.0, 33.0]]]], "input_labels": [[[1]]]}, True),
        (
            SamPrompt(boxes=(BOX,), on=((20.0, 20.0),), off=((12.0, 8.0),)),
            {"input_boxes": [[list(BOX)]], **POINTS},
            False,
        ),
    ],
)
def test_an_outline_is_the_library_s(sam2, prompt, given, several):
    image = smooth_image(48, 96)
    inputs = sam2.processor(images=to_pil(image), return_tensors="pt", **given)
    sizes = inputs.pop("original_sizes")
    with torch.no_grad():
        output = sam2.model(**inputs, multimask_output=several)
    masks = sam2.processor.post_process_masks(output.pred_masks, sizes)[0][0]
    assert len(masks) == (3 if several else 1)
    wanted = masks[output.iou_scores[0, 0].argmax()].float()
    assert 0 < float(wanted.mean()) < 1
    prior = prior_from_segment_anything(sam2, image, {"Cat": prompt})
    assert prior.words == ("cat",) and prior.kind == "segment"
    assert torch.equal(prior.mask("cat"), wanted)


def test_the_best_of_several_outlines_is_enlarged_to_the_image(sam2):
    planted = replace(sam2, model=Planted(1, 1))
    image = smooth_image(40, 80)
    upper, left = torch.zeros(40, 80), torch.zeros(40, 80)
    upper[:20], left[:, :40] = 1, 1
    prompts = {"cat": SamPrompt(on=((3.0, 3.0),)), "star": SamPrompt(boxes=((0.0, 0.0, 9.0, 9.0),))}
    prior = prior_from_segment_anything(planted, image, prompts)
    assert torch.equal(prior.mask("cat"), upper)
    assert torch.equal(prior.mask("star"), left)


def test_the_source_reads_a_box_and_a_folder(folder, sam2):
    image = smooth_image(48, 64)
    wanted = prior_from_segment_anything(sam2, image, {"cat": SamPrompt(boxes=(BOX,))})
    given = prior_from_argument(f"cat=sam2:10,6,40,30@{folder}", image)
    assert given.kinds == wanted.kinds and torch.equal(given.mask("cat"), wanted.mask("cat"))
    assert isinstance(load_outliner(folder), Sam2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("10,6,40,30", "requires x0,y0,x1,y1@MODEL"),
        ("10,6,40@somewhere", "a box is four numbers"),
        ("10,6,40,30@nobody/nothing", "not in the local Hugging Face cache"),
    ],
)
def test_what_cannot_be_read_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        prior_from_argument(f"cat=sam2:{text}", smooth_image())


def test_another_model_and_an_older_transformers_are_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"it is a clipseg\); requires a SAM 2 with safetensors"):
        load_sam2(write_tiny_clipseg(tmp_path))
    monkeypatch.setattr(module, "ARCHITECTURE", replace(module.ARCHITECTURE, network="NotThereYet"))
    with pytest.raises(ValueError, match=r"SAM 2 requires transformers 4\.56 or newer, and .* is installed"):
        load_sam2(folder)
