"""Scenes taken apart: bare grounds, where objects show, and objects on other grounds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from pinpoint.research.embedded_world.scenes.grounds import SceneParts, load_parts, scene_parts, write_parts
from pinpoint.research.embedded_world.scenes.spec import render, sample_scene


def test_outside_objects_and_their_shadows_the_ground_is_the_images_own() -> None:
    seed = 3
    image, masks = render(sample_scene(seed))
    ground, mask = scene_parts(seed)
    assert np.array_equal(mask, np.logical_or.reduce(masks))
    changed = (ground != image).any(axis=2)
    assert changed[mask].mean() > 0.95  # here and there an object has the colour of its ground
    rows = np.nonzero(mask)[0]
    above = np.arange(len(mask)) < rows.min() - 2  # where neither objects are nor shadows fall
    assert above.any() and not changed[above].any()


def test_objects_are_shown_on_the_ground_of_another_scene() -> None:
    images = torch.stack([torch.full((3, 2, 2), value, dtype=torch.uint8) for value in (10, 20)])
    grounds = torch.stack([torch.full((3, 2, 2), value, dtype=torch.uint8) for value in (100, 200)])
    masks = torch.tensor([[[True, False], [False, False]], [[False, True], [False, False]]])
    parts = SceneParts(images, grounds, masks)
    made = parts.on_ground(torch.tensor([0, 1]), torch.tensor([1, 0]))
    assert made[0, 0].tolist() == [[10, 200], [200, 200]]
    assert made[1, 2].tolist() == [[100, 20], [100, 100]]


def test_parts_are_drawn_once_and_opened_again(tmp_path: Path) -> None:
    write_parts(tmp_path, 2)
    assert json.loads((tmp_path / "grounds.json").read_text())["count"] == 2
    drawn = (tmp_path / "grounds.npy").stat().st_mtime_ns
    write_parts(tmp_path, 2)
    assert (tmp_path / "grounds.npy").stat().st_mtime_ns == drawn
    parts = load_parts(tmp_path, torch.zeros(5, 3, 128, 128, dtype=torch.uint8))
    assert len(parts) == 2 and parts.images.shape == parts.grounds.shape == (2, 3, 128, 128)
    ground, mask = scene_parts(1)
    assert np.array_equal(parts.grounds[1].permute(1, 2, 0).numpy(), ground)
    assert np.array_equal(parts.masks[1].numpy(), mask)
