"""The ViT's attention and features, for any image size; opening ViTs by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from transformers import (
    BeitConfig,
    BeitModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    DeiTConfig,
    DeiTModel,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    SwinConfig,
    SwinModel,
    ViTMAEConfig,
    ViTMAEModel,
)

from pinpoint.region_core.encoders.vit import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MOST_PATCHES,
    VisionFeatures,
    load_vit,
)
from pinpoint.tests.fixtures.tiny_encoders import (
    tiny_dinov2_model,
    tiny_vit,
    tiny_vit_model,
    write_tiny_clip,
    write_tiny_vit,
)


def picture(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def normalised(image: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    return (image - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def test_the_attention_is_the_last_layers_softmax_of_the_cls_query_by_hand() -> None:
    vision, image = tiny_vit(), picture(32, 32)
    model = vision.model
    states: list[torch.Tensor] = []
    last = model.layers[-1] if hasattr(model, "layers") else model.encoder.layer[-1]
    handle = last.register_forward_pre_hook(lambda _, args: states.append(args[0]))
    found = vision.look(image)
    handle.remove()

    hidden = last.layernorm_before(states[0])[0]
    weights = dict(last.named_parameters())
    (q_w,) = [p for n, p in weights.items() if n.endswith(("query.weight", "q_proj.weight"))]
    (q_b,) = [p for n, p in weights.items() if n.endswith(("query.bias", "q_proj.bias"))]
    (k_w,) = [p for n, p in weights.items() if n.endswith(("key.weight", "k_proj.weight"))]
    (k_b,) = [p for n, p in weights.items() if n.endswith(("key.bias", "k_proj.bias"))]
    heads, width = 4, 8
    total = torch.zeros(16)
    for head in range(heads):
        rows = slice(head * width, (head + 1) * width)
        query = hidden[0] @ q_w[rows].T + q_b[rows]
        keys = hidden @ k_w[rows].T + k_b[rows]
        total += torch.softmax(keys @ query / width**0.5, dim=0)[1:] / heads
    torch.testing.assert_close(found.attention, total.reshape(4, 4), atol=1e-5, rtol=1e-4)


def test_features_lie_where_their_patch_is() -> None:
    vision, image = tiny_vit(), picture(32, 48)
    with torch.no_grad():
        output = vision.model(normalised(image), interpolate_pos_encoding=True)
    found = vision.look(image)
    assert found.grid == (4, 6) and found.features.shape == (32, 4, 6)
    assert found.patch == 8 and found.size == (32, 48)
    torch.testing.assert_close(found.features[:, 2, 5], output.last_hidden_state[0, 1 + 2 * 6 + 5])


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (40, 128), (128, 64)])
def test_any_multiple_of_the_patch_can_be_looked_at(height: int, width: int) -> None:
    found = tiny_vit().look(picture(height, width))
    assert found.grid == (height // 8, width // 8)
    assert found.attention.shape == found.grid
    assert 0 < float(found.attention.sum()) < 1  # [CLS] pays itself the rest


def test_a_side_that_is_no_multiple_is_continued_by_its_edge() -> None:
    image = picture(29, 35)
    continued = torch.cat([image, image[:, :, -1:].expand(1, 3, 3, 35)], dim=2)
    continued = torch.cat([continued, continued[..., -1:].expand(1, 3, 32, 5)], dim=3)
    found, expected = tiny_vit().look(image), tiny_vit().look(continued)
    assert found.size == (29, 35) and found.grid == (4, 5)
    torch.testing.assert_close(found.attention, expected.attention)


def test_a_large_image_is_looked_at_reduced_with_a_larger_patch() -> None:
    image = picture(512, 512)
    found = tiny_vit().look(image)
    assert 64 * 64 > MOST_PATCHES and found.patch == 16 and found.grid == (32, 32)
    expected = tiny_vit().look(F.avg_pool2d(image, 2))
    torch.testing.assert_close(found.features, expected.features)


def test_dinov2_whose_patches_are_14_pixels_works_alike() -> None:
    vision = VisionFeatures(tiny_dinov2_model(), IMAGENET_MEAN, IMAGENET_STD, 14, "dinov2")
    found = vision.look(picture(56, 70))
    assert found.grid == (4, 5) and found.features.shape == (32, 4, 5)


def test_patch_features_are_differentiable_in_the_image() -> None:
    vision, image = tiny_vit(), picture(32, 32).requires_grad_(True)
    features = vision.patch_features(image)
    assert features.shape == (1, 16, 32)
    torch.testing.assert_close(features[0].T.reshape(32, 4, 4), vision.look(image.detach()).features)
    features.square().sum().backward()
    assert image.grad is not None and bool((image.grad != 0).any())


def test_an_image_smaller_than_a_patch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"image: got 40x7 pixels, requires at least a patch of 8"):
        tiny_vit().look(picture(7, 40))


def test_a_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="image: got the shape"):
        tiny_vit().look(torch.rand(2, 3, 32, 32))


def test_a_vit_that_gives_no_attention_is_refused() -> None:
    model = tiny_vit_model()
    model.set_attn_implementation("sdpa")
    vision = VisionFeatures(model, IMAGENET_MEAN, IMAGENET_STD, 8, "without")
    with pytest.raises(ValueError, match="gives no attention"):
        vision.look(picture(32, 32))


def test_a_folder_opens_with_the_weights_and_the_normalisation_it_has(tmp_path: Path) -> None:
    image = picture(32, 40)
    plain = load_vit(write_tiny_vit(tmp_path / "plain"))
    assert plain.mean == IMAGENET_MEAN and plain.std == IMAGENET_STD and plain.patch == 8
    torch.testing.assert_close(plain.look(image).attention, tiny_vit().look(image).attention)
    told = load_vit(str(write_tiny_vit(tmp_path / "told", mean=(0.5, 0.25, 0.75))))
    assert told.mean == (0.5, 0.25, 0.75) and told.std == (0.5, 0.5, 0.5)


def test_a_vit_opened_inside_inference_mode_can_take_part_in_a_gradient(tmp_path: Path) -> None:
    folder = write_tiny_vit(tmp_path / "vit")
    with torch.inference_mode():
        vision = load_vit(folder)
    image = picture(32, 32).requires_grad_(True)
    vision.patch_features(image).sum().backward()
    assert image.grad is not None


def test_folders_and_names_that_there_are_not_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="a folder that does not exist"):
        load_vit(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="a folder that does not exist"):
        load_vit("./nowhere/at/all")
    with pytest.raises(ValueError, match="local cache"):
        load_vit("nobody/no-such-vit")


def test_a_model_that_is_no_vit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="requires a ViT"):
        load_vit(write_tiny_clip(tmp_path / "clip"))


TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
TINY_ON_16 = TINY | {"image_size": 64, "patch_size": 16}


@pytest.mark.parametrize(
    ("model", "message"),
    [
        # Three quarters of the 24 patches are hidden from it; 6 and [CLS] are left.
        (ViTMAEModel(ViTMAEConfig(**TINY_ON_16)), "it reads 7 tokens, on 24 patches"),
        (SiglipVisionModel(SiglipVisionConfig(**TINY_ON_16)), r"it has no \[CLS\] token, on 24 patches"),
        # Its stages have ever fewer tokens, and attention stays in windows.
        (
            SwinModel(SwinConfig(image_size=64, embed_dim=12, depths=[1, 1], num_heads=[2, 2], window_size=4)),
            "vit '.*swin.*'",
        ),
    ],
    ids=["mae", "siglip", "swin"],
)
def test_a_vit_without_cls_or_that_does_not_see_every_patch_is_refused_as_it_is_opened(
    model: torch.nn.Module, message: str, tmp_path: Path
) -> None:
    folder = tmp_path / type(model).__name__.lower()
    model.save_pretrained(folder)  # type: ignore[operator]
    with pytest.raises(ValueError, match=message) as refused:
        load_vit(folder)
    assert "requires a ViT whose first token is [CLS] and that sees every patch" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "model",
    [
        BeitModel(BeitConfig(**TINY_ON_16)),
        CLIPVisionModel(CLIPVisionConfig(**TINY_ON_16)),
        DeiTModel(DeiTConfig(**TINY_ON_16)),  # [CLS] and a token of its teacher's
        Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(
                hidden_size=24, num_hidden_layers=2, num_attention_heads=3, image_size=70, patch_size=14
            )
        ),
    ],
    ids=["beit", "clip", "deit", "registers"],
)
def test_vits_with_other_tokens_between_cls_and_the_patches_are_opened(model: torch.nn.Module, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)  # type: ignore[operator]
    vision = load_vit(tmp_path)
    assert vision.look(picture(3 * vision.patch, 5 * vision.patch)).grid == (3, 5)


def test_a_normalisation_that_is_no_numbers_is_refused(tmp_path: Path) -> None:
    folder = write_tiny_vit(tmp_path / "vit")
    (folder / "preprocessor_config.json").write_text('{"image_mean": ["a", 0.5, 0.5]}')
    with pytest.raises(ValueError, match=r"preprocessor config: got \['a', 0.5, 0.5\], requires a number for each"):
        load_vit(folder)


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    folder = write_tiny_vit(tmp_path / "vit")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="safetensors"):
        load_vit(folder)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_vit(tmp_path / "vit")
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4, image_size=32
    )
    CLIPVisionModel(config).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "model.safetensors").replace(folder / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit its config"):
        load_vit(folder)


def test_weights_that_were_cut_short_are_refused(tmp_path: Path) -> None:
    folder = write_tiny_vit(tmp_path / "vit")
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"vit .* cannot be opened"):
        load_vit(folder)
