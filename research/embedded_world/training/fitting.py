"""The loop that the trainings share: checkpoints, resuming, reports, and compiling for a long training."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .muon import build_optimizers
from .recipe import StageRecipe
from .state import Average, TrainingState, step_rng
from .workers import average_gradients, rank

STEPS_WORTH_COMPILING = 2000
"""Compiling the embedded UNet takes minutes on two cores; its passes then take two thirds of the time."""
_SAVE_SECONDS = 120
Report = Callable[[str], None]
Loss = Callable[[TrainingState, torch.Generator], tuple[Tensor, str]]
"""The loss of a worker's share of a step's batch and figures to print, from the training's state before the
step and the step's random numbers."""


@dataclass(frozen=True)
class Run:
    """One network's training.

    Attributes:
        checkpoint: written every ``save_steps`` steps of the recipe, and after two minutes at most; training goes
            on from it if it exists.
        out: folder that worker 0 writes the averaged model into at every checkpoint.
        start: folder of models to begin as in place of random weights.
    """

    checkpoint: Path
    out: Path
    seed: int
    report: Report
    start: Path | None = None


def compiled(module: nn.Module, *, steps: int) -> Callable[..., Any]:
    """``module`` to call with inputs of one shape, compiled where so many steps are worth it and there is a C++
    compiler. Its parameters stay the same ones, those of convolutions laid out with the channels last."""
    compilers = (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl")
    if steps < STEPS_WORTH_COMPILING or not any(shutil.which(name) for name in compilers):
        return module
    module.to(memory_format=torch.channels_last)
    return torch.compile(module, dynamic=False)


def fit(
    name: str,
    module: nn.Module,
    loss_of: Loss,
    recipe: StageRecipe,
    run: Run,
    *,
    snapshot: Callable[[nn.Module], None] | None = None,
    worth_compiling: nn.Module | None = None,
) -> nn.Module:
    """Train ``module`` at one-cycle rates, going on from the run's checkpoint if it exists; the averaged module.

    Args:
        name: how progress lines begin.
        snapshot: receives the averaged module in worker 0 at every checkpoint; where the checkpoint was of
            the last step already, it does so once.
        worth_compiling: the part of the module that ``loss_of`` calls as its state's ``forward``.
    """
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizers = build_optimizers(module, muon=recipe.rate, adam=recipe.rate_of_ends)
    state = TrainingState(module, optimizers, Average(module, recipe.average), run.checkpoint)
    if state.resume() and rank() == 0:
        run.report(f"{name}: going on from step {state.step}")
    steps = recipe.steps
    if state.step >= steps and rank() == 0 and snapshot is not None:
        snapshot(state.averaged())  # it was trained before, maybe for another folder
    if worth_compiling is not None:
        state.forward = compiled(worth_compiling, steps=steps - state.step)
    started, seen, losses = time.monotonic(), 0, 0.0
    saved = started
    while state.step < steps:
        state.set_rates(steps)
        loss, figures = loss_of(state, step_rng(run.seed, state.step))
        loss.backward()
        average_gradients(trained)
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        state.update()
        seen += 1
        losses += loss.item()
        last = state.step == steps
        due = state.step % recipe.save_steps == 0 or time.monotonic() - saved > _SAVE_SECONDS
        if rank() == 0 and (due or last):
            state.save()
            saved = time.monotonic()
            if snapshot is not None:
                snapshot(state.averaged())
        if rank() == 0 and (state.step % recipe.report_steps == 0 or last):
            speed = seen / (time.monotonic() - started)
            told = f"loss {losses / seen:.4f} {figures} {speed:.3f} steps/s"
            run.report(f"{name}: step {state.step}/{steps} {' '.join(told.split())}")
            started, seen, losses = time.monotonic(), 0, 0.0
    return state.averaged()
