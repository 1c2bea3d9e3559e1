"""The training sets: scenes drawn once, after an edit, taken apart, in pairs; and the texts that go with them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import CLIPTokenizer

from pinpoint.locinv_core.backbones.loading import EMBEDDED_FOLDER
from pinpoint.research.embedded_world.networks.clip import botched
from pinpoint.research.embedded_world.scenes.dataset import (
    SceneParts,
    caption_variants,
    draw_once,
    held_out_seeds,
    load_images,
    load_parts,
    load_texts,
    scene_pair,
    scene_parts,
    training_seeds,
)
from pinpoint.research.embedded_world.scenes.edits import WORDINGS, Edit, instructions, sample_edit
from pinpoint.research.embedded_world.scenes.render import render
from pinpoint.research.embedded_world.scenes.spec import NOUNS, sample_scene
from pinpoint.research.embedded_world.scenes.wording import botched_places, overlap, word_edited


def test_held_out_seeds_are_never_trained_on() -> None:
    assert training_seeds(1_000_000).stop <= held_out_seeds(1).start
    with pytest.raises(ValueError, match="scenes: got 2 from seed 999999"):
        training_seeds(2, first=999_999)


def test_the_training_set_holds_the_drawn_scenes(tmp_path: Path) -> None:
    draw_once(tmp_path, "images", 3, seed=5)
    images, captions = load_images(tmp_path, "images"), load_texts(tmp_path, "images")
    for row, seed in enumerate((5, 6, 7)):
        assert torch.equal(images[row], torch.from_numpy(render(sample_scene(seed))[0]).permute(2, 0, 1))
    assert all(obj.noun in captions[0] for obj in sample_scene(5).objects)
    with pytest.raises(ValueError, match="holds no pairs"):
        load_images(tmp_path, "pairs")


def test_other_wordings_of_a_caption_name_the_same_objects() -> None:
    seed = next(seed for seed in range(100) if len(sample_scene(seed).objects) == 3)
    nouns = [obj.noun for obj in sample_scene(seed).objects]
    texts = caption_variants(seed, 6)
    assert len(set(texts)) > 2
    for text in texts:
        assert all(noun in text for noun in nouns)


def test_outside_objects_and_their_shadows_the_ground_is_the_images_own() -> None:
    seed = 3
    image, masks = render(sample_scene(seed))
    ground, mask = scene_parts(seed).values()
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
    draw_once(tmp_path, "grounds", 2)
    assert json.loads((tmp_path / "grounds.json").read_text())["scenes"] == {"first": 0, "count": 2}
    drawn = (tmp_path / "grounds.npy").stat().st_mtime_ns
    draw_once(tmp_path, "grounds", 2)
    assert (tmp_path / "grounds.npy").stat().st_mtime_ns == drawn
    parts = load_parts(tmp_path, torch.zeros(5, 3, 128, 128, dtype=torch.uint8))
    assert len(parts) == 2 and parts.images.shape == parts.grounds.shape == (2, 3, 128, 128)
    ground, mask = scene_parts(1).values()
    assert np.array_equal(parts.grounds[1].permute(1, 2, 0).numpy(), ground)
    assert np.array_equal(parts.masks[1].numpy(), mask)


def test_the_edited_scenes_are_drawn_once_and_differ_where_the_edited_object_is(tmp_path: Path) -> None:
    draw_once(tmp_path, "edited", 2)
    images = load_images(tmp_path, "edited")
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
    draw_once(tmp_path, "edited", 2)
    assert (tmp_path / "edited.npy").stat().st_mtime_ns == written
    draw_once(tmp_path, "edited", 3)
    assert len(load_images(tmp_path, "edited")) == 3


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


def test_an_order_names_the_object_before_and_after() -> None:
    swap = Edit("swap", 0, "cat", "owl", "striped red cat", "striped red owl")
    assert instructions(swap) == [
        "turn the striped red cat into a striped red owl",
        "turn the cat into an owl",
        "replace the striped red cat with a striped red owl",
        "change the striped red cat to a striped red owl",
    ]
    look = Edit("attribute", 1, "red", "wooden", "red fox", "wooden fox")
    assert instructions(look)[:2] == ["turn the red fox into a wooden fox", "make the fox wooden"]
    assert len(instructions(look)) == WORDINGS


def test_a_pair_is_a_training_scene_and_its_true_edit(tmp_path: Path) -> None:
    draw_once(tmp_path, "pairs", 2, seed=4)
    pairs, texts = load_images(tmp_path, "pairs"), load_texts(tmp_path, "pairs")
    for row, seed in enumerate((4, 5)):
        spec = sample_scene(seed)
        edit, edited = sample_edit(spec, 0)
        for image, scene in zip(pairs[row], (spec, edited), strict=True):
            assert torch.equal(image, torch.from_numpy(render(scene)[0]).permute(2, 0, 1))
        assert texts[row] == instructions(edit) == scene_pair(seed)["texts"]


def test_every_order_of_the_scenes_fits_the_shipped_tokenizer() -> None:
    tokenizer = CLIPTokenizer.from_pretrained(EMBEDDED_FOLDER / "tokenizer")
    for seed in range(40):
        for text in instructions(sample_edit(sample_scene(seed), 0)[0]):
            ids = tokenizer(text)["input_ids"]
            assert len(ids) <= tokenizer.model_max_length
            assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
