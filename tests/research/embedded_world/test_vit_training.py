"""Self-distillation: the loss by hand, the teacher as the student's average, and the layout."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, ViTImageProcessor

from pinpoint.research.embedded_world.networks.exporting import write_vit
from pinpoint.research.embedded_world.networks.vit import (
    SelfDistilled,
    build_vit,
    distillation_loss,
    train_vit,
)
from pinpoint.research.embedded_world.scenes.dataset import SceneParts
from pinpoint.research.embedded_world.training.fitting import Run
from pinpoint.research.embedded_world.training.recipe import Recipe

TINY = Recipe().smoke().vit


def quiet(line: str) -> None:
    pass


def noise_parts(count: int = 3) -> SceneParts:
    generator = torch.Generator().manual_seed(0)
    images, grounds = torch.randint(0, 256, (2, count, 3, 128, 128), generator=generator, dtype=torch.uint8).unbind()
    masks = torch.zeros(count, 128, 128, dtype=torch.bool)
    masks[:, 40:80, 30:70] = True
    return SceneParts(images, grounds, masks)


def test_the_loss_asks_of_other_views_which_image_the_teacher_saw() -> None:
    x, y = [1.0, 0.0], [0.0, 1.0]
    teacher = [torch.tensor([x, y]), torch.tensor([x, y])]
    student = [torch.tensor([x, y]), torch.tensor([y, x]), torch.tensor([x, x])]
    # At temperature 1/2 an agreeing row has logits 2 and 0, one that mixes the images up 0 and 2.
    good, bad = math.log(1 + math.exp(-2)), math.log(1 + math.exp(2))
    # Teacher 0 with students 1 and 2, teacher 1 with students 0 and 2.
    pairs = [bad, (good + bad) / 2, good, (good + bad) / 2]
    assert distillation_loss(student, teacher, 0.5).item() == pytest.approx(sum(pairs) / 4, rel=1e-5)


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = [torch.randn(2, 4, requires_grad=True) for _ in range(2)]
    student = [torch.randn(2, 4, requires_grad=True) for _ in range(2)]
    distillation_loss(student, teacher, 0.1).backward()
    assert all(output.grad is None for output in teacher)
    assert all(output.grad is not None for output in student)


def test_outputs_are_unit_vectors_and_views_of_any_size_can_be_seen() -> None:
    model = SelfDistilled(TINY)
    for side in (128, 80, 40):
        outputs = model(torch.rand(2, 3, side, side))
        assert outputs.shape == (2, TINY.bottleneck)
        assert torch.allclose(outputs.norm(dim=1), torch.ones(2), atol=1e-5)


class Stopped(Exception):
    pass


class Breaking(SceneParts):
    """Scenes taken apart, for two steps."""

    asked = 0

    def on_ground(self, scenes: torch.Tensor, grounds: torch.Tensor) -> torch.Tensor:
        type(self).asked += 1
        if self.asked > 4:  # a step asks for its large views and for its small ones
            raise Stopped
        return super().on_ground(scenes, grounds)


def test_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    parts, recipe = noise_parts(), replace(TINY, steps=4, save_steps=2)
    train_vit(parts, recipe, Run(tmp_path / "whole.safetensors", tmp_path / "a", 3, quiet))
    half = tmp_path / "half.safetensors"
    breaking = Breaking(parts.images, parts.grounds, parts.masks)
    with pytest.raises(Stopped):
        train_vit(breaking, recipe, Run(half, tmp_path / "b", 3, quiet))
    with safe_open(half, "pt") as stopped:
        assert stopped.metadata()["step"] == "2"
    train_vit(parts, recipe, Run(half, tmp_path / "b", 3, quiet))
    with safe_open(tmp_path / "whole.safetensors", "pt") as one, safe_open(half, "pt") as other:
        assert one.metadata()["step"] == other.metadata()["step"] == "4"
        assert set(one.keys()) == set(other.keys())
        for name in one.keys():
            assert torch.equal(one.get_tensor(name), other.get_tensor(name)), name


def test_what_is_written_is_the_average_of_the_student(tmp_path: Path) -> None:
    checkpoint = tmp_path / "vit.safetensors"
    train_vit(noise_parts(), TINY, Run(checkpoint, tmp_path / "vit", 0, quiet))
    opened = AutoModel.from_pretrained(
        tmp_path / "vit", local_files_only=True, add_pooling_layer=False, attn_implementation="eager"
    )
    with safe_open(checkpoint, "pt") as file:
        for name, value in opened.state_dict().items():
            kept = file.get_tensor(f"average.backbone.{name}")
            torch.testing.assert_close(value.float(), kept, atol=1e-3, rtol=1e-3)
    attention = opened.float()(torch.rand(1, 3, 128, 128), output_attentions=True).attentions[-1]
    assert attention.shape[-1] == 1 + 16 * 16


def test_transformers_prepares_images_as_the_training_did(tmp_path: Path) -> None:
    write_vit(build_vit(TINY), tmp_path)
    processor = ViTImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    image = torch.zeros(3, 128, 128, dtype=torch.uint8)
    image[0] = 255
    prepared = processor(image, return_tensors="pt")["pixel_values"]
    assert prepared.shape == (1, 3, 128, 128)
    assert prepared.mean(dim=(0, 2, 3)).tolist() == pytest.approx([1.0, -1.0, -1.0], abs=1e-5)


def test_the_recipes_transformer_keeps_to_its_size() -> None:
    model = build_vit(Recipe().vit)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
