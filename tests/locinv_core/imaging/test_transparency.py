"""An image's alpha comes back with its edit, and what was not edited is the file's own pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pinpoint.locinv_core.imaging.io import load_image, load_with_transparency

RNG = np.random.default_rng(0)


def test_what_is_not_edited_keeps_its_colours_and_alpha_bit_for_bit(tmp_path: Path) -> None:
    layers = RNG.integers(0, 256, (64, 80, 4), dtype=np.uint8)
    layers[:20, :, 3], layers[20:30, :, 3] = 0, 255
    Image.fromarray(layers).save(tmp_path / "a.png")
    image, transparency = load_with_transparency(tmp_path / "a.png")
    assert transparency is not None
    assert torch.equal(image, load_image(tmp_path / "a.png"))
    assert np.array_equal(np.asarray(transparency.given_to(image)), layers)


@pytest.mark.parametrize("alpha", [0, 51, 128, 254])
def test_an_edit_looks_on_white_as_the_model_made_it(alpha: int) -> None:
    layers = np.full((64, 64, 4), (40, 90, 10, alpha), dtype=np.uint8)
    image, transparency = load_with_transparency(layers)
    assert transparency is not None
    share = alpha / 255
    wanted = np.array([30, 200, 90]) / 255 * share + 1 - share
    edited = image.clone()
    edited[0, :, 10:20, 10:20] = torch.tensor(wanted, dtype=torch.float32)[:, None, None]
    given = np.asarray(transparency.given_to(edited)).astype(float)
    assert (given[..., 3] == alpha).all()
    shown = given[15, 15, :3] * share + 255 * (1 - share)
    assert np.abs(shown - wanted * 255).max() <= 1
    assert (given[40, 40] == (40, 90, 10, alpha)).all()


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "CMYK"])
def test_an_opaque_image_has_no_transparency(mode: str) -> None:
    assert load_with_transparency(Image.new("RGB", (64, 64)).convert(mode))[1] is None
