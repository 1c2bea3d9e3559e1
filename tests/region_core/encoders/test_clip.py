"""CLIP's guidance: each loss by hand, embeddings against transformers' own way, and what is refused."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from pinpoint.assets import EMBEDDED
from pinpoint.region_core.encoders.clip import (
    ClipEncoder,
    CompositeLoss,
    Crops,
    GuidanceWeights,
    clip_loss,
    direction_loss,
    load_clip,
    quality,
    self_similarity,
    structure_loss,
)
from pinpoint.tests.fixtures.tiny_encoders import tiny_clip, tiny_clip_model, tiny_vit, write_tiny_clip


@pytest.fixture(scope="module", name="guide")
def _guide() -> ClipEncoder:
    return tiny_clip()


def pictures(count: int, height: int = 32, width: int = 32, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


# Each loss by hand


def test_the_clip_loss_is_one_minus_the_cosine() -> None:
    edited = torch.tensor([[1.0, 0, 0], [0.6, 0.8, 0], [-1, 0, 0]])
    found = clip_loss(edited, torch.tensor([[1.0, 0, 0]]))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.4, 2.0]))


def test_self_similarity_is_the_cosine_of_every_two_patches() -> None:
    features = torch.tensor([[[2.0, 0], [3, 3], [0, -1]]])
    r = 1 / math.sqrt(2)
    expected = torch.tensor([[[1, r, 0], [r, 1, -r], [0, -r, 1]]])
    torch.testing.assert_close(self_similarity(features), expected)


def test_the_structure_loss_is_the_norm_of_the_difference_over_the_patches() -> None:
    source = torch.tensor([[[1.0, 0], [0, 1]]])  # Q = [[1, 0], [0, 1]]
    edited = torch.tensor([[[1.0, 0], [1, 0]], [[1, 0], [3, 4]], [[5, 0], [0, 2]]])
    # Q = [[1, 1], [1, 1]], [[1, 0.6], [0.6, 1]] and the source's: norms √2, 0.6·√2 and 0, over N = 2.
    found = structure_loss(edited, source)
    torch.testing.assert_close(found, torch.tensor([math.sqrt(2) / 2, 0.6 * math.sqrt(2) / 2, 0.0]))


def test_the_structure_loss_has_a_finite_gradient_where_nothing_has_changed() -> None:
    source = torch.rand(1, 4, 3, generator=torch.Generator().manual_seed(0))
    edited = source.clone().requires_grad_(True)
    structure_loss(edited, source).sum().backward()
    assert edited.grad is not None and bool(torch.isfinite(edited.grad).all())


def test_the_direction_loss_compares_the_changes_of_image_and_text() -> None:
    source, roi = torch.tensor([[1.0, 1, 0]]), torch.tensor([[0.0, 0, 1]])
    prompt = torch.tensor([[0.0, 2, 1]])  # text direction (0, 2, 0)
    edited = torch.tensor([[1.0, 4, 0], [4, 1, 0], [1, 0.5, 0], [4, 5, 0], [1, 1, 0]])
    # Image directions (0, 3, 0), (3, 0, 0), (0, −0.5, 0), (3, 4, 0), and none at all.
    found = direction_loss(edited, source, prompt, roi)
    torch.testing.assert_close(found, torch.tensor([0.0, 1.0, 2.0, 0.2, 1.0]))


def test_the_direction_loss_has_a_finite_gradient_where_nothing_has_changed() -> None:
    edited = torch.tensor([[1.0, 1, 0]], requires_grad=True)
    direction_loss(edited, edited.detach(), torch.tensor([[0.0, 2, 1]]), torch.ones(1, 3)).sum().backward()
    assert edited.grad is not None and bool(torch.isfinite(edited.grad).all())


def test_the_quality_is_twice_the_text_and_once_the_image_similarity() -> None:
    found = quality(torch.tensor([0.3, 0.1]), torch.tensor([0.8, 0.9]))
    torch.testing.assert_close(found, torch.tensor([1.4, 1.1]))
    torch.testing.assert_close(quality(torch.tensor([0.3]), torch.tensor([0.8]), 1, 3), torch.tensor([2.7]))


# The whole loss


def test_the_composite_loss_is_the_weighted_sum_of_the_three(guide: ClipEncoder) -> None:
    source, edited = pictures(1, seed=1), pictures(3, seed=2)
    e_x, e_o = guide.encode_images(source), guide.encode_images(edited)
    e_t, e_roi = guide.encode_texts(["a red fox"]), guide.encode_texts(["a cat"])
    f_x, f_o = guide.patch_features(source), guide.patch_features(edited)
    by_hand = []
    for i in range(3):
        l_clip = 1 - float(e_o[i] @ e_t[0])
        change, wanted = e_o[i] - e_x[0], e_t[0] - e_roi[0]
        l_dir = 1 - float(change @ wanted / (change.norm() * wanted.norm()))
        unit_o = f_o[i] / f_o[i].norm(dim=1, keepdim=True)
        unit_x = f_x[0] / f_x[0].norm(dim=1, keepdim=True)
        l_str = float(((unit_o @ unit_o.T - unit_x @ unit_x.T) ** 2).sum() ** 0.5) / 16
        by_hand.append(2.0 * l_clip + 0.5 * l_str + 3.0 * l_dir)
    loss = CompositeLoss(guide, source, "a red fox", "a cat", GuidanceWeights(2.0, 0.5, 3.0))
    torch.testing.assert_close(loss(edited), torch.tensor(by_hand), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["clip", "structure", "direction"])
def test_a_loss_of_weight_zero_is_left_out(guide: ClipEncoder, name: str) -> None:
    source, edited = pictures(1, seed=1), pictures(2, seed=2)
    everything = CompositeLoss(guide, source, "a red fox", "a cat").terms(edited)
    assert set(everything) == {"clip", "structure", "direction"}
    alone = GuidanceWeights(**{other: float(other == name) for other in everything})
    loss = CompositeLoss(guide, source, "a red fox", "a cat", alone)
    assert set(loss.terms(edited)) == {name}
    torch.testing.assert_close(loss(edited), everything[name])


def test_the_loss_is_differentiable_in_the_edit(guide: ClipEncoder) -> None:
    source = pictures(1, seed=1).double()
    edited = pictures(1, seed=2).requires_grad_(True)
    loss = CompositeLoss(guide, source.float(), "a red fox", "a cat")
    loss(edited).sum().backward()
    assert edited.grad is not None
    direction = edited.grad / edited.grad.norm()
    with torch.no_grad():
        ahead, behind = (loss(edited + step * direction) for step in (1e-2, -1e-2))
    slope = float((ahead - behind).sum()) / 2e-2
    assert slope == pytest.approx(float(edited.grad.norm()), rel=0.05)


def test_another_vit_may_judge_the_structure(guide: ClipEncoder) -> None:
    vision = tiny_vit()
    source, edited = pictures(1, seed=1), pictures(2, seed=2)
    loss = CompositeLoss(guide.with_structure(vision), source, "a red fox", "a cat")
    expected = structure_loss(vision.patch_features(edited), vision.patch_features(source))
    torch.testing.assert_close(loss.terms(edited)["structure"], expected)
    assert guide.structure is None


def test_crops_are_averaged_with_the_whole_image_and_cut_source_and_edit_alike(guide: ClipEncoder) -> None:
    source, edited = pictures(1, 40, 40, seed=1), pictures(2, 40, 40, seed=2)
    crops = Crops(count=2, smallest=0.5, seed=3)
    views = crops.views(torch.cat([source, edited]))
    assert len(views) == 3 and torch.equal(views[0][1:], edited)
    assert all(20 <= side <= 40 for view in views[1:] for side in view.shape[-2:])
    e_t, e_roi = guide.encode_texts(["a red fox"]), guide.encode_texts(["a cat"])
    encoded = [guide.encode_images(view) for view in views]
    clip = sum(1 - e[1:] @ e_t[0] for e in encoded) / 3
    direction = sum(direction_loss(e[1:], e[:1], e_t, e_roi) for e in encoded) / 3
    terms = CompositeLoss(guide, source, "a red fox", "a cat", crops=crops).terms(edited)
    torch.testing.assert_close(terms["clip"], clip)
    torch.testing.assert_close(terms["direction"], direction)


def test_a_crop_is_a_part_of_the_image_or_its_mirror() -> None:
    numbered = torch.arange(30 * 30.0).reshape(1, 1, 30, 30).expand(1, 3, 30, 30)
    mirrored = []
    for view in Crops(count=20, smallest=0.6).views(numbered)[1:]:
        rows = view[0, 0]
        step = rows[0, 1] - rows[0, 0]
        mirrored.append(bool(step < 0))
        assert abs(float(step)) == 1 and float(rows[1, 0] - rows[0, 0]) == 30
        assert len(rows) >= 18 and rows.shape[1] >= 18
    assert any(mirrored) and not all(mirrored)
    assert all(float(v[0, 0, 0, 1] - v[0, 0, 0, 0]) > 0 for v in Crops(20, flip=False).views(numbered))


# The encoders


def test_images_are_prepared_as_clips_own_processor_does(guide: ClipEncoder) -> None:
    values = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    size = {"height": 32, "width": 32}
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size)
    pixels = processor(Image.fromarray(values), return_tensors="pt")["pixel_values"]
    output = guide.model.visual_projection(guide.model.vision_model(pixel_values=pixels).pooler_output)
    image = torch.from_numpy(values).permute(2, 0, 1)[None] / 255
    found = guide.encode_images(image)
    # The processor rounds to 8 bits after resizing.
    assert float(torch.cosine_similarity(found, output)) > 0.999
    torch.testing.assert_close(found.norm(dim=1), torch.ones(1))


def test_texts_are_encoded_as_transformers_does(guide: ClipEncoder) -> None:
    texts = ["a red fox", "two boats on the sea, at night"]
    tokens = guide.tokenizer(texts, padding=True, return_tensors="pt")
    output = guide.model.text_model(**tokens).pooler_output @ guide.model.text_projection.weight.T
    expected = output / output.norm(dim=1, keepdim=True)
    torch.testing.assert_close(guide.encode_texts(texts), expected, atol=1e-5, rtol=1e-4)


def test_looking_gives_embeddings_and_patches_in_one_pass(guide: ClipEncoder) -> None:
    images = pictures(2)
    embeddings, patches = guide.look(images)
    assert patches.shape == (2, 16, 32)
    torch.testing.assert_close(embeddings, guide.encode_images(images))
    torch.testing.assert_close(patches, guide.patch_features(images))


def test_an_image_of_any_shape_is_seen_whole(guide: ClipEncoder) -> None:
    wide = pictures(1, 40, 90)
    changed = wide.clone()
    changed[..., -8:] = 0
    assert float((guide.encode_images(wide) - guide.encode_images(changed)).norm()) > 1e-3


def test_a_clip_folder_opens_with_what_it_says(tmp_path: Path, guide: ClipEncoder) -> None:
    opened = load_clip(write_tiny_clip(tmp_path / "clip"))
    plain = load_clip(write_tiny_clip(tmp_path / "plain", preprocessor=False))
    assert opened.mean == plain.mean == pytest.approx((0.4815, 0.4578, 0.4082), abs=1e-3)
    for other in (opened, plain):
        torch.testing.assert_close(other.encode_images(pictures(1)), guide.encode_images(pictures(1)))
        torch.testing.assert_close(other.encode_texts(["a cat"]), guide.encode_texts(["a cat"]))


# What is refused


@pytest.mark.parametrize("name", ["prompt", "caption"])
def test_a_text_that_clip_would_cut_is_refused_by_name(guide: ClipEncoder, name: str) -> None:
    texts = {"prompt": "a fox", "caption": "a cat"}
    texts[name] = "cat " * 75
    CompositeLoss(guide, pictures(1), texts["prompt"], texts["caption"])
    texts[name] = "cat " * 77
    with pytest.raises(ValueError, match=rf"{name} is too long: it has 77 tokens.* leave out 2"):
        CompositeLoss(guide, pictures(1), texts["prompt"], texts["caption"])
    texts[name] = "  "
    with pytest.raises(ValueError, match=rf"{name} is empty"):
        CompositeLoss(guide, pictures(1), texts["prompt"], texts["caption"])


def test_a_caption_that_says_what_the_prompt_says_is_refused(guide: ClipEncoder) -> None:
    with pytest.raises(ValueError, match="caption: got 'A  cat'"):
        CompositeLoss(guide, pictures(1), "a cat", "A  cat")
    CompositeLoss(guide, pictures(1), "a cat", "a cat", GuidanceWeights(direction=0))


def test_the_refusal_of_equal_texts_speaks_of_nothing_but_the_texts(guide: ClipEncoder) -> None:
    with pytest.raises(ValueError, match="'a cat'") as refused:
        CompositeLoss(guide, pictures(1), "a cat", "A  cat")
    assert "weight" not in str(refused.value)  # no command and no node has one


@pytest.mark.parametrize("left", [(), ("vocab.json",), ("merges.txt", "tokenizer_config.json")])
def test_a_clip_folder_without_a_tokenizer_is_refused(left: tuple[str, ...], tmp_path: Path) -> None:
    folder = tmp_path / "clip"
    tiny_clip_model().save_pretrained(folder)
    for file in left:
        shutil.copy(EMBEDDED / "clip" / file, folder)
    with pytest.raises(ValueError, match=r"the folder lacks a tokenizer, wants tokenizer\.json, or vocab\.json"):
        load_clip(folder)


def test_a_tokenizer_in_two_files_is_one(tmp_path: Path) -> None:
    assert not (EMBEDDED / "clip" / "tokenizer.json").exists()
    assert load_clip("embedded").token_ids("a cat") == load_clip(EMBEDDED / "clip").token_ids("a cat")


def test_another_clips_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path / "clip")  # of OpenAI's 49408 tokens; the embedded CLIP has fewer
    (folder / "tokenizer.json").unlink(missing_ok=True)
    for file in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        shutil.copy(EMBEDDED / "clip" / file, folder)
    words = len(json.loads((folder / "vocab.json").read_text(encoding="utf-8")))
    with pytest.raises(ValueError, match=f"its tokenizer has {words} tokens and its text model 49408"):
        load_clip(folder)


def test_a_tokenizer_that_is_damaged_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_clip(tmp_path / "clip")
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"clip .* cannot be opened"):
        load_clip(folder)


def test_weights_and_crops_out_of_bounds_are_refused() -> None:
    for weights in ((-1.0, 1, 1), (1, math.nan, 1), (0, 0, 0)):
        with pytest.raises(ValueError, match="weight"):
            GuidanceWeights(*weights)
    for crops in ({"count": -1}, {"smallest": 0.0}, {"smallest": 1.5}):
        with pytest.raises(ValueError, match="crops: got"):
            Crops(**crops)


def test_tensors_that_are_no_images_are_refused(guide: ClipEncoder) -> None:
    with pytest.raises(ValueError, match="images: got the shape"):
        guide.encode_images(torch.rand(3, 32, 32))
