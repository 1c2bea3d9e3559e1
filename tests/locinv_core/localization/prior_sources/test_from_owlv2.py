"""OWLv2's boxes: as the library has them on random weights, and as a planted answer has them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from pinpoint.locinv_core.imaging.io import to_pil
from pinpoint.locinv_core.localization.prior_sources.from_owlv2 import OwlV2
from pinpoint.locinv_core.localization.prior_sources.from_text import load_text_locator, prior_from_text
from pinpoint.locinv_core.localization.prior_sources.registry import prior_from_argument
from pinpoint.tests.fixtures.tiny_editors import smooth_image
from pinpoint.tests.fixtures.tiny_locators import write_tiny_owlv2


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    return write_tiny_owlv2(tmp_path_factory.mktemp("owlv2"))


class Planted(torch.nn.Linear):
    """A model whose answer is planted."""

    def forward(self, **inputs):
        boxes = torch.tensor([[[0.5, 0.25, 0.5, 0.25], [0.9, 0.8, 0.4, 0.4]]])
        return SimpleNamespace(pred_boxes=boxes, logits=torch.tensor([[[0.0], [2.0]]]))


def test_boxes_and_scores_are_the_library_s(folder):
    locator = load_text_locator(folder)
    assert isinstance(locator, OwlV2)
    image = smooth_image(64, 96)
    inputs = locator.processor(text=[["a red star"]], images=to_pil(image), return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 16)  # padded, as the model was trained
    with torch.no_grad():
        output = locator.model(**inputs)
    found = locator.processor.post_process_grounded_object_detection(output, 0.0, target_sizes=[(64, 96)])[0]
    best = int(found["scores"].argmax())
    x0, y0, x1, y1 = found["boxes"][best].tolist()
    wanted = torch.tensor([max(x0, 0), max(y0, 0), min(x1, 96), min(y1, 64)])
    boxes, scores = locator.boxes(image, "a red star")
    torch.testing.assert_close(boxes[0], wanted, atol=1e-2, rtol=0)
    torch.testing.assert_close(scores[0], found["scores"][best], atol=1e-4, rtol=0)
    prior = prior_from_argument(f"star=owlv2:a red star@{folder}", image)
    assert prior.kind == "detection"
    assert float(prior.mask("star").sum()) == (
        (wanted[2].ceil() - wanted[0].floor()) * (wanted[3].ceil() - wanted[1].floor())
    )


def test_boxes_are_parts_of_the_square_whose_top_left_the_image_is(folder):
    locator = replace(load_text_locator(folder), model=Planted(1, 1))
    boxes, scores = locator.boxes(torch.zeros(1, 3, 60, 100), "cat")
    # The second leaves the image at the right and, in the padding, below.
    torch.testing.assert_close(boxes, torch.tensor([[70.0, 60, 100, 60], [25, 12.5, 75, 37.5]])[1:])
    assert scores.tolist() == [0.5]
    boxes, scores = locator.boxes(torch.zeros(1, 3, 80, 100), "cat")
    torch.testing.assert_close(boxes, torch.tensor([[70.0, 60, 100, 80], [25, 12.5, 75, 37.5]]))
    torch.testing.assert_close(scores, torch.tensor([0.880797, 0.5]))


def test_a_phrase_of_more_than_sixteen_tokens_is_refused(folder):
    with pytest.raises(ValueError, match="has 102 tokens, and the model reads 16"):
        prior_from_text(load_text_locator(folder), smooth_image(), {"cat": "cat " * 100})
