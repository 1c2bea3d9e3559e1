"""Self-distillation: the loss by hand, the teacher as the student's average, and the layout."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModel, ViTImageProcessor

from pinpoint.region_core.embedded.exporting import write_vit
from pinpoint.region_core.embedded.recipe import RegionsRecipe
from pinpoint.region_core.embedded.vit_training import (
    SelfDistilled,
    build_vit,
    distillation_loss,
    shared_out,
    train_vit,
)

TINY = RegionsRecipe().smoke().vit


def quiet(line: str) -> None:
    pass


def noise_pictures(count: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 128, 128), generator=generator, dtype=torch.uint8)


def test_the_loss_compares_different_views() -> None:
    teacher = [torch.tensor([[0.5, 0.5]]), torch.tensor([[0.25, 0.75]])]
    student = [torch.zeros(1, 2), torch.tensor([[0.0, math.log(2)]]), torch.tensor([[math.log(3), 0.0]])]
    # At temperature 1/2 the student says 1/2, 1/2 and 1/5, 4/5 and, of the small view, 9/10, 1/10.
    pairs = [
        -0.5 * math.log(1 / 5) - 0.5 * math.log(4 / 5),
        -0.5 * math.log(9 / 10) - 0.5 * math.log(1 / 10),
        math.log(2),
        -0.25 * math.log(9 / 10) - 0.75 * math.log(1 / 10),
    ]
    loss = distillation_loss(student, teacher, 0.5)
    assert loss.item() == pytest.approx(sum(pairs) / 4, rel=1e-5)


def test_answers_are_shared_out_evenly_over_the_outputs() -> None:
    # Already even, row and column: only sharpened. e² / (e² + 1) at temperature 1/2.
    own = math.e**2 / (math.e**2 + 1)
    even = shared_out(torch.eye(2), 0.5)
    assert torch.allclose(even, torch.tensor([[own, 1 - own], [1 - own, own]]), atol=1e-6)
    # Pictures that all look the same are no reason to prefer an output.
    same = shared_out(torch.tensor([[0.9, 0.1, 0.3, -0.2]]).expand(8, 4), 0.05)
    assert torch.allclose(same, torch.full((8, 4), 0.25), atol=1e-6)


def test_shared_out_answers_are_the_plan_of_least_cost() -> None:
    """The scaling of exp(outputs / temperature) to given row and column sums, by plain loops."""
    generator = torch.Generator().manual_seed(1)
    outputs = 2 * torch.rand(6, 4, generator=generator) - 1
    kernel = [[math.exp(value / 0.3) for value in row] for row in outputs.tolist()]
    rows, columns = [1.0] * 6, [1.0] * 4
    for _ in range(200):
        columns = [1.5 / sum(rows[i] * kernel[i][j] for i in range(6)) for j in range(4)]
        rows = [1 / sum(kernel[i][j] * columns[j] for j in range(4)) for i in range(6)]
    plan = torch.tensor([[rows[i] * kernel[i][j] * columns[j] for j in range(4)] for i in range(6)])
    assert torch.allclose(shared_out(outputs, 0.3, iterations=200), plan, atol=1e-5)


def test_no_gradient_reaches_the_teacher() -> None:
    teacher = [torch.randn(2, 4, requires_grad=True) for _ in range(2)]
    student = [torch.randn(2, 4, requires_grad=True) for _ in range(2)]
    distillation_loss(student, teacher, 0.1).backward()
    assert all(output.grad is None for output in teacher)
    assert all(output.grad is not None for output in student)


def test_outputs_are_cosines_and_views_of_any_size_can_be_seen() -> None:
    model = SelfDistilled(TINY)
    for side in (128, 80, 40):
        outputs = model(torch.rand(2, 3, side, side))
        assert outputs.shape == (2, TINY.prototypes)
        assert outputs.abs().max() <= 1 + 1e-4


def test_training_that_was_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    pictures, recipe = noise_pictures(), replace(TINY, steps=4, save_steps=2)
    train_vit(pictures, recipe, tmp_path / "whole.safetensors", tmp_path / "a", seed=3, report=quiet)

    class Stopped(Exception):
        pass

    half = tmp_path / "half.safetensors"
    seen = noise_pictures()

    class Breaking:
        """The pictures, until they have been asked for twice."""

        shape = seen.shape
        asked = 0

        def __len__(self) -> int:
            return len(seen)

        def __getitem__(self, rows: torch.Tensor) -> torch.Tensor:
            self.asked += 1
            if self.asked > 2:
                raise Stopped
            return seen[rows]

    with pytest.raises(Stopped):
        train_vit(Breaking(), recipe, half, tmp_path / "b", seed=3, report=quiet)  # type: ignore[arg-type]
    train_vit(pictures, recipe, half, tmp_path / "b", seed=3, report=quiet)
    with safe_open(tmp_path / "whole.safetensors", "pt") as one, safe_open(half, "pt") as other:
        assert one.metadata()["step"] == other.metadata()["step"] == "4"
        assert set(one.keys()) == set(other.keys())
        for name in one.keys():
            assert torch.equal(one.get_tensor(name), other.get_tensor(name)), name


def test_what_is_written_is_the_average_of_the_student(tmp_path: Path) -> None:
    checkpoint = tmp_path / "vit.safetensors"
    train_vit(noise_pictures(), TINY, checkpoint, tmp_path / "vit", seed=0, report=quiet)
    opened = AutoModel.from_pretrained(
        tmp_path / "vit", local_files_only=True, add_pooling_layer=False, attn_implementation="eager"
    )
    with safe_open(checkpoint, "pt") as file:
        for name, value in opened.state_dict().items():
            kept = file.get_tensor(f"average.backbone.{name}")
            torch.testing.assert_close(value.float(), kept, atol=1e-3, rtol=1e-3)
    attention = opened.float()(torch.rand(1, 3, 128, 128), output_attentions=True).attentions[-1]
    assert attention.shape[-1] == 1 + 16 * 16


def test_transformers_prepares_pictures_as_the_training_did(tmp_path: Path) -> None:
    write_vit(build_vit(TINY), tmp_path)
    processor = ViTImageProcessor.from_pretrained(tmp_path, local_files_only=True)
    image = torch.zeros(3, 128, 128, dtype=torch.uint8)
    image[0] = 255
    prepared = processor(image, return_tensors="pt")["pixel_values"]
    assert prepared.shape == (1, 3, 128, 128)
    assert prepared.mean(dim=(0, 2, 3)).tolist() == pytest.approx([1.0, -1.0, -1.0], abs=1e-5)


def test_the_recipes_transformer_keeps_to_its_size() -> None:
    model = build_vit(RegionsRecipe().vit)
    assert sum(parameter.numel() for parameter in model.parameters()) < 1_000_000
