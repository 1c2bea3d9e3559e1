"""The attention layers of ComfyUI's UNet, and the patches by which a control reads and changes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import torch.nn.functional as F
from comfy.ldm.modules.attention import SpatialTransformer, optimized_attention
from comfy.ldm.modules.diffusionmodules.openaimodel import Downsample, Upsample
from einops import rearrange
from torch import Tensor, nn

from ...locinv_core.backbones.attention import (
    AttentionControl,
    AttentionLayer,
    StoppedEarly,
    attention_probabilities,
)

Block = tuple[str, int, int]
"""("input", "middle" or "output", the block's number, the transformer block's number in it)."""
Patch = Callable[[Tensor, Tensor, Tensor, dict[str, Any]], Tensor]
_SLOTS: dict[str, Literal["self", "cross"]] = {"attn1": "self", "attn2": "cross"}


def attention_layers(unet: Any) -> dict[AttentionLayer, tuple[Block, nn.Module]]:
    """Every attention layer in the order of execution, with its block and its module."""
    found: dict[AttentionLayer, tuple[Block, nn.Module]] = {}
    level = 0
    ways = (
        ("input", "down", unet.input_blocks),
        ("middle", "mid", [unet.middle_block]),
        ("output", "up", unet.output_blocks),
    )
    for way, place, blocks in ways:
        for number, block in enumerate(blocks):
            for child in block:
                if isinstance(child, SpatialTransformer):
                    for index, transformer in enumerate(child.transformer_blocks):
                        for slot, kind in _SLOTS.items():
                            attention = getattr(transformer, slot)
                            name = f"{way}_blocks.{number}.{index}.{slot}"
                            layer = AttentionLayer(name, kind, place, level, attention.heads)  # type: ignore[arg-type]
                            found[layer] = ((way, number, index), attention)
                level += isinstance(child, Downsample) - isinstance(child, Upsample)
    return found


def replaced_attention(
    former: Mapping[str, Mapping[Any, Patch]],
    layers: Mapping[AttentionLayer, tuple[Block, nn.Module]],
    control: AttentionControl,
    *,
    stop_after: AttentionLayer | None,
    differentiable: bool,
) -> dict[str, dict[Any, Patch]]:
    """`patches_replace` under which `control` is called at every layer, with the MODEL's own patches in it."""
    merged = {slot: dict(patches) for slot, patches in former.items()}
    for layer, (block, _) in layers.items():
        slot = next(slot for slot, kind in _SLOTS.items() if kind == layer.kind)
        there = merged.setdefault(slot, {})
        # ComfyUI looks for a patch of the transformer block before one of the whole block.
        own = there.get(block, there.get(block[:2]))
        there[block] = _patch(layer, control, own, stop_after == layer, differentiable)
    return merged


def _patch(
    layer: AttentionLayer, control: AttentionControl, own: Patch | None, stop_here: bool, differentiable: bool
) -> Patch:
    """The patch of a layer.

    A patch that the MODEL has there already (IPAdapter's, say) goes on with the queries, keys and values that the
    control gives; what it adds to plain attention is added here, too.
    """

    def plain(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        if differentiable:
            q, k, v = (_split(x, options) for x in (query, key, value))
            return _joined(F.scaled_dot_product_attention(q, k, v))
        given = {"attn_precision": options["attn_precision"], "transformer_options": options}
        attended: Tensor = optimized_attention(query, key, value, options["n_heads"], **given)
        return attended

    def patched(query: Tensor, key: Tensor, value: Tensor, options: dict[str, Any]) -> Tensor:
        heads = [_split(x, options) for x in (query, key, value)]
        changed = control.inputs(layer, *heads)
        weights = None
        if control.needs_probabilities(layer):
            scale = float(options["dim_head"]) ** -0.5
            weights = control.probabilities(layer, attention_probabilities(changed[0], changed[1], scale))
        if stop_here:
            raise StoppedEarly
        if any(new is not old for new, old in zip(changed, heads, strict=True)):
            query, key, value = (_joined(x) for x in changed)
        if weights is None:
            return plain(query, key, value, options) if own is None else own(query, key, value, options)
        attended = _joined(weights @ changed[2])
        if own is None:
            return attended
        return attended + own(query, key, value, options) - plain(query, key, value, options)

    return patched


def _split(x: Tensor, options: Mapping[str, Any]) -> Tensor:
    return rearrange(x, "b l (h d) -> b h l d", h=options["n_heads"])


def _joined(x: Tensor) -> Tensor:
    return rearrange(x, "b h l d -> b l (h d)")


def with_values(patches: Mapping[str, Sequence[Any]], values: Tensor) -> dict[str, list[Any]]:
    """`patches` under which the cross-attention's values have another context, (B, L, D), than its keys."""

    def patch(n: Tensor, context: Tensor, value: Tensor, options: Any) -> tuple[Tensor, Tensor, Tensor]:
        return n, context, values.to(context)

    merged = {name: list(those) for name, those in patches.items()}
    merged.setdefault("attn2_patch", []).append(patch)
    return merged
