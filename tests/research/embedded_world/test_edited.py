"""The training scenes after an edit: what is drawn, kept and worded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from transformers import CLIPModel

from pinpoint.locinv_core.backbones.loading import EMBEDDED_FOLDER
from pinpoint.research.embedded_world.networks.clip import botched, train_clip
from pinpoint.research.embedded_world.scenes.dataset import load_images, write_training_set
from pinpoint.research.embedded_world.scenes.edited import load_edited, write_edited
from pinpoint.research.embedded_world.scenes.edits import sample_edit
from pinpoint.research.embedded_world.scenes.spec import NOUNS, render, sample_scene
from pinpoint.research.embedded_world.scenes.wording import botched_places, overlap, word_edited
from pinpoint.research.embedded_world.training.regions_recipe import RegionsRecipe


def test_the_edited_scenes_are_drawn_once_and_differ_where_the_edited_object_is(tmp_path: Path) -> None:
    write_edited(tmp_path, 2)
    images = load_edited(tmp_path)
    assert images.shape == (2, 3, 128, 128) and images.dtype == torch.uint8
    for seed in (0, 1):
        spec = sample_scene(seed)
        edit, _ = sample_edit(spec, 0)
        before = torch.from_numpy(render(spec)[0]).permute(2, 0, 1)
        changed = (images[seed].int() - before.int()).abs().amax(dim=0) > 60
        rows, columns = torch.nonzero(changed, as_tuple=True)
        x0, y0, x1, y1 = spec.objects[edit.index].box
        middle = float(columns.float().mean()), float(rows.float().mean())
        assert x0 <= middle[0] <= x1 and y0 <= middle[1] <= y1
    written = (tmp_path / "edited.npy").stat().st_mtime_ns
    write_edited(tmp_path, 2)
    assert (tmp_path / "edited.npy").stat().st_mtime_ns == written
    write_edited(tmp_path, 3)
    assert len(load_edited(tmp_path)) == 3


def test_its_texts_name_what_is_there_after_the_edit() -> None:
    rng = np.random.default_rng(0)
    for seed in range(60):
        edit, edited = sample_edit(sample_scene(seed), 0)
        example = word_edited(seed, rng)
        assert example.content == {obj.phrase for obj in edited.objects}
        assert edit.target_phrase in example.content and edit.phrase not in example.content
        assert all(obj.noun in example.caption for obj in edited.objects)
        assert example.altered_content != example.content
        said = f" {example.altered} ".replace(",", " ")
        named = {noun for noun in NOUNS if f" {noun} " in said}
        assert named == {phrase.split()[-1] for phrase in example.altered_content}
        obj = next(obj for obj in edited.objects if obj.phrase in example.obj)
        assert overlap(example.window, obj.box) > 0.35


def test_an_edit_in_the_wrong_place_leaves_most_of_the_object_as_it_was() -> None:
    rng = np.random.default_rng(0)
    same = 0
    for seed in range(80):
        spec = sample_scene(seed)
        edit, edited = sample_edit(spec, 0)
        place, window = botched_places(seed, rng)
        x0, y0, x1, y1 = (int(end) for end in place)
        assert 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 128
        covered = np.zeros((128, 128), dtype=bool)
        covered[y0:y1, x0:x1] = True
        left, top, right, bottom = spec.objects[edit.index].box
        share = covered[top:bottom, left:right].mean()
        assert share < 0.6
        if place == window:
            same += 1
            assert share > 0.15
        else:  # all of the edited object, drawn a second time
            assert overlap(window, edited.objects[edit.index].box) > 0.35
    assert 20 < same < 60


def test_a_botched_image_is_the_edited_one_inside_the_place_and_the_scene_outside() -> None:
    image = torch.zeros(3, 128, 128, dtype=torch.uint8)
    edited = torch.full((3, 128, 128), 255, dtype=torch.uint8)
    edited[:, 40:80, 40:80] = 51
    same = botched(image, edited, (30.0, 20.0, 60.0, 100.0), (30.0, 20.0, 60.0, 100.0))
    assert same.shape == (3, 128, 128) and same.dtype == torch.uint8
    assert image.max() == 0  # left as it was
    assert same[:, :20].max() == 0 and same[:, :, 60:].max() == 0
    assert (same[:, 25:35, 32:58] == 255).all()
    assert (same[:, 45:75, 45:58] == 51).all()
    # All of the dark square, shrunk to a quarter of its side.
    small = botched(image, edited, (100.0, 100.0, 110.0, 110.0), (40.0, 40.0, 80.0, 80.0))
    assert (small[:, 101:109, 101:109].int() - 51).abs().max() <= 2
    assert small[:, :100].max() == 0


def test_an_encoder_of_smaller_images_than_the_scenes_trains_on_them_too(tmp_path: Path) -> None:
    write_training_set(tmp_path / "scenes", 4)
    write_edited(tmp_path, 3)
    told: list[str] = []
    train_clip(
        load_images(tmp_path / "scenes"),
        load_edited(tmp_path),
        range(4),
        EMBEDDED_FOLDER / "tokenizer",
        replace(RegionsRecipe().smoke().clip, side=64),
        tmp_path / "clip.safetensors",
        tmp_path / "clip",
        seed=0,
        report=told.append,
    )
    assert CLIPModel.from_pretrained(tmp_path / "clip").config.vision_config.image_size == 64
    assert any("step 3/3" in line for line in told)
