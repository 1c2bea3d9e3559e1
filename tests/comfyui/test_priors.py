"""Masks, boxes and detections of other nodes as priors, in a real ComfyUI."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from pinpoint.tests.comfyui.comfyui_server import ComfyUI
from pinpoint.tests.comfyui.prompts import SOURCE, node, word_swap


def shown_mask(comfyui: ComfyUI, prior: dict[str, Any], **more: Any) -> np.ndarray:
    """(H, W): where the prior of a node is."""
    prompt = {"sample": node("PinpointSamplePicture", sample=SOURCE), **more, "prior": prior}
    outcome = comfyui.run({**prompt, "shown": node("MaskPreview", mask=["prior", 1])})
    assert outcome.status == "success", outcome.error
    (image,) = outcome.outputs["shown"]["images"]
    return comfyui.image(image)[..., 0] > 127


@pytest.mark.parametrize(
    "prior",
    [
        node("PinpointPriorFromSEGS", segs=["found", 0], word="cat", kind="box", label="Cat"),
        node("PinpointPriorFromSEGS", segs=["found", 0], word="cat", kind="box", confidence=0.85),
        node("PinpointPriorFromBBOX", image=["sample", 0], bboxes=["found", 1], word="cat", form="corners"),
        node("PinpointPriorFromBBOX", image=["sample", 0], bboxes=["found", 2], word="cat", form="size"),
        node("PinpointPriorFromBoxes", image=["sample", 0], boxes="cat=11,30,57,73"),
    ],
    ids=["label", "confidence", "corners", "size", "typed"],
)
def test_detections_of_another_pack_are_the_box_that_they_say(comfyui: ComfyUI, prior: dict[str, Any]):
    expected = np.zeros((128, 128), dtype=bool)
    expected[30:73, 11:57] = True
    assert (shown_mask(comfyui, prior, found=node("Detections")) == expected).all()


def test_a_mask_of_another_size_is_resized_to_its_image_and_grown(comfyui: ComfyUI):
    plain = shown_mask(comfyui, node("PinpointPriorFromMask", mask=["sample", 1], word="cat", kind="outline"))
    half = node("ImageScaleBy", image=["as_image", 0], upscale_method="area", scale_by=0.5)
    smaller = {
        "as_image": node("MaskToImage", mask=["sample", 1]),
        "half": half,
        "mask": node("ImageToMask", image=["half", 0], channel="red"),
    }
    asked = {"mask": ["mask", 0], "word": "cat", "kind": "outline"}
    again = shown_mask(comfyui, node("PinpointPriorFromMask", **asked, image=["sample", 0]), **smaller)
    assert again.shape == plain.shape and (again != plain).mean() < 0.02
    grown = shown_mask(comfyui, node("PinpointPriorFromMask", **asked, image=["sample", 0], grow=5), **smaller)
    assert grown[again].all() and grown.sum() > again.sum()


def test_of_a_batch_of_images_and_masks_image_i_is_edited_with_mask_i(comfyui: ComfyUI):
    flipped = {"flip_method": "y-axis: horizontally"}
    prompt = word_swap(steps=2) | {
        "turned": node("ImageFlip", image=["sample", 0], **flipped),
        "images": node("ImageBatch", image1=["sample", 0], image2=["turned", 0]),
        "each": node("RebatchImages", images=["images", 0], batch_size=1),
        "as_image": node("MaskToImage", mask=["sample", 1]),
        "mask_turned": node("ImageFlip", image=["as_image", 0], **flipped),
        "masks": node("ImageBatch", image1=["as_image", 0], image2=["mask_turned", 0]),
        "mask": node("ImageToMask", image=["masks", 0], channel="red"),
        "prior": node("PinpointPriorFromMask", mask=["mask", 0], image=["each", 0], word="cat", kind="outline"),
        "prior_shown": node("MaskPreview", mask=["prior", 1]),
    }
    prompt["invert"]["inputs"]["image"] = ["each", 0]
    prompt["edit"]["inputs"]["composite"] = True
    prompt["source_shown"]["inputs"]["images"] = ["each", 0]
    outcome = comfyui.run(prompt)
    assert outcome.status == "success", outcome.error
    shown = {
        kind: [comfyui.image(image).astype(int) for image in outcome.outputs[kind]["images"]]
        for kind in ("source_shown", "edit_shown", "prior_shown")
    }
    masks = [image[..., 0] > 127 for image in shown["prior_shown"]]
    assert len(masks) == 2 and (masks[1] == masks[0][:, ::-1]).all()
    for before, after, mask in zip(shown["source_shown"], shown["edit_shown"], masks, strict=True):
        moved = np.abs(after - before).max(axis=-1)
        assert moved[~mask].max() == 0 and moved[mask].mean() > 5
