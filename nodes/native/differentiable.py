"""Gradients through networks that ComfyUI has loaded.

ComfyUI loads weights in inference mode, and autograd refuses to keep such tensors for the backward pass. Their memory
may be shared: a normal tensor over the same storage is as good, and costs nothing. And its layers add in place
(`x += f(x)`) to what autograd has kept; here that makes a new tensor, which the name is bound to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

_OUT_OF_PLACE: dict[Any, Any] = {Tensor.add_: torch.add, Tensor.sub_: torch.sub, Tensor.mul_: torch.mul}


@contextmanager
def differentiable(*networks: nn.Module) -> Iterator[None]:
    """Within the block the networks' weights are normal tensors over the same memory, which take no gradients.

    A subclass of tensor (a quantized weight of another pack) stays: its own layers make normal tensors of it.
    """
    kept: list[tuple[dict[str, Any], str, Tensor]] = []
    try:
        with torch.inference_mode(False):
            for network in networks:
                for module in network.modules():
                    tables: list[dict[str, Any]] = [module._parameters, module._buffers]
                    for held in tables:
                        for name, tensor in list(held.items()):
                            if type(tensor) in (Tensor, nn.Parameter) and tensor.is_inference():
                                kept.append((held, name, tensor))
                                held[name] = _over_the_same_memory(tensor)
        with _OutOfPlace():
            yield
    finally:
        for held, name, tensor in kept:
            held[name] = tensor


class _OutOfPlace(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _OUT_OF_PLACE.get(func, func)(*args, **(kwargs or {}))


def _over_the_same_memory(tensor: Tensor) -> Tensor:
    shared = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    shared.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.shape, tensor.stride())
    return nn.Parameter(shared, requires_grad=False) if isinstance(tensor, nn.Parameter) else shared
