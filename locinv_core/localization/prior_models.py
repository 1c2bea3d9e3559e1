"""Opening the networks that find a prior: weights in one file, without running what a pickle may hold."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor


def read_weights(file: Path) -> dict[str, Tensor]:
    """The weights by name in a .safetensors file, or in a pickled state dict (.pth, .pt), on the CPU.

    A pickle is read by torch's `weights_only` loader, which builds tensors and runs nothing else. Raises
    ValueError for a file that cannot be read so, and for a pickle under a torch before 2.6, whose loader can
    be tricked (CVE-2025-32434).
    """
    if file.suffix.lower() not in (".safetensors", ".pth", ".pt") or not file.is_file():
        raise ValueError(f"checkpoint: got {str(file)!r}, requires a .safetensors, .pth or .pt file")
    if file.suffix.lower() == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(file)
        except (SafetensorError, OSError) as error:
            raise ValueError(f"checkpoint {file.name!r} cannot be read: {error}") from error
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 6):
        raise ValueError(
            f"checkpoint {file.name!r} is a pickle, which torch {torch.__version__} cannot read safely;"
            " requires torch 2.6 or newer, or a .safetensors file"
        )
    try:
        weights = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle raises whatever its first wrong byte leads to
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"checkpoint {file.name!r} cannot be read as weights alone: {reason}") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ValueError(f"checkpoint {file.name!r} holds no weights by name, requires a state dict")
    return weights
