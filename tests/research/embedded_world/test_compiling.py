"""A compiled module: the same function of the same parameters."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch

from pinpoint.research.embedded_world.training import fitting
from pinpoint.research.embedded_world.training.fitting import STEPS_WORTH_COMPILING, compiled


def small_net() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(2, 4, 3, padding=1), torch.nn.SiLU(), torch.nn.Conv2d(4, 1, 1))


def test_a_short_training_is_not_worth_compiling() -> None:
    net = small_net()
    assert compiled(net, steps=STEPS_WORTH_COMPILING - 1) is net


def test_without_a_compiler_the_module_is_called_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    net = small_net()
    assert compiled(net, steps=STEPS_WORTH_COMPILING) is net


needs_a_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler"
)


@needs_a_compiler
@pytest.mark.slow
def test_a_compiled_module_computes_the_same_and_trains_the_same_parameters() -> None:
    net, plain = small_net(), small_net()
    made = compiled(net, steps=STEPS_WORTH_COMPILING)
    assert made is not net
    images = torch.randn(2, 2, 8, 8)
    for module in (made, plain):
        module(images).square().mean().backward()
    torch.testing.assert_close(made(images), plain(images))
    for own, other in zip(net.parameters(), plain.parameters(), strict=True):
        assert own.grad is not None and other.grad is not None
        torch.testing.assert_close(own.grad, other.grad, rtol=1e-4, atol=1e-6)


class OfNoLength(torch.nn.Module):
    """A module behind another, as ``torch.compile`` gives it: asked for its truth, it requires a length."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return self.module(*inputs, **named)

    def __len__(self) -> int:
        raise TypeError("no length")


def test_a_training_calls_what_compiling_gave_it_at_every_step(
    go_on: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TypeError):
        bool(torch.compile(torch.nn.Linear(1, 1)))  # so it is with the real object

    def compiled_by_nothing(module: torch.nn.Module, *, steps: int) -> torch.nn.Module:
        calls.append(steps)
        return OfNoLength(module)

    calls: list[int] = []
    monkeypatch.setattr(fitting, "compiled", compiled_by_nothing)
    printed = go_on("--stages", "diffusion", "--restart")
    assert calls == [3]  # once, before the first of the smoke's three steps
    assert "unet: step 3/3" in printed


@needs_a_compiler
@pytest.mark.slow
def test_a_compiled_training_of_the_unet_has_the_losses_of_a_plain_one(
    go_on: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = []
    for steps in (STEPS_WORTH_COMPILING, 1):
        monkeypatch.setattr(fitting, "STEPS_WORTH_COMPILING", steps)
        printed = go_on("--stages", "diffusion", "--restart")
        losses.append(float(re.search(r"unet: step .* loss ([0-9.]+)", printed)[1]))  # type: ignore[index]
    assert losses[0] == pytest.approx(losses[1], rel=0.01)
