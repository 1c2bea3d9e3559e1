"""Opening a model by name: `embedded`, a diffusers folder, or a single checkpoint file, always offline.

Only safetensors are read: nothing in a model file may run code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

from ...assets import EMBEDDED as EMBEDDED_WEIGHTS
from ..ddim import PredictionType
from .diffusers_folder import load_folder
from .single_file import load_single_file
from .stable_diffusion import EditModel

EMBEDDED = "embedded"
EMBEDDED_FOLDER = EMBEDDED_WEIGHTS / "sd"

_DTYPES = {
    **dict.fromkeys(("float32", "fp32"), torch.float32),
    **dict.fromkeys(("float16", "fp16"), torch.float16),
    **dict.fromkeys(("bfloat16", "bf16"), torch.bfloat16),
}
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl")


def load_edit_model(
    name: str | Path,
    *,
    device: str = "auto",
    dtype: str = "auto",
    prediction: Literal["auto", "epsilon", "v_prediction"] = "auto",
) -> EditModel:
    """Open the model `name`: "embedded", or Stable Diffusion 1.x, 2.x or SDXL as a diffusers folder or a file.

    device: "auto" is cuda, else mps, else cpu. dtype: "auto" is float16 on cuda and float32 elsewhere.
    prediction: what the UNet predicts; "auto" reads it from the folder's scheduler config, or works it out
    from the file (`single_file.inspect_file` says how).
    Raises ValueError for a name, device or dtype that there is not, and for what is no such model.
    """
    chosen_device = resolve_device(device)
    chosen_dtype = resolve_dtype(dtype, chosen_device)
    if prediction not in ("auto", "epsilon", "v_prediction"):
        raise ValueError(f"prediction: got {prediction!r}, requires 'auto', 'epsilon' or 'v_prediction'")
    known: PredictionType | None = None if prediction == "auto" else prediction
    # Weights made inside a caller's inference mode (ComfyUI's) could never take part in a gradient.
    with torch.inference_mode(False):
        if str(name) == EMBEDDED:
            return load_folder(EMBEDDED_FOLDER, chosen_device, chosen_dtype, known, name=EMBEDDED)
        path = Path(name).expanduser()
        if str(name) and path.is_dir():
            return load_folder(path, chosen_device, chosen_dtype, known)
        if path.suffix.lower() in _PICKLES:
            raise ValueError(
                f"model {path}: a {path.suffix} file is a pickle, which can run code when it is opened,"
                " so it is not read; requires the same model as .safetensors"
            )
        if path.is_file() and path.suffix.lower() == ".safetensors":
            return load_single_file(path, chosen_device, chosen_dtype, known)
    found = "which is no model" if path.is_file() else "which does not exist"
    raise ValueError(
        f"model: got {str(name)!r}, {found}; requires {EMBEDDED!r}, or Stable Diffusion 1.x, 2.x or SDXL"
        " as a diffusers folder or a .safetensors file"
    )


def resolve_device(device: str) -> torch.device:
    """The torch device that `device` names; "auto" is cuda, else mps, else cpu. Raises ValueError."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"device: got {device!r}, which is not available here ({reason}); requires 'auto', 'cpu', 'cuda' or 'mps'"
        ) from error
    return chosen


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The torch dtype that `dtype` names; "auto" is float16 on cuda, else float32. Raises ValueError."""
    if dtype == "auto":
        return torch.float16 if device.type == "cuda" else torch.float32
    if dtype not in _DTYPES:
        raise ValueError(f"dtype: got {dtype!r}, requires one of {', '.join(('auto', *_DTYPES))}")
    return _DTYPES[dtype]
