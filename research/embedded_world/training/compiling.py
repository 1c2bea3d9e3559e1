"""Compiling a module for a long training."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

__all__ = ["STEPS_WORTH_COMPILING", "compiled"]

STEPS_WORTH_COMPILING = 2000
"""Compiling the embedded UNet takes minutes on two cores; its passes then take two thirds of the time."""


def compiled(module: nn.Module, *, steps: int) -> Callable[..., Any]:
    """``module`` to call for ``steps`` steps with inputs of one shape.

    It is compiled where that many steps are worth it and there is a C++ compiler to do it; its parameters are
    then the same ones still, those of convolutions laid out with the channels last.
    """
    compilers = (os.environ.get("CXX", ""), "c++", "g++", "clang++", "cl")
    if steps < STEPS_WORTH_COMPILING or not any(shutil.which(name) for name in compilers):
        return module
    module.to(memory_format=torch.channels_last)
    return torch.compile(module, dynamic=False)
