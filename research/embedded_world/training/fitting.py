"""The loop that the trainings share, and what workers tell each other besides gradients."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .muon import build_optimizers
from .state import Average, TrainingState, step_rng
from .workers import average_gradients, rank

__all__ = ["Loss", "Pace", "Report", "averaged", "fit", "gathered"]

_SAVE_SECONDS = 120
Report = Callable[[str], None]


class Pace(Protocol):
    """What every recipe says of its training: steps of a one-cycle schedule, the peak rates of Muon and, for
    what it does not train, of AdamW, and the decay of the running average."""

    @property
    def steps(self) -> int: ...
    @property
    def rate(self) -> float: ...
    @property
    def rate_of_ends(self) -> float: ...
    @property
    def average(self) -> float: ...


Loss = Callable[[TrainingState, torch.Generator], tuple[Tensor, str]]
"""The loss of a worker's share of a step's batch and figures to print, from the training's state before the
step and the step's random numbers."""


def gathered(rows: Tensor) -> Tensor:
    """The rows of all workers' shares (B / W, d), in the batch's order before it was shared: (B, d).

    Gradients flow to this worker's own rows, times the number of workers: when every worker takes the same
    loss of all rows, the mean of the workers' gradients is the gradient of that loss.
    """
    if not dist.is_initialized():
        return rows
    workers = dist.get_world_size()
    parts = [torch.empty_like(rows) for _ in range(workers)]
    dist.all_gather(parts, rows.detach().contiguous())
    parts[rank()] = workers * rows - (workers - 1) * rows.detach()
    return torch.stack(parts, dim=1).flatten(0, 1)


def averaged(state: TrainingState) -> nn.Module:
    """A copy of the module in training, with the averaged parameters, frozen."""
    module = copy.deepcopy(state.module)
    state.average.copy_to(module)
    return module.eval().requires_grad_(False)


def fit(
    name: str,
    module: nn.Module,
    loss_of: Loss,
    recipe: Pace,
    checkpoint: Path,
    *,
    seed: int,
    report: Report,
    report_steps: int = 25,
    save_steps: int = 100,
    snapshot: Callable[[nn.Module], None] | None = None,
) -> nn.Module:
    """Train ``module`` at one-cycle rates, going on from ``checkpoint`` if it exists.

    Args:
        name: how progress lines begin.
        loss_of: of this worker's share of the batch.
        save_steps: there is a checkpoint after so many steps, and after two minutes at most.
        snapshot: receives the averaged module in worker 0 at every checkpoint; where the checkpoint was of
            the last step already, it does so once.

    Returns:
        The averaged module.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizers = build_optimizers(module, muon=recipe.rate, adam=recipe.rate_of_ends)
    state = TrainingState(module, optimizers, Average(module, recipe.average), checkpoint)
    if state.resume() and rank() == 0:
        report(f"{name}: going on from step {state.step}")
    steps = recipe.steps
    if state.step >= steps and rank() == 0 and snapshot is not None:
        snapshot(averaged(state))  # it was trained before, maybe for another folder
    started, seen, losses = time.monotonic(), 0, 0.0
    saved = started
    while state.step < steps:
        state.set_rates(steps)
        loss, figures = loss_of(state, step_rng(seed, state.step))
        loss.backward()
        average_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        state.update()
        seen += 1
        losses += loss.item()
        last = state.step == steps
        due = state.step % save_steps == 0 or time.monotonic() - saved > _SAVE_SECONDS
        if rank() == 0 and (due or last):
            state.save()
            saved = time.monotonic()
            if snapshot is not None:
                snapshot(averaged(state))
        if rank() == 0 and (state.step % report_steps == 0 or last):
            speed = seen / (time.monotonic() - started)
            told = f"loss {losses / seen:.4f} {figures} {speed:.3f} steps/s"
            report(f"{name}: step {state.step}/{steps} {' '.join(told.split())}")
            started, seen, losses = time.monotonic(), 0, 0.0
    return averaged(state)
