"""The dual encoder's training: which texts are true of what, the contrast by hand, and its layout."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou
from transformers import AutoTokenizer, CLIPModel, CLIPProcessor, CLIPTokenizer

from pinpoint.locinv_core.backbones.loading import EMBEDDED_FOLDER
from pinpoint.research.embedded_world.networks.clip import (
    build_clip,
    contrast,
    edit_loss,
    embed_images,
    embed_texts,
    train_clip,
)
from pinpoint.research.embedded_world.networks.exporting import copy_tokenizer, write_clip
from pinpoint.research.embedded_world.networks.tokenizer import encode_texts
from pinpoint.research.embedded_world.scenes.dataset import load_images
from pinpoint.research.embedded_world.scenes.materials import COLOURS
from pinpoint.research.embedded_world.scenes.spec import NOUNS, sample_scene
from pinpoint.research.embedded_world.scenes.wording import (
    object_window,
    overlap,
    poor_window,
    true_of_object,
    true_of_scene,
    word_scene,
)
from pinpoint.research.embedded_world.training.fitting import Run
from pinpoint.research.embedded_world.training.recipe import Recipe

TINY = Recipe().smoke().clip
TOKENIZER = EMBEDDED_FOLDER / "tokenizer"


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(TOKENIZER)


def test_the_contrast_agrees_with_a_hand_calculation() -> None:
    logits = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 5.0]])
    ignored = torch.tensor([[True, False, False], [False, False, True]])
    # Row 0 keeps all (its own column counts in spite of the mark), row 1 leaves out the 5.
    first = -math.log(math.exp(2) / (math.exp(2) + 1 + math.e))
    second = -math.log(math.exp(3) / (1 + math.exp(3)))
    assert contrast(logits, ignored).item() == pytest.approx((first + second) / 2)


def test_the_loss_of_edits_agrees_with_a_hand_calculation() -> None:
    source, caption = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    edit, spoilt = torch.tensor([[0.6, 0.8]]), torch.tensor([[0.8, 0.6]])
    # S: edit 2 * 0.8 + 0.6 = 2.2, source 0 + 1 = 1, spoilt 2 * 0.6 + 0.8 = 2; times 3.
    expected = -math.log(math.exp(6.6) / (math.exp(6.6) + math.exp(3.0) + math.exp(6.0)))
    loss = edit_loss(source, edit, spoilt, caption, torch.tensor(3.0))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_overlap_is_torchvisions() -> None:
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [5.0, 2.0, 18.0, 9.0], [40.0, 40.0, 50.0, 60.0]])
    expected = box_iou(boxes, boxes)
    for k, first in enumerate(boxes.tolist()):
        for n, second in enumerate(boxes.tolist()):
            assert overlap(first, second) == pytest.approx(expected[k, n].item())


def test_good_crops_show_the_object_and_poor_ones_do_not() -> None:
    rng = np.random.default_rng(0)
    for box in ((2, 60, 48, 104), (40, 30, 100, 90), (80, 70, 126, 124)):
        for _ in range(60):
            good, poor = object_window(box, rng, size=128), poor_window(box, rng, size=128)
            assert overlap(good, box) > 0.35
            assert overlap(poor, box) < 0.3
            for x0, y0, x1, y1 in (good, poor):
                assert 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 128


def test_right_texts_name_what_is_there_and_wrong_texts_something_that_is_not() -> None:
    rng = np.random.default_rng(0)
    for seed in range(150):
        things = sample_scene(seed).objects
        phrases = {obj.phrase for obj in things}
        example = word_scene(seed, rng)
        assert all(obj.noun in example.caption for obj in things)
        said = f" {example.altered} ".replace(",", " ")
        others = set(NOUNS) - {obj.noun for obj in things}
        assert not all(f" {phrase} " in said for phrase in phrases) or any(f" {n} " in said for n in others)
        obj = next(obj for obj in things if obj.phrase in example.obj)
        assert example.name in (obj.phrase, obj.noun)
        assert example.name in example.phrase
        assert example.altered_name not in {text for each in things for text in (each.phrase, each.noun)}
        assert overlap(example.window, obj.box) > 0.35


def test_altered_captions_also_leave_an_object_out_or_add_one() -> None:
    rng = np.random.default_rng(2)
    for count in (1, 2, 3):
        seed = next(seed for seed in range(100) if len(sample_scene(seed).objects) == count)
        named = set()
        for _ in range(60):
            said = f" {word_scene(seed, rng).altered} ".replace(",", " ")
            named.add(sum(f" {noun} " in said for noun in NOUNS))
        assert named == {1: {1, 2}, 2: {1, 2, 3}, 3: {2, 3}}[count]


def test_a_traded_look_keeps_the_words_and_breaks_the_pairs() -> None:
    rng = np.random.default_rng(1)
    seed = next(
        seed
        for seed in range(100)
        if len(sample_scene(seed).objects) == 2 and all(obj.material == "plain" for obj in sample_scene(seed).objects)
    )
    cat, fox = sample_scene(seed).objects
    altered = {word_scene(seed, rng).altered for _ in range(40)}
    traded = [text for text in altered if f"{fox.colour} {cat.noun}" in text]
    assert traded
    assert all(f"{cat.colour} {fox.noun}" in text for text in traded)


def test_names_are_true_of_their_own_object_and_of_every_scene_that_has_it() -> None:
    rng = np.random.default_rng(0)
    examples = [word_scene(seed, rng) for seed in range(6)]
    names = [f"{colour} {noun}" for colour in COLOURS for noun in NOUNS] + list(NOUNS)
    of_object, of_scene = true_of_object(examples, names), true_of_scene(examples, names)
    for seed in range(6):
        things = sample_scene(seed).objects
        said = {obj.noun for obj in things} | {t.phrase for t in things if t.material == "plain"}
        assert {name for name, true in zip(names, of_scene[seed], strict=True) if true} == said
        assert not (of_object[seed] & ~of_scene[seed]).any()


def test_a_text_that_would_be_cut_is_refused(tokenizer: CLIPTokenizer) -> None:
    assert encode_texts(tokenizer, ["a red cat", "a cat"]).shape == (2, 40)
    with pytest.raises(ValueError, match=r"takes 50 tokens, .*requires 40 or fewer"):
        encode_texts(tokenizer, ["a cat", "a red cat and " * 12], longest=True)


def test_padding_changes_no_text(tokenizer: CLIPTokenizer) -> None:
    torch.manual_seed(0)
    model = build_clip(TINY, vocabulary=len(tokenizer), length=40).eval()
    texts = ["a cat", "a photo of a striped red boat on the sea"]
    together = embed_texts(model, encode_texts(tokenizer, texts, longest=True))
    apart = torch.cat([embed_texts(model, encode_texts(tokenizer, [text], longest=True)) for text in texts])
    torch.testing.assert_close(together, apart)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(2))


def test_transformers_opens_the_folder_and_gives_the_same_vectors(tokenizer: CLIPTokenizer, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = build_clip(TINY, vocabulary=len(tokenizer), length=40).eval()
    write_clip(model, TOKENIZER, tmp_path)
    opened = CLIPModel.from_pretrained(tmp_path, local_files_only=True).float().eval()
    processor = CLIPProcessor.from_pretrained(tmp_path, local_files_only=True)
    pixels = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    with torch.no_grad():
        inputs = processor(text=["a red cat"], images=[pixels], return_tensors="pt", padding=True)
        theirs = opened(**inputs)
        image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255
        ours = embed_images(model, image), embed_texts(model, encode_texts(tokenizer, ["a red cat"], longest=True))
    torch.testing.assert_close(theirs.image_embeds, ours[0], atol=3e-3, rtol=0)
    torch.testing.assert_close(theirs.text_embeds, ours[1], atol=3e-3, rtol=0)
    assert len(AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)) == len(tokenizer)
    assert next(model.parameters()).dtype == torch.float32  # writing in fp16 leaves the model as it was


def test_a_folder_without_a_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"has no vocab\.json"):
        copy_tokenizer(tmp_path, tmp_path / "out")


def test_the_recipes_dual_encoder_keeps_to_its_size(tokenizer: CLIPTokenizer) -> None:
    model = build_clip(Recipe().clip, vocabulary=len(tokenizer), length=40)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_200_000


def test_an_encoder_of_smaller_images_than_the_scenes_trains_on_them_too(smoke: Path, tmp_path: Path) -> None:
    told: list[str] = []
    train_clip(
        load_images(smoke / "work" / "scenes", "images"),
        load_images(smoke / "work" / "scenes", "edited"),
        range(12),
        TOKENIZER,
        replace(TINY, side=64),
        Run(tmp_path / "clip.safetensors", tmp_path / "clip", 0, told.append),
    )
    assert CLIPModel.from_pretrained(tmp_path / "clip").config.vision_config.image_size == 64
    assert any("step 3/3" in line for line in told)
