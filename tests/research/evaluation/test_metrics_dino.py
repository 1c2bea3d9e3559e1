"""DINO's similarity and structure distance against a forward pass written out in the test."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pinpoint.region_core.encoders.vit import VisionFeatures
from pinpoint.research.evaluation.metrics.dino import (
    SeenByVit,
    last_keys,
    see,
    similarity,
    structure_distance,
)
from pinpoint.tests.fixtures.tiny_encoders import PATCH, tiny_dinov2_model, tiny_vit, tiny_vit_model


def picture(seed: int, height: int = 32, width: int = 32) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def slow_structure_distance(keys: list[Tensor]) -> float:
    """Mean squared difference of cosines, two loops over the tokens."""
    total, count = 0.0, len(keys[0])
    for i in range(count):
        for j in range(count):
            one, other = (F.cosine_similarity(k[i].double(), k[j].double(), dim=0) for k in keys)
            total += float((one - other) ** 2)
    return total / count**2


def vit_by_hand(image: Tensor) -> tuple[Tensor, Tensor]:
    """(keys of the last layer (17, 32), [CLS]) of the tiny ViT, layer by layer from its weights."""
    weights = tiny_vit_model().state_dict()
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    x = (image[0] - mean) / std
    kernel = weights["embeddings.patch_embeddings.projection.weight"]
    bias = weights["embeddings.patch_embeddings.projection.bias"]
    patches = F.conv2d(x[None], kernel, bias, stride=PATCH)[0].flatten(1).T
    tokens = torch.cat([weights["embeddings.cls_token"][0], patches])
    tokens = tokens + weights["embeddings.position_embeddings"][0]
    keys = torch.empty(0)
    for layer in range(2):
        own = {
            k.split(".", 2)[2]: v
            for k, v in weights.items()
            if k.startswith((f"layers.{layer}.", f"encoder.layer.{layer}."))
        }
        h = F.layer_norm(tokens, (32,), own["layernorm_before.weight"], own["layernorm_before.bias"], 1e-12)
        q, keys, v = (h @ own[f"attention.{n}_proj.weight"].T + own[f"attention.{n}_proj.bias"] for n in "qkv")
        heads = []
        for head in range(4):
            part = slice(8 * head, 8 * head + 8)
            heads.append(torch.softmax(q[:, part] @ keys[:, part].T / 8**0.5, dim=-1) @ v[:, part])
        mixed = torch.cat(heads, dim=1) @ own["attention.o_proj.weight"].T + own["attention.o_proj.bias"]
        tokens = tokens + mixed
        h = F.layer_norm(tokens, (32,), own["layernorm_after.weight"], own["layernorm_after.bias"], 1e-12)
        h = F.gelu(h @ own["mlp.fc1.weight"].T + own["mlp.fc1.bias"])
        tokens = tokens + h @ own["mlp.fc2.weight"].T + own["mlp.fc2.bias"]
    normed = F.layer_norm(tokens, (32,), weights["layernorm.weight"], weights["layernorm.bias"], 1e-12)
    return keys, normed[0]


def test_the_keys_are_the_last_layers_before_its_attention_and_cls_the_models_output() -> None:
    keys, cls = vit_by_hand(picture(1))
    seen = see(tiny_vit(), picture(1))
    torch.testing.assert_close(seen.keys, keys, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(seen.cls, cls, rtol=1e-4, atol=1e-4)


def test_structure_distance_is_the_mean_squared_difference_of_the_keys_cosines() -> None:
    by_hand = [vit_by_hand(picture(seed))[0] for seed in (1, 2)]
    vit = tiny_vit()
    found = structure_distance(see(vit, picture(1)), see(vit, picture(2)))
    assert found == pytest.approx(slow_structure_distance(by_hand), rel=1e-3)


def test_similarity_is_the_cosine_of_cls() -> None:
    (_, one), (_, other) = vit_by_hand(picture(1)), vit_by_hand(picture(2))
    expected = float(one @ other / (one.norm() * other.norm()))
    vit = tiny_vit()
    assert similarity(see(vit, picture(1)), see(vit, picture(2))) == pytest.approx(expected, abs=1e-4)


def test_an_image_is_like_itself() -> None:
    seen = see(tiny_vit(), picture(3))
    assert similarity(seen, seen) == pytest.approx(1)
    assert structure_distance(seen, seen) == 0


@pytest.mark.parametrize(
    ("height", "width", "patches"),
    [
        (64, 64, 4 * 4),  # brought to the ViT's side of 32
        (16, 16, 4 * 4),
        (64, 96, 4 * 6),  # 32x48
        (96, 70, 5 * 4),  # 43x32, of which 40 are whole patches
        (64, 256, 2 * 8),  # 68 pixels is the longest (480/224 of 32), so 17x68
    ],
)
def test_the_shorter_side_becomes_the_vits_own(height: int, width: int, patches: int) -> None:
    assert len(see(tiny_vit(), picture(4, height, width)).keys) == 1 + patches


def test_dino_v2_is_read_the_same_way() -> None:
    vit = VisionFeatures(tiny_dinov2_model(), (0.5,) * 3, (0.5,) * 3, 14, "tiny DINOv2")
    seen = see(vit, picture(5, 28, 28))
    assert seen.keys.shape == (1 + 2 * 2, 32)
    assert last_keys(vit) is vit.model.encoder.layer[1].attention.k_proj


def test_the_vit_keeps_no_hooks() -> None:
    vit = tiny_vit()
    see(vit, picture(6))
    assert not vit.model._forward_hooks and not last_keys(vit)._forward_hooks


def test_a_network_without_keys_is_refused() -> None:
    network = VisionFeatures(torch.nn.Conv2d(3, 3, 1), (0.5,) * 3, (0.5,) * 3, 8, "a convolution")
    with pytest.raises(ValueError, match="'a convolution': its layers have no keys"):
        last_keys(network)


class OnAppleGpu(Tensor):
    """A tensor of a device that, as Apple's GPUs, has no double precision."""

    def double(self) -> Tensor:
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self, *args: Any, **options: Any) -> Tensor:
        return self.as_subclass(Tensor)


def test_what_a_gpu_without_double_precision_has_seen_is_compared_too() -> None:
    keys = [torch.randn(5, 8, generator=torch.Generator().manual_seed(seed)) for seed in (1, 2)]
    one, other = (SeenByVit(k.as_subclass(OnAppleGpu), k[0].as_subclass(OnAppleGpu)) for k in keys)
    cosine = float(keys[0][0] @ keys[1][0] / (keys[0][0].norm() * keys[1][0].norm()))
    assert similarity(one, other) == pytest.approx(cosine, abs=1e-5)
    assert structure_distance(one, other) == pytest.approx(slow_structure_distance(keys), rel=1e-5)
