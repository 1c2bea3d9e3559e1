"""What a training remembers between sittings: weights, their average, optimizer, step, in one safetensors file."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ....locinv_core.imaging.io import written_whole


def save_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file so that ``path`` is always absent, the old file, or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as partial:
        own = {name: tensor.detach().contiguous() for name, tensor in tensors.items()}
        save_file(own, partial, dict(metadata or {}))


def step_rng(seed: int, step: int) -> torch.Generator:
    """The random numbers of one training step: they depend on nothing but ``seed`` and ``step``."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step) * 2_654_435_761 % 2**63)


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of a step: up along a line for the first twentieth, then down along a half cosine."""
    warm = max(1, steps // 20)
    if step < warm:
        return peak * (step + 1) / warm
    share = (step - warm) / max(1, steps - warm)
    return peak * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * share)))


class Average:
    """Moving average of a module's parameters; its decay at update n is min(``decay``, (1 + n) / (10 + n))."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: value.detach().clone() for name, value in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        decay = min(self.decay, (1 + step) / (10 + step))
        kept = list(self.tensors.values())
        torch._foreach_lerp_(kept, [value.detach() for value in module.parameters()], 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        for name, value in module.named_parameters():
            value.copy_(self.tensors[name])


class TrainingState:
    """One module under its optimizers with a running average, resumable from a file.

    Attributes:
        step: updates done so far. forward: what to call in the module's place; it may be compiled.
    """

    def __init__(
        self, module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], average: Average, path: Path
    ) -> None:
        self.module, self.optimizers, self.average, self.path = module, optimizers, average, path
        self.forward: Callable[..., Any] = module
        self.step = 0

    def save(self) -> None:
        """Write everything that ``resume`` needs, atomically."""
        tensors = {f"module.{name}": value for name, value in self.module.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.tensors.items()}
        for index, (optimizer, parameter) in enumerate(self._parameters()):
            for key, value in optimizer.state.get(parameter, {}).items():
                tensors[f"optimizer.{index}.{key}"] = value
        save_tensors(tensors, self.path, {"step": str(self.step)})

    def resume(self) -> bool:
        """Load the file when there is one; says whether there was. ValueError for one of another model."""
        if not self.path.exists():
            return False
        with safe_open(self.path, framework="pt") as file:
            step = int(file.metadata()["step"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
        part = {name[7:]: value for name, value in tensors.items() if name.startswith("module.")}
        own = self.module.state_dict()
        if part.keys() != own.keys() or any(part[name].shape != own[name].shape for name in own):
            raise ValueError(f"checkpoint: {self.path} is of another model; give another --work or remove it")
        self.module.load_state_dict(part)
        for name, average in self.average.tensors.items():
            average.copy_(tensors[f"average.{name}"])
        for index, (optimizer, parameter) in enumerate(self._parameters()):
            prefix = f"optimizer.{index}."
            if state := {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}:
                optimizer.state[parameter] = state
        self.step = step
        return True

    def set_rates(self, steps: int) -> None:
        """Give every parameter group its rate of this step, of ``steps``: one cycle up to its ``peak``."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = one_cycle(self.step, steps, group["peak"])

    def update(self) -> None:
        """Step and clear the optimizers, take the new parameters into the average, count the step."""
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.update(self.module, self.step)
        self.step += 1

    def averaged(self) -> nn.Module:
        """A copy of the module, with the averaged parameters, frozen."""
        module = copy.deepcopy(self.module)
        self.average.copy_to(module)
        return module.eval().requires_grad_(False)

    def _parameters(self) -> Iterator[tuple[torch.optim.Optimizer, nn.Parameter]]:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    yield optimizer, parameter
