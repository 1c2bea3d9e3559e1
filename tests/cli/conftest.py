"""What tests of the regions command share: tiny random models in real folders, and an image."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from pinpoint.tests.fixtures.tiny_editors import write_amused_folder, write_inpaint_folder
from pinpoint.tests.fixtures.tiny_encoders import write_tiny_clip, write_tiny_vit
from pinpoint.tests.fixtures.tiny_models import write_tiny_folder


@pytest.fixture(name="models", scope="module")
def _models(tmp_path_factory):
    """Folders by name: plain, inpaint, amused, clip, vit."""
    return {
        "plain": write_tiny_folder(tmp_path_factory.mktemp("plain model")),
        "inpaint": write_inpaint_folder(tmp_path_factory.mktemp("inpaint")),
        "amused": write_amused_folder(tmp_path_factory.mktemp("amused")),
        "clip": write_tiny_clip(tmp_path_factory.mktemp("clip")),
        "vit": write_tiny_vit(tmp_path_factory.mktemp("vit")),
    }


@pytest.fixture(name="image", scope="module")
def _image(tmp_path_factory):
    """An image whose sides are no multiple of anything."""
    rows, columns = np.mgrid[0:70, 0:90]
    pixels = np.stack([rows * 3, columns * 2, 255 - rows - columns], axis=-1).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "an image.png"
    Image.fromarray(pixels).save(path)
    return path
