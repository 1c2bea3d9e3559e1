"""The attention layers of a UNet, and a context manager under which a control reads and changes them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from diffusers.models.attention_processor import Attention

REFERENCE_GRID = 16
"""Cross-attention is read at the level whose grid is nearest to this many cells a side (Prompt-to-Prompt: 16)."""


@dataclass(frozen=True)
class AttentionLayer:
    """One attention layer of a UNet; `level` is how often its grid halves the latents' sides."""

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
    """What is done at each attention layer; this base changes nothing, and every method may be overridden.

    A control is given the layer and never counts calls; what depends on the step it must hold itself.
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
    """Keeps the cross-attention of chosen layers, averaged over heads and then over the layers."""

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
        """(B, N, L) float32, differentiable if the pass was. Raises RuntimeError if a layer was not reached."""
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
    """Raised inside a UNet pass once the last layer that is read has been reached."""


def list_attention_layers(unet: UNet2DConditionModel) -> tuple[AttentionLayer, ...]:
    """Every attention layer of the UNet in the order of execution."""
    from diffusers.models.attention_processor import Attention

    depth = len(unet.config.block_out_channels)
    found: dict[str, list[AttentionLayer]] = {"down": [], "mid": [], "up": []}
    for name, module in unet.named_modules():
        if isinstance(module, Attention):
            block, number = re.match(r"(down|mid|up)_blocks?\.(\d+)?", name).groups()  # type: ignore[union-attr]
            level = {"down": int(number or 0), "mid": depth - 1, "up": depth - 1 - int(number or 0)}[block]
            kind: Literal["self", "cross"] = "cross" if name.endswith("attn2") else "self"
            found[block].append(AttentionLayer(name, kind, block, level, module.heads))  # type: ignore[arg-type]
    return (*found["down"], *found["mid"], *found["up"])


def map_layers(layers: Sequence[AttentionLayer], native_latent_size: int) -> tuple[AttentionLayer, ...]:
    """The cross-attention layers that attention maps are averaged over: one level, down and up.

    Of the levels that have cross-attention on the way down and up, the one whose grid at the model's native
    size is nearest to 16×16; of two equally near, the finer. Raises ValueError where there is none.
    """
    cross = [layer for layer in layers if layer.kind == "cross" and layer.place != "mid"]
    levels = set.intersection(*({layer.level for layer in cross if layer.place == way} for way in ("down", "up")))
    if not levels:
        raise ValueError("UNet: it has no level with cross-attention on the way down and up")
    level = min(levels, key=lambda n: (abs(native_latent_size / 2**n - REFERENCE_GRID), n))
    return tuple(layer for layer in cross if layer.level == level)


def attention_probabilities(query: Tensor, key: Tensor, scale: float) -> Tensor:
    """softmax(scale·Q·Kᵀ) for query (…, N, d) and key (…, L, d); computed in float32, as fused kernels do.

    In float16 the scores of SD 2.1 would overflow, and in bfloat16 their rounding would show in the maps.
    """
    scores = (query.float() @ key.float().transpose(-1, -2)) * scale
    return scores.softmax(dim=-1).to(query.dtype)


class _ControlledProcessor:
    """An attention processor that calls a control; equal to the fused one where that does nothing."""

    def __init__(
        self, layer: AttentionLayer, control: AttentionControl, stop_here: bool, value_context: Tensor | None
    ) -> None:
        self._layer = layer
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
        if self._layer.kind == "cross" and self._value_context is not None:
            values = self._value_context
        if attn.norm_cross and encoder_hidden_states is not None:
            context = attn.norm_encoder_hidden_states(context)
            values = attn.norm_encoder_hidden_states(values)

        def split(x: Tensor) -> Tensor:
            return rearrange(x, "b l (h d) -> b h l d", h=attn.heads)

        query, key, value = self._control.inputs(
            self._layer, split(attn.to_q(hidden_states)), split(attn.to_k(context)), split(attn.to_v(values))
        )
        weights = None
        if self._control.needs_probabilities(self._layer):
            weights = self._control.probabilities(self._layer, attention_probabilities(query, key, attn.scale))
        if self._stop_here:
            raise StoppedEarly
        if weights is None:
            hidden_states = F.scaled_dot_product_attention(query, key, value, scale=attn.scale)
        else:
            hidden_states = weights @ value
        hidden_states = rearrange(hidden_states, "b h l d -> b l (h d)").to(residual.dtype)
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
    """Call `control` at every attention layer within the block; the processors that were there come back.

    With `stop_after` a pass raises `StoppedEarly` in that layer, once the control was called there.
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
