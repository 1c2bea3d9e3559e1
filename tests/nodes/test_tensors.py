"""ComfyUI's tensors come in copied, in the core's shapes, and bad ones are refused by name."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from pinpoint.nodes.bridge.tensors import (
    attention_mask,
    from_comfy_image,
    from_comfy_images,
    from_comfy_mask,
    latent_of_image,
    to_comfy_image,
)


def test_an_image_becomes_channels_first_and_comes_back_bit_for_bit():
    image = torch.rand(2, 64, 80, 3)
    images = from_comfy_images(image)
    assert images.shape == (2, 3, 64, 80)
    assert images[1, 2, 5, 7] == image[1, 5, 7, 2]
    assert torch.equal(to_comfy_image(images), image)


def test_transparency_is_laid_over_white_and_one_channel_is_repeated():
    image = torch.zeros(1, 64, 64, 4)
    image[..., 0] = 0.5
    image[..., 3] = 0.25
    # 0.5·0.25 + 0.75 and 0·0.25 + 0.75
    assert from_comfy_images(image)[0, :, 0, 0].tolist() == [0.875, 0.75, 0.75]
    assert from_comfy_images(torch.full((1, 64, 64, 1), 0.25))[0, :, 3, 3].tolist() == [0.25] * 3


def test_what_comes_out_of_inference_mode_can_take_part_in_a_gradient():
    with torch.inference_mode():
        image, mask = torch.rand(1, 64, 64, 3), torch.ones(1, 64, 64)
        ours, region = from_comfy_image(image), from_comfy_mask(mask)
    assert not ours.is_inference() and not region.is_inference()
    weight = torch.ones(1, requires_grad=True)
    (ours * weight).sum().backward()
    assert weight.grad is not None


def test_what_comes_in_is_never_changed():
    image = torch.full((1, 64, 64, 3), 1.5)
    from_comfy_images(image).zero_()
    assert bool((image == 1.5).all())
    mask = torch.ones(1, 64, 64)
    from_comfy_mask(mask).zero_()
    assert bool((mask == 1).all())


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (torch.rand(64, 64, 3), "requires \\(B, H, W, C\\)"),
        (torch.rand(1, 64, 64, 2), "1, 3 or 4 channels"),
        (torch.rand(0, 64, 64, 3), "requires \\(B, H, W, C\\)"),
        (torch.full((1, 64, 64, 3), float("nan")), "not numbers"),
        (torch.rand(1, 63, 64, 3), "64x63 pixels"),
    ],
)
def test_an_image_that_cannot_be_used_is_refused_and_says_why(image, said):
    with pytest.raises(ValueError, match=f"image: .*{said}"):
        from_comfy_images(image, "image")


def test_a_batch_is_refused_where_one_image_is_wanted_and_says_what_to_do():
    with pytest.raises(ValueError, match=r"batch of 3 images.*Rebatch Images"):
        from_comfy_image(torch.rand(3, 64, 64, 3))


def test_the_masks_of_a_batch_are_joined():
    masks = torch.zeros(2, 64, 64)
    masks[0, 3, 4] = 1
    masks[1, 8, 9] = 1
    joined = from_comfy_mask(masks)
    assert joined.shape == (64, 64)
    assert joined.nonzero().tolist() == [[3, 4], [8, 9]]


def test_what_resizing_leaves_beyond_0_and_1_is_cut_off():
    assert from_comfy_mask(torch.tensor([[1.000001, -0.01], [0.5, 2.0]])).tolist() == [[1, 0], [0.5, 1]]


def test_a_mask_that_is_not_numbers_or_has_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"mask: .*NaN.*the others are -2 to 0\.5; requires 0 to 1"):
        from_comfy_mask(torch.tensor([[[float("nan"), -2.0, 0.5]]]))
    with pytest.raises(ValueError, match="all of them"):
        from_comfy_mask(torch.full((1, 2, 2), float("inf")))
    with pytest.raises(ValueError, match=r"requires \(B, H, W\)"):
        from_comfy_mask(torch.ones(1, 1, 64, 64))


def test_the_attention_mask_is_its_share_of_the_maximum_at_the_image_s_size():
    mask = attention_mask(torch.tensor([[1.0, 2.0], [4.0, 0.0]]), 4, (7, 8))
    assert mask.shape == (1, 7, 8)
    assert mask[0, 0].tolist() == [0.25] * 4 + [0.5] * 4 and mask[0, 6].tolist() == [1.0] * 4 + [0.0] * 4


@pytest.mark.parametrize(
    ("size", "cell", "padded", "cells", "covered"),
    # Stable Diffusion pads to 64 pixels with cells of 8.
    [
        ((100, 140), 8, (16, 24), (13, 18), (104, 144)),
        ((512, 768), 8, (64, 96), (64, 96), (512, 768)),
        ((128, 128), 4, (32, 32), (32, 32), (128, 128)),
        ((65, 90), 8, (16, 16), (9, 12), (72, 96)),
    ],
)
def test_the_latent_of_an_edit_has_the_images_cells_and_the_mask_as_noise_mask(size, cell, padded, cells, covered):
    latents, mask = torch.rand(1, 4, *padded), torch.ones(size)
    latent = latent_of_image(latents, mask, cell)
    assert torch.equal(latent["samples"], latents[..., : cells[0], : cells[1]])
    assert latent["noise_mask"].shape == (1, 1, *covered)
    assert latent["noise_mask"].sum() == size[0] * size[1]
    assert bool((latent["noise_mask"][0, 0, : size[0], : size[1]] == 1).all())


def test_a_pillow_image_becomes_an_image_of_comfyui():
    assert to_comfy_image(Image.new("L", (3, 2), 255)).tolist() == [[[[1.0] * 3] * 3] * 2]
