"""What the tests of opening models share: one device, comparing weights, changing a config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

CPU = torch.device("cpu")


def text_weights(encoder: nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("text_model."): weight for name, weight in encoder.state_dict().items()}


def assert_same_weights(got: nn.Module, wanted: nn.Module) -> None:
    ours, theirs = text_weights(got), text_weights(wanted)
    assert ours.keys() == theirs.keys()
    for name, weight in ours.items():
        assert torch.equal(weight.float(), theirs[name].float()), name


def edit_json(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
