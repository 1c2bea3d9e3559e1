"""Libraries of the optional extras, imported where they are used, with one message where they are missing."""

from __future__ import annotations

import importlib
from types import ModuleType


def require(module: str, extra: str) -> ModuleType:
    """Import `module`, which ``pip install "comfyui-pinpoint[extra]"`` brings.

    Raises ValueError, naming the extra, where its package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or package).partition(".")[0] != package:
            raise  # the package is there, and lacks something of its own
        raise ValueError(f'{package} is not installed: pip install "comfyui-pinpoint[{extra}]"') from error
