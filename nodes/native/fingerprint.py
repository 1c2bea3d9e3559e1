"""A hash of what ComfyUI holds: samples of weights, and the patches on them."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from ...locinv_core.backbones.fingerprint import weight_sample


def add(digest: Any, value: Any) -> None:
    """Put samples of all tensors, and all else that tells one patch from another, into a hash."""
    if isinstance(value, Tensor):
        digest.update(f"{tuple(value.shape)}".encode() + weight_sample(value))
    elif isinstance(value, (list, tuple)):
        for part in value:
            add(digest, part)
    elif hasattr(value, "weights"):  # a LoRA's adapter
        add(digest, value.weights)
    elif value is None or isinstance(value, (str, int, float)):
        digest.update(repr(value).encode())
