"""The composite editing loss: each loss by hand, and what is refused."""

from __future__ import annotations

import math

import pytest
import torch

from pinpoint.region_core.encoders.clip import ClipEncoder
from pinpoint.region_core.losses import (
    CompositeLoss,
    Crops,
    LossWeights,
    clip_loss,
    direction_loss,
    self_similarity,
    structure_loss,
)
from pinpoint.tests.fixtures.tiny_encoders import tiny_clip, tiny_vit


@pytest.fixture(scope="module", name="clip")
def _clip() -> ClipEncoder:
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


# The whole loss


def test_the_composite_loss_is_the_weighted_sum_of_the_three(clip: ClipEncoder) -> None:
    source, edited = pictures(1, seed=1), pictures(3, seed=2)
    e_x, e_o = clip.encode_images(source), clip.encode_images(edited)
    e_t, e_roi = clip.encode_texts(["a red fox"]), clip.encode_texts(["a cat"])
    f_x, f_o = clip.patch_features(source), clip.patch_features(edited)
    by_hand = []
    for i in range(3):
        l_clip = 1 - float(e_o[i] @ e_t[0])
        change, wanted = e_o[i] - e_x[0], e_t[0] - e_roi[0]
        l_dir = 1 - float(change @ wanted / (change.norm() * wanted.norm()))
        unit_o = f_o[i] / f_o[i].norm(dim=1, keepdim=True)
        unit_x = f_x[0] / f_x[0].norm(dim=1, keepdim=True)
        l_str = float(((unit_o @ unit_o.T - unit_x @ unit_x.T) ** 2).sum() ** 0.5) / 16
        by_hand.append(2.0 * l_clip + 0.5 * l_str + 3.0 * l_dir)
    loss = CompositeLoss(clip, source, "a red fox", "a cat", LossWeights(2.0, 0.5, 3.0))
    torch.testing.assert_close(loss(edited), torch.tensor(by_hand), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["clip", "structure", "direction"])
def test_a_loss_of_weight_zero_is_left_out(clip: ClipEncoder, name: str) -> None:
    source, edited = pictures(1, seed=1), pictures(2, seed=2)
    everything = CompositeLoss(clip, source, "a red fox", "a cat").terms(edited)
    assert set(everything) == {"clip", "structure", "direction"}
    alone = LossWeights(**{other: float(other == name) for other in everything})
    loss = CompositeLoss(clip, source, "a red fox", "a cat", alone)
    assert set(loss.terms(edited)) == {name}
    torch.testing.assert_close(loss(edited), everything[name])


def test_the_loss_is_differentiable_in_the_edit(clip: ClipEncoder) -> None:
    source = pictures(1, seed=1).double()
    edited = pictures(1, seed=2).requires_grad_(True)
    loss = CompositeLoss(clip, source.float(), "a red fox", "a cat")
    loss(edited).sum().backward()
    assert edited.grad is not None
    direction = edited.grad / edited.grad.norm()
    with torch.no_grad():
        ahead, behind = (loss(edited + step * direction) for step in (1e-2, -1e-2))
    slope = float((ahead - behind).sum()) / 2e-2
    assert slope == pytest.approx(float(edited.grad.norm()), rel=0.05)


def test_another_vit_may_judge_the_structure(clip: ClipEncoder) -> None:
    vision = tiny_vit()
    source, edited = pictures(1, seed=1), pictures(2, seed=2)
    loss = CompositeLoss(clip.with_structure(vision), source, "a red fox", "a cat")
    expected = structure_loss(vision.patch_features(edited), vision.patch_features(source))
    torch.testing.assert_close(loss.terms(edited)["structure"], expected)
    assert clip.structure is None


def test_crops_are_averaged_with_the_whole_image_and_cut_source_and_edit_alike(clip: ClipEncoder) -> None:
    source, edited = pictures(1, 40, 40, seed=1), pictures(2, 40, 40, seed=2)
    crops = Crops(count=2, smallest=0.5, seed=3)
    views = crops.views(torch.cat([source, edited]))
    assert len(views) == 3 and torch.equal(views[0][1:], edited)
    assert all(20 <= side <= 40 for view in views[1:] for side in view.shape[-2:])
    e_t, e_roi = clip.encode_texts(["a red fox"]), clip.encode_texts(["a cat"])
    encoded = [clip.encode_images(view) for view in views]
    by_clip = sum(1 - e[1:] @ e_t[0] for e in encoded) / 3
    direction = sum(direction_loss(e[1:], e[:1], e_t, e_roi) for e in encoded) / 3
    terms = CompositeLoss(clip, source, "a red fox", "a cat", crops=crops).terms(edited)
    torch.testing.assert_close(terms["clip"], by_clip)
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


# What is refused


@pytest.mark.parametrize("name", ["prompt", "caption"])
def test_a_text_that_clip_would_cut_is_refused_by_name(clip: ClipEncoder, name: str) -> None:
    texts = {"prompt": "a fox", "caption": "a cat"}
    texts[name] = "cat " * 75
    CompositeLoss(clip, pictures(1), texts["prompt"], texts["caption"])
    texts[name] = "cat " * 77
    with pytest.raises(ValueError, match=rf"{name} is too long: it has 77 tokens.* leave out 2"):
        CompositeLoss(clip, pictures(1), texts["prompt"], texts["caption"])
    texts[name] = "  "
    with pytest.raises(ValueError, match=rf"{name} is empty"):
        CompositeLoss(clip, pictures(1), texts["prompt"], texts["caption"])


def test_a_caption_that_says_what_the_prompt_says_is_refused(clip: ClipEncoder) -> None:
    with pytest.raises(ValueError, match=r"caption: got 'A  cat'.* 'a cat'") as refused:
        CompositeLoss(clip, pictures(1), "a cat", "A  cat")
    assert "weight" not in str(refused.value)  # no command and no node has one
    CompositeLoss(clip, pictures(1), "a cat", "a cat", LossWeights(direction=0))


def test_weights_and_crops_out_of_bounds_are_refused() -> None:
    for weights in ((-1.0, 1, 1), (1, math.nan, 1), (0, 0, 0)):
        with pytest.raises(ValueError, match="weight"):
            LossWeights(*weights)
    for crops in ({"count": -1}, {"smallest": 0.0}, {"smallest": 1.5}):
        with pytest.raises(ValueError, match="crops: got"):
            Crops(**crops)
