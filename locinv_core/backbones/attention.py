"""Seeing and changing attention: where a UNet attends, and a context manager that puts a control there.

A control is asked at every attention layer and told which one it is; what was there before is put back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention
from torch import Tensor

REFERENCE_GRID = 16
"""Cross-attention is read at the level whose grid is nearest to this many cells a side (DESIGN §3)."""


@dataclass(frozen=True)
class AttentionLayer:
    """One attention layer of a UNet.

    `level` counts the halvings between the latents and the layer's grid: at level 2, latents of 64×96 are
    attended on a grid of 16×24.
    """

    name: str
    kind: Literal["self", "cross"]
    place: Literal["down", "mid", "up"]
    level: int
    heads: int

    def grid(self, latent_height: int, latent_width: int) -> tuple[int, int]:
        """(rows, columns) of the layer's grid for latents of this size."""
        cell = 2**self.level
        return -(-latent_height // cell), -(-latent_width // cell)


class AttentionControl:
    """What may be done at an attention layer; this base does nothing, and every method may be overridden.

    A control carries the step it is for: it is told the layer and never counts calls.
    """

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        """Whether `probabilities` must be called here; elsewhere the fused kernel is used."""
        return False

    def inputs(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Query (B, heads, N, d), key and value (B, heads, L, d) before they meet; returns what to use."""
        return query, key, value

    def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
        """softmax(Q·Kᵀ/√d), (B, heads, N, L); returns what to use instead."""
        return probabilities


class MapReader(AttentionControl):
    """Keeps the cross-attention of chosen layers, averaged over heads and then over the layers.

    `mean()` is (B, N, L), float32, differentiable if the pass was.
    """

    def __init__(self, layers: Sequence[AttentionLayer]) -> None:
        self._names = {layer.name for layer in layers}
        self._maps: list[Tensor] = []

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return layer.name in self._names

    def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
        if self.needs_probabilities(layer):
            self._maps.append(probabilities.float().mean(dim=1))
        return probabilities

    def mean(self) -> Tensor:
        """The mean map; raises RuntimeError if the pass never reached all of the layers."""
        if len(self._maps) != len(self._names):
            raise RuntimeError(f"{len(self._maps)} of {len(self._names)} attention layers were reached")
        return torch.stack(self._maps).mean(dim=0)


class QueryReader(AttentionControl):
    """Keeps the queries (B, heads, N, d) of chosen layers by the layer's name."""

    def __init__(self, layers: Sequence[AttentionLayer]) -> None:
        self._names = {layer.name for layer in layers}
        self.queries: dict[str, Tensor] = {}

    def inputs(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if layer.name in self._names:
            self.queries[layer.name] = query.float()
        return query, key, value


class StoppedEarly(Exception):
    """Raised inside a UNet pass once the last layer of interest has been seen."""


def list_attention_layers(unet: UNet2DConditionModel) -> tuple[AttentionLayer, ...]:
    """Every attention layer of the UNet in the order of execution."""
    depth = len(unet.config.block_out_channels)
    order = {"down": 0, "mid": 1, "up": 2}
    layers = []
    for name, module in unet.named_modules():
        if not isinstance(module, Attention):
            continue
        parts = name.split(".")
        if parts[0] == "down_blocks":
            place, level = "down", int(parts[1])
        elif parts[0] == "mid_block":
            place, level = "mid", depth - 1
        else:
            place, level = "up", depth - 1 - int(parts[1])
        kind = "cross" if parts[-1] == "attn2" else "self"
        layers.append(AttentionLayer(name, kind, place, level, module.heads))  # type: ignore[arg-type]
    return tuple(sorted(layers, key=lambda layer: order[layer.place]))


def map_layers(layers: Sequence[AttentionLayer], native_latent_size: int) -> tuple[AttentionLayer, ...]:
    """The cross-attention layers that maps are read from: one level, down and up (DESIGN §3).

    Among the levels that have cross-attention on the way down and up, the one whose grid at the model's
    native size is nearest to 16×16; of two equally near, the finer.
    """
    levels = {
        layer.level
        for layer in layers
        if layer.kind == "cross"
        and layer.place == "down"
        and any(s.kind == "cross" and s.place == "up" and s.level == layer.level for s in layers)
    }
    if not levels:
        raise ValueError("UNet: it has no level with cross-attention on the way down and up")
    level = min(levels, key=lambda n: (abs(native_latent_size / 2**n - REFERENCE_GRID), n))
    return tuple(s for s in layers if s.kind == "cross" and s.level == level and s.place != "mid")


def attention_probabilities(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """softmax(scale·Q·Kᵀ) for query (…, N, d) and key (…, L, d); computed in float32, as fused kernels do.

    In float16 the scores of SD 2.1 would overflow, and in bfloat16 their rounding would show in the maps.
    """
    scores = (query.float() @ key.float().transpose(-1, -2)) * scale
    return scores.softmax(dim=-1).to(query.dtype)


class _ControlledProcessor:
    """An attention processor that asks a control; equal to the fused one where that does nothing."""

    def __init__(
        self,
        layer: AttentionLayer,
        control: AttentionControl,
        stop_here: bool,
        value_context: Tensor | None,
    ) -> None:
        self._site = layer
        self._control = control
        self._stop_here = stop_here
        self._value_context = value_context

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        temb: Tensor | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Tensor:
        residual = hidden_states
        if attn.group_norm is not None:
            hidden_states = attn.group_norm(hidden_states.transpose(1, 2)).transpose(1, 2)
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        values = context
        if self._site.kind == "cross" and self._value_context is not None:
            values = self._value_context
        if attn.norm_cross and encoder_hidden_states is not None:
            context = attn.norm_encoder_hidden_states(context)
            values = attn.norm_encoder_hidden_states(values)

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (attn.heads, -1)).transpose(1, 2)

        query, key, value = self._control.inputs(
            self._site, split(attn.to_q(hidden_states)), split(attn.to_k(context)), split(attn.to_v(values))
        )
        explicit = self._control.needs_probabilities(self._site)
        if explicit:
            weights = attention_probabilities(query, key, attn.scale)
            weights = self._control.probabilities(self._site, weights)
        if self._stop_here:
            raise StoppedEarly
        if explicit:
            hidden_states = weights @ value
        else:
            hidden_states = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        hidden_states = hidden_states.transpose(1, 2).flatten(2).to(residual.dtype)
        hidden_states = attn.to_out[1](attn.to_out[0](hidden_states))
        if attn.residual_connection:
            hidden_states = hidden_states + residual
        return hidden_states / attn.rescale_output_factor


@contextmanager
def controlled_attention(
    unet: UNet2DConditionModel,
    layers: Sequence[AttentionLayer],
    control: AttentionControl,
    *,
    stop_after: AttentionLayer | None = None,
    value_context: Tensor | None = None,
) -> Iterator[None]:
    """Put `control` at every attention layer, and put back what was there, whatever happens.

    With `stop_after` a pass raises `StoppedEarly` in that layer, once the control has seen it.
    `value_context` (B, L, D) gives the cross-attention values another context than the keys'.
    """
    modules = dict(unet.named_modules())
    found = {layer.name: modules[layer.name].processor for layer in layers}
    try:
        for layer in layers:
            stop_here = stop_after is not None and layer.name == stop_after.name
            modules[layer.name].set_processor(_ControlledProcessor(layer, control, stop_here, value_context))
        yield
    finally:
        for name, processor in found.items():
            modules[name].set_processor(processor)
