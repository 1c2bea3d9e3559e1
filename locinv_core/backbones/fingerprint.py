"""What of a weight goes into a fingerprint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def weight_sample(weight: Tensor) -> bytes:
    """About 16 of a weight's numbers, evenly spaced, in half precision: so they are in any precision's."""
    flat = weight.detach().reshape(-1)
    return flat[:: max(1, len(flat) // 16)][:17].to("cpu", torch.float16).numpy().tobytes()
