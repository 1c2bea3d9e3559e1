"""What the layers of a UNet took in and put out, by hooks that know nothing of attention controls."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor


@dataclass
class AttentionCall:
    """One call of an attention layer: its projections as they left the weights, and what came of them."""

    query: Tensor | None = None
    key: Tensor | None = None
    value: Tensor | None = None
    result: Tensor | None = None


@dataclass
class LayerRecord:
    """By name of the layer, an entry a pass; names in the order of execution."""

    attention: dict[str, list[AttentionCall]] = field(default_factory=dict)
    residual: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = field(default_factory=dict)
    """(input, time embedding, output)."""


def attended(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(Q·Kᵀ/√d)·V for (B, N, heads·d), head by head, written out."""
    results = []
    for q, k, v in zip(*(x.chunk(heads, dim=-1) for x in (query, key, value)), strict=True):
        results.append(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1) @ v)
    return torch.cat(results, dim=-1)


@contextmanager
def recorded(unet: UNet2DConditionModel, kind: str = "attn1") -> Iterator[LayerRecord]:
    """Record residual layers, and the attention layers of a kind: attn1 is self-, attn2 cross-attention."""
    record = LayerRecord()
    handles = []

    def begin(name: str):
        def hook(module, args, output):
            record.attention.setdefault(name, []).append(AttentionCall(query=output))

        return hook

    def keep(name: str, part: str):
        def hook(module, args, output):
            setattr(record.attention[name][-1], part, args[0] if part == "result" else output)

        return hook

    def residual(name: str):
        def hook(module, args, output):
            record.residual.setdefault(name, []).append((args[0], args[1], output))

        return hook

    for name, module in unet.named_modules():
        if name.endswith(f".{kind}"):
            handles.append(module.to_q.register_forward_hook(begin(name)))
            handles.append(module.to_k.register_forward_hook(keep(name, "key")))
            handles.append(module.to_v.register_forward_hook(keep(name, "value")))
            handles.append(module.to_out[0].register_forward_hook(keep(name, "result")))
        elif isinstance(module, ResnetBlock2D):
            handles.append(module.register_forward_hook(residual(name)))
    try:
        yield record
    finally:
        for handle in handles:
            handle.remove()
