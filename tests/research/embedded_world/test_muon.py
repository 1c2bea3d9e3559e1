"""The optimizer of the embedded models' trainings."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pinpoint.research.embedded_world.training.muon import (
    Muon,
    build_optimizers,
    orthogonalised,
    split_for_muon,
)
from pinpoint.research.embedded_world.training.state import save_tensors
from pinpoint.research.embedded_world.training.workers import rank, run_workers


@pytest.mark.parametrize("shape", [(24, 24), (16, 90), (90, 16)])
def test_an_orthogonalised_matrix_keeps_its_directions_and_evens_out_its_singular_values(
    shape: tuple[int, int],
) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    made = orthogonalised(matrix)
    in_its_directions = left.T @ made @ right.T  # diagonal, if directions are kept
    values = in_its_directions.diagonal()
    assert values.min() > 0.3 and values.max() < 1.3
    assert values[:-2].min() > 0.6  # the least singular values of a square matrix take longest
    assert (in_its_directions - values.diag()).abs().max() < 0.1


def test_one_step_moves_a_matrix_by_the_rate_times_its_orthogonal_update() -> None:
    layer = nn.Linear(9, 4, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn(4, 9, generator=torch.Generator().manual_seed(1))
    Muon(layer.parameters(), 0.01, weight_decay=0.0).step()
    moved = (before - layer.weight.detach()) / (0.01 * 0.2 * 3)  # sqrt of the longer side, 9
    assert torch.linalg.svdvals(moved) == pytest.approx(torch.ones(4).numpy(), abs=0.35)
    # the first step's momentum points along the gradient
    assert (moved * layer.weight.grad).sum() > 0


def test_weight_decay_shrinks_what_has_no_gradient_direction() -> None:
    weight = nn.Parameter(torch.full((3, 5), 2.0))
    weight.grad = torch.zeros(3, 5)
    Muon([weight], 0.5, weight_decay=0.1).step()
    assert weight.detach() == pytest.approx(torch.full((3, 5), 1.9).numpy())  # 2 * (1 - 0.5 * 0.1)


def test_inner_matrices_go_to_muon_and_all_else_to_adamw() -> None:
    module = nn.ModuleDict(
        {
            "conv_in": nn.Conv2d(3, 8, 3),
            "inner": nn.Conv2d(8, 8, 3),
            "norm": nn.GroupNorm(2, 8),
            "embedding": nn.Embedding(5, 8),
            "mlm_layer": nn.ModuleDict({"conv2": nn.Conv2d(8, 5, 1)}),  # a masked transformer's logits
        }
    )
    inner, rest = split_for_muon(module)
    assert [tuple(parameter.shape) for parameter in inner] == [(8, 8, 3, 3)]
    assert len(rest) == 8
    muon, adam = build_optimizers(module, muon=0.2, adam=0.1)
    assert [group["peak"] for group in muon.param_groups] == [0.2]
    assert [group["peak"] for group in adam.param_groups] == [0.1]


def _step_together(path: Path) -> None:
    torch.manual_seed(0)
    layers = [nn.Linear(6, 4, bias=False), nn.Linear(4, 5, bias=False)]
    for layer in layers:
        layer.weight.grad = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(3))
    optimizer = Muon(nn.ModuleList(layers).parameters(), 0.1)
    optimizer.step()
    weights = {str(number): layer.weight.detach() for number, layer in enumerate(layers)}
    save_tensors(weights, path / f"{rank()}.safetensors")


def test_workers_that_share_the_matrices_out_take_the_same_step_as_one_alone(tmp_path: Path) -> None:
    run_workers(2, _step_together, tmp_path)
    first, second = (load_file(tmp_path / f"{number}.safetensors") for number in (0, 1))
    torch.manual_seed(0)
    layers = [nn.Linear(6, 4, bias=False), nn.Linear(4, 5, bias=False)]
    for layer in layers:
        layer.weight.grad = torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(3))
    Muon(nn.ModuleList(layers).parameters(), 0.1).step()
    for number, layer in enumerate(layers):
        torch.testing.assert_close(first[str(number)], second[str(number)], rtol=0, atol=0)
        torch.testing.assert_close(first[str(number)], layer.weight.detach(), rtol=0, atol=1e-6)
