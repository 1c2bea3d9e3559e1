"""Grounding DINO's boxes, as plain arithmetic has them, on random weights of the real architecture."""

from __future__ import annotations

import torch
from transformers import GroundingDinoForObjectDetection

from pinpoint.locinv_core.imaging.io import to_pil
from pinpoint.locinv_core.localization.prior_sources.from_grounding_dino import GroundingDino
from pinpoint.locinv_core.localization.prior_sources.from_text import load_text_locator
from pinpoint.tests.fixtures.tiny_editors import smooth_image
from pinpoint.tests.fixtures.tiny_locators import write_tiny_dino


def test_grounding_dino_s_boxes_are_where_its_tokens_are_surest(tmp_path):
    locator = load_text_locator(write_tiny_dino(tmp_path))
    assert isinstance(locator, GroundingDino)
    image = smooth_image(64, 96)
    boxes, sureness = locator.boxes(image, "Yellow Cat")
    model = GroundingDinoForObjectDetection.from_pretrained(tmp_path).eval()
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
