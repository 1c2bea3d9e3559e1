"""The scenes of the embedded world: what is sampled, what is drawn, what is said."""

from __future__ import annotations

import colorsys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pinpoint.research.embedded_world.scenes.edits import sample_edit
from pinpoint.research.embedded_world.scenes.files import held_out_pair
from pinpoint.research.embedded_world.scenes.render import render, tight_box
from pinpoint.research.embedded_world.scenes.spec import (
    BACKGROUNDS,
    COLOURS,
    HELD_OUT_SEED,
    MATERIALS,
    NOUNS,
    TRAINING_SEEDS,
    SceneObject,
    SceneSpec,
    caption,
    sample_scene,
)

HUES = {
    "red": 0,
    "orange": 30,
    "yellow": 50,
    "green": 128,
    "blue": 218,
    "purple": 274,
    "pink": 332,
}  # degrees

WORDS_FOR_PLACES = {"beach", "sea", "meadow", "night", "snow", "desert"}


def one(noun: str = "cat", colour: str | None = "red", material: str = "plain", place: str = "meadow") -> SceneSpec:
    return SceneSpec((SceneObject(noun, colour, material, (36, 60, 92, 116)),), place, 7)


def two() -> SceneSpec:
    objects = (
        SceneObject("boat", "blue", "striped", (4, 60, 52, 110)),
        SceneObject("house", None, "wooden", (66, 66, 114, 114)),
    )
    return SceneSpec(objects, "meadow", 3)


def test_the_world_is_as_rich_as_the_design_asks() -> None:
    assert len(set(NOUNS)) >= 12 and len(set(COLOURS)) == 8 and len(set(BACKGROUNDS)) >= 4
    assert MATERIALS == ("plain", "striped", "dotted", "wooden")


def test_the_same_seed_gives_the_same_scene_and_image() -> None:
    first, second = sample_scene(41), sample_scene(41)
    assert first == second
    np.testing.assert_array_equal(render(first)[0], render(second)[0])
    assert any(sample_scene(41) != sample_scene(seed) for seed in (42, 43))


def test_an_image_and_its_masks_have_the_size_that_was_asked_for() -> None:
    for size in (64, 128, 256):
        image, masks = render(two(), size)
        assert image.shape == (size, size, 3) and image.dtype == np.uint8
        assert [mask.shape for mask in masks] == [(size, size)] * 2 and masks[0].dtype == np.bool_


@pytest.mark.parametrize("size", [0, 24, 100])
def test_a_size_that_the_models_cannot_take_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size: got {size}"):
        render(one(), size)


@pytest.mark.parametrize("noun", NOUNS)
def test_a_mask_is_where_the_image_changes_when_the_object_turns_another_colour_or_goes(noun: str) -> None:
    images = [render(one(noun, colour))[0].astype(int) for colour in ("red", "blue", "white")]
    mask = render(one(noun))[1][0]
    changed = np.zeros_like(mask)
    for other in images[1:]:
        changed |= np.abs(images[0] - other).sum(axis=2) > 0
    assert not changed[~mask].any()
    # The empty place: the object of another noun in the same box leaves the same shadow and background.
    for other_noun in {"heart", "star", "cup", "bird"} - {noun}:
        bare = ~render(one(other_noun))[1][0]
        different = np.abs(images[0] - render(one(other_noun))[0].astype(int)).sum(axis=2) > 0
        assert not different[bare & ~mask].any()
        assert different[bare & mask].mean() > 0.97


def test_the_true_edit_differs_from_the_source_only_inside_the_two_silhouettes() -> None:
    for seed in range(60):
        spec, edit, edited = held_out_pair(seed)
        before, masks = render(spec)
        after, edited_masks = render(edited)
        union = masks[edit.index] | edited_masks[edit.index]
        different = (before != after).any(axis=2)
        assert not different[~union].any()
        assert different.sum() > 0.1 * union.sum()


def test_objects_stay_inside_the_image_and_apart_from_each_other() -> None:
    for seed in range(300):
        objects = sample_scene(seed).objects
        for index, obj in enumerate(objects):
            x0, y0, x1, y1 = obj.box
            assert 0 < x0 < x1 < 128 and 0 < y0 < y1 < 128
            assert 38 <= x1 - x0 <= 62 and 38 <= y1 - y0 <= 62
            for other in objects[:index]:
                apart = x1 < other.box[0] or other.box[2] < x0 or y1 < other.box[1] or other.box[3] < y0
                assert apart
    masks = [mask for seed in range(40) for mask in [np.sum(render(sample_scene(seed))[1], axis=0)]]
    assert max(int(mask.max()) for mask in masks) == 1


def test_every_noun_fills_its_box_alike() -> None:
    for noun in NOUNS:
        mask = render(one(noun))[1][0]
        x0, y0, x1, y1 = tight_box(mask)
        assert abs(y1 - 116) <= 2 and y0 - 60 <= 6
        assert x0 >= 34 and x1 <= 94 and x1 - x0 >= 44
        assert 1300 <= mask.sum() <= 2600


@pytest.mark.parametrize("noun", NOUNS)
def test_most_of_an_object_has_the_hue_that_its_name_says(noun: str) -> None:
    for name, degrees in HUES.items():
        image, masks = render(one(noun, name, place="snow"))
        hues = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in image[masks[0]]])
        distance = np.abs((hues[:, 0] * 360 - degrees + 180) % 360 - 180)
        assert np.mean((distance < 20) & (hues[:, 1] > 0.15)) >= 0.65, name


def test_white_objects_are_pale_and_still_stand_out_on_snow() -> None:
    for noun in NOUNS:
        image, masks = render(one(noun, "white", place="snow"))
        pixels = image[masks[0]] / 255
        assert np.mean((pixels.max(axis=1) > 0.6) & (np.ptp(pixels, axis=1) < 0.16)) >= 0.65
        moved = [np.roll(masks[0], step, axis) for step in (1, -1) for axis in (0, 1)]
        rim, around = masks[0] & ~np.all(moved, axis=0), ~masks[0] & np.any(moved, axis=0)
        assert image[rim].mean() < image[around].mean() - 30


def test_colours_are_as_frequent_as_one_another_and_counts_as_documented() -> None:
    scenes = [sample_scene(seed) for seed in range(2000)]
    counts = np.bincount([len(scene.objects) for scene in scenes], minlength=4)[1:] / len(scenes)
    np.testing.assert_allclose(counts, (0.45, 0.43, 0.12), atol=0.035)
    colours = [obj.colour for scene in scenes for obj in scene.objects if obj.colour]
    shares = [colours.count(colour) / len(colours) for colour in COLOURS]
    np.testing.assert_allclose(shares, 1 / 8, atol=0.03)


def test_objects_in_one_scene_have_different_nouns_and_adjectives_before_and_after_an_edit() -> None:
    for seed in range(200):
        spec = sample_scene(seed, objects=2 + seed % 2)
        for scene in (spec, sample_edit(spec, seed)[1]):
            assert len({obj.noun for obj in scene.objects}) == len(scene.objects)
            assert len({obj.adjective for obj in scene.objects}) == len(scene.objects)


def test_captions_are_plain_english() -> None:
    assert caption(one(place="beach")) == "a red cat on the beach"
    assert caption(one(colour="orange", place="night")) == "an orange cat at night"
    assert caption(two()) == "a striped blue boat and a wooden house in a meadow"
    assert caption(replace(two(), template=1)) == "a photo of a striped blue boat and a wooden house in a meadow"
    star = SceneObject("star", "red", "plain", (0, 0, 40, 40))
    three = SceneSpec((star, replace(star, noun="tree"), replace(star, noun="apple")), "sea", 0)
    assert caption(three) == "a red star, a red tree and a red apple on the sea"


def test_a_full_caption_names_every_object_and_the_place() -> None:
    for seed in range(HELD_OUT_SEED, HELD_OUT_SEED + 200):
        spec = sample_scene(seed)
        text = caption(spec)
        assert all(obj.phrase in text for obj in spec.objects)
        assert text == text.lower() and not text.endswith(".") and "  " not in text
        assert WORDS_FOR_PLACES & set(text.replace(",", "").split())


def test_training_captions_sometimes_leave_out_adjectives_or_the_place() -> None:
    specs = [sample_scene(seed) for seed in range(2000)]
    texts = [caption(spec, vary=True) for spec in specs]
    bare = [
        all(obj.adjective not in text.split() for obj in spec.objects) for spec, text in zip(specs, texts, strict=True)
    ]
    placed = [bool(WORDS_FOR_PLACES & set(text.replace(",", "").split())) for text in texts]
    assert abs(np.mean(bare) - 0.12) < 0.03 and abs(1 - np.mean(placed) - 0.10) < 0.03
    assert all(obj.noun in text for spec, text in zip(specs, texts, strict=True) for obj in spec.objects)
    assert texts == [caption(spec, vary=True) for spec in specs]
    assert not any(text.endswith((",", " ")) or text.startswith((",", " ")) for text in texts)


def test_an_edit_changes_one_object_in_one_respect() -> None:
    kinds = set()
    for seed in range(300):
        spec = sample_scene(seed)
        edit, edited = sample_edit(spec, 5)
        assert (edit, edited) == sample_edit(spec, 5)
        before, after = spec.objects[edit.index], edited.objects[edit.index]
        assert replace(edited, objects=spec.objects) == spec
        assert [a == b for a, b in zip(spec.objects, edited.objects, strict=True)].count(False) == 1
        assert before.box == after.box and before.mirrored == after.mirrored
        assert edit.phrase == before.phrase and edit.target_phrase == after.phrase
        assert edit.phrase.replace(edit.source_word, edit.target_word) == edit.target_phrase
        if edit.kind == "swap":
            assert replace(after, noun=before.noun) == before and edit.source_word == before.noun
        else:
            assert after.noun == before.noun
        source, target = caption(spec).split(), caption(edited).split()
        changed = [(a, b) for a, b in zip(source, target, strict=True) if a != b and {a, b} != {"a", "an"}]
        assert [(a.strip(","), b.strip(",")) for a, b in changed] == [(edit.source_word, edit.target_word)]
        kinds.add((edit.kind, before.material, after.material))
    assert {
        ("attribute", "plain", "wooden"),
        ("attribute", "striped", "dotted"),
        ("attribute", "wooden", "plain"),
    } < kinds
    assert {("attribute", "plain", "plain"), ("swap", "plain", "plain"), ("swap", "wooden", "wooden")} < kinds


@pytest.mark.parametrize("kind", ["swap", "attribute"])
def test_the_kind_of_edit_can_be_chosen(kind: str) -> None:
    assert {sample_edit(sample_scene(seed), 0, kind)[0].kind for seed in range(30)} == {kind}  # type: ignore[arg-type]


def test_held_out_scenes_come_from_seeds_that_training_never_draws() -> None:
    assert all(held_out_pair(number)[0].seed not in TRAINING_SEEDS for number in (0, 1, 199, 10_000))
    assert max(TRAINING_SEEDS) < HELD_OUT_SEED


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="seed: got -1"):
        sample_scene(-1)
    with pytest.raises(ValueError, match="seed: got -1"):
        held_out_pair(-1)
    with pytest.raises(ValueError, match="objects: got 4"):
        sample_scene(0, objects=4)
    with pytest.raises(ValueError, match="kind: got 'turn'"):
        sample_edit(one(), 0, "turn")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="noun: 'wolf'"):
        render(one("wolf"))
    with pytest.raises(ValueError, match="background: 'moon'"):
        render(one(place="moon"))
    with pytest.raises(ValueError, match="mask: is empty"):
        tight_box(np.zeros((4, 4), dtype=bool))


def test_a_tight_box_goes_around_the_pixels() -> None:
    mask = np.zeros((10, 12), dtype=bool)
    mask[2:5, 7] = True
    mask[8, 3] = True
    assert tight_box(mask) == (3, 2, 8, 9)


def test_backgrounds_hold_no_fine_noise() -> None:
    # Halved and enlarged again, a background stays above the 28 dB that the autoencoder is to reach, and at
    # least half of it differs from the mean of its neighbours by no more than a quarter of a grey level.
    for place in BACKGROUNDS:
        for seed in range(5):
            image = render(SceneSpec((), place, seed))[0]
            halved = Image.fromarray(image).resize((64, 64), Image.Resampling.BOX)
            again = np.asarray(halved.resize((128, 128), Image.Resampling.BICUBIC))
            error = np.mean((image.astype(float) - again) ** 2)
            assert 10 * np.log10(255**2 / error) > 31, (place, seed)
            grey = image.mean(axis=2)
            near = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:]
            assert np.median(np.abs(4 * grey[1:-1, 1:-1] - near)) <= 1, (place, seed)
