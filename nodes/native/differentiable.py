"""Gradients through networks that ComfyUI has loaded.

ComfyUI loads weights in inference mode, and autograd refuses to keep such tensors for the backward pass. Their memory
may be shared: a normal tensor over the same storage is as good, and costs nothing. And its layers write in place
(`x += f(x)`) into what autograd has kept; so what it keeps beside weights is a copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks


@contextmanager
def differentiable(*networks: nn.Module) -> Iterator[None]:
    """Within the block the networks' weights are normal tensors over the same memory, which take no gradients.

    A subclass of tensor (a quantized weight of another pack) stays: its own layers make normal tensors of it.
    """
    replaced: list[tuple[dict[str, Any], str, Tensor]] = []
    weights: set[int] = set()

    def keep(tensor: Tensor) -> Tensor:
        return tensor if tensor.untyped_storage().data_ptr() in weights else tensor.clone()

    try:
        with torch.inference_mode(False):
            for network in networks:
                for module in network.modules():
                    tables: list[dict[str, Any]] = [module._parameters, module._buffers]
                    for held in tables:
                        for name, tensor in list(held.items()):
                            if type(tensor) not in (Tensor, nn.Parameter):
                                continue
                            weights.add(tensor.untyped_storage().data_ptr())
                            if tensor.is_inference():
                                replaced.append((held, name, tensor))
                                held[name] = _over_the_same_memory(tensor)
        with saved_tensors_hooks(keep, lambda kept: kept):
            yield
    finally:
        for held, name, tensor in replaced:
            held[name] = tensor


def _over_the_same_memory(tensor: Tensor) -> Tensor:
    shared = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    shared.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    return nn.Parameter(shared, requires_grad=False) if isinstance(tensor, nn.Parameter) else shared
