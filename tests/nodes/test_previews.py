"""Previews are a linear map of latents fitted to the image at hand."""

from __future__ import annotations

import numpy as np
import torch

from pinpoint.nodes.bridge.previews import LatentPreview


def test_where_colours_are_linear_in_the_latents_the_preview_is_the_image():
    torch.manual_seed(0)
    latents = torch.rand(1, 5, 16, 16) * 2 - 1
    mixing, offset = torch.randn(3, 5) * 0.05, torch.tensor([0.4, 0.5, 0.6])
    colours = torch.einsum("oc,bchw->bohw", mixing, latents) + offset[:, None, None]
    image = colours.repeat_interleave(8, 2).repeat_interleave(8, 3)
    preview = LatentPreview.fit(latents, image)
    shown = preview.image(latents)
    assert shown.size == (128, 128)
    # The middle of a cell, where smooth enlarging between 8-pixel cells leaves about the cell's own colour.
    small = np.asarray(shown.resize((16, 16), 4), dtype=float) / 255
    wanted = colours[0].permute(1, 2, 0).numpy()
    assert np.corrcoef(small.ravel(), wanted.ravel())[0, 1] > 0.9
    assert np.allclose(small.mean(axis=(0, 1)), wanted.mean(axis=(0, 1)), atol=0.02)


def test_a_preview_of_noise_is_an_image_too():
    preview = LatentPreview.fit(torch.randn(1, 4, 8, 12), torch.rand(1, 3, 64, 96))
    assert preview.image(torch.randn(2, 4, 8, 12) * 50).size == (96, 64)


def test_it_works_inside_inference_mode():
    with torch.inference_mode():
        preview = LatentPreview.fit(torch.randn(1, 4, 8, 8), torch.rand(1, 3, 64, 64))
        assert preview.image(torch.randn(1, 4, 8, 8)).size == (64, 64)
