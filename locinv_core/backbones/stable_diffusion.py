"""Stable Diffusion 1.x and 2.x: UNet, VAE, text encoder, tokenizer and schedule; the only call site of the UNet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..cost import CostTracker
from ..ddim import Schedule
from .attention import (
    AttentionControl,
    AttentionLayer,
    StoppedEarly,
    controlled_attention,
    list_attention_layers,
    map_layers,
)
from .flops import count_flops

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from ..text.prompt import Prompt


@dataclass(frozen=True)
class EditModel:
    """A latent diffusion model, whose weights never change; only the networks run in another dtype than float32."""

    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text_encoder: nn.Module
    tokenizer: Any
    schedule: Schedule
    name: str
    _shares: dict[tuple[str, int, int], float] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for part in self.networks:
            part.requires_grad_(False).eval()

    @property
    def networks(self) -> tuple[nn.Module, ...]:
        """Everything that has weights."""
        return (self.unet, self.vae, *self._text_encoders)

    @property
    def _text_encoders(self) -> tuple[nn.Module, ...]:
        return (self.text_encoder,)

    @property
    def device(self) -> torch.device:
        """Where the UNet is."""
        return next(self.unet.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """The UNet's dtype."""
        return next(self.unet.parameters()).dtype

    @property
    def context_length(self) -> int:
        """Tokens that the text encoder reads, padding included."""
        return int(self.tokenizer.model_max_length)

    @property
    def latent_factor(self) -> int:
        """Pixels a latent cell is wide (8 for Stable Diffusion)."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def latent_scale(self) -> float:
        """What the VAE's own latents are multiplied by."""
        return float(self.vae.config.scaling_factor)

    @property
    def size_multiple(self) -> int:
        """What an image's sides must be multiples of, so that every UNet level halves evenly."""
        return int(self.latent_factor * 2 ** (len(self.unet.config.block_out_channels) - 1))

    @property
    def native_size(self) -> int:
        """Side in pixels of the square images that the model was trained on."""
        return int(self._native_latent_size * self.latent_factor)

    @property
    def _native_latent_size(self) -> int:
        size = self.unet.config.sample_size
        return int(size if isinstance(size, int) else max(size))

    @cached_property
    def layers(self) -> tuple[AttentionLayer, ...]:
        """Every attention layer in the order of execution."""
        return list_attention_layers(self.unet)

    @cached_property
    def _layer_modules(self) -> dict[str, Any]:
        modules = dict(self.unet.named_modules())
        return {layer.name: modules[layer.name] for layer in self.layers}

    def word_keys(self, layer: str, context: Tensor) -> Tensor:
        """The keys (B, heads, L, d) float32 of contexts (B, L, D) in a cross-attention layer; differentiable."""
        attention, rows = self._layer_modules[layer], context[:, : self.context_length]
        return rearrange(attention.to_k(rows.to(self.dtype)).float(), "b l (h d) -> b h l d", h=attention.heads)

    def key_scale(self, layer: str) -> float:
        """What a layer multiplies Q·Kᵀ by: 1/√d."""
        return float(self._layer_modules[layer].scale)

    @cached_property
    def map_layers(self) -> tuple[AttentionLayer, ...]:
        """The cross-attention layers that word maps are averaged over."""
        return map_layers(self.layers, self._native_latent_size)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of configs and of samples of every weight: the same weights give the same fingerprint.

        A model counts as one in half and in full precision, as a folder and as a single file, and in any version
        of transformers (4 and 5 name the text encoder's weights differently).
        """
        digest = hashlib.sha256()
        for part in (self.unet, *self._text_encoders):
            weights = {name.removeprefix("text_model."): w for name, w in part.state_dict().items()}
            for name, weight in sorted(weights.items()):
                flat = weight.detach().reshape(-1)
                picked = flat[:: max(1, len(flat) // 16)][:17]
                digest.update(f"{name}{tuple(weight.shape)}".encode())
                digest.update(picked.to("cpu", torch.float16).numpy().tobytes())
        schedule = self.schedule
        digest.update(schedule.alphas_cumprod[::50].to("cpu", torch.float16).numpy().tobytes())
        digest.update(f"{schedule.prediction_type} {schedule.final_alpha:.6f} {schedule.timesteps(2)}".encode())
        return digest.hexdigest()[:32]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the word maps of an image of this size in pixels."""
        factor = self.latent_factor
        return self.map_layers[0].grid(height // factor, width // factor)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to latents (B, C, h, w): the scaled mean of the posterior."""
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f"image: got the shape {tuple(images.shape)}, requires (B, 3, H, W)")
        height, width = images.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"image: got {width}x{height} pixels, requires both sides a multiple of {self.size_multiple}"
            )
        pixels = images.to(self.device, self.vae.dtype) * 2 - 1
        latents: Tensor = self.vae.encode(pixels).latent_dist.mode()
        return latents.float() * self.latent_scale

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, H, W), float32 in [0, 1]."""
        channels = self.vae.config.latent_channels
        if latents.ndim != 4 or latents.shape[1] != channels:
            raise ValueError(f"latents: got the shape {tuple(latents.shape)}, requires (B, {channels}, h, w)")
        scaled = (latents / self.latent_scale).to(self.device, self.vae.dtype)
        pixels: Tensor = self.vae.decode(scaled).sample
        return (pixels.float() / 2 + 0.5).clamp(0, 1)

    @cached_property
    def embedding_scale(self) -> float:
        """Root mean square of the text encoder's input embeddings."""
        return float(embedding_table(self.text_encoder).float().square().mean().sqrt())

    def token_vectors(self, token_ids: Sequence[int]) -> Tensor:
        """The input embeddings (len(token_ids), D) of these tokens, float32, as the text encoder has them."""
        table = embedding_table(self.text_encoder)
        return table[torch.tensor(list(token_ids), device=table.device)].float().clone()

    def encode_prompt(self, prompt: Prompt, vectors: Tensor | None = None, positions: Sequence[int] = ()) -> Tensor:
        """Encode a prompt's padded tokens (L,) to a context (1, L, D) for the UNet.

        `vectors` (K, D) replace the input embeddings at `positions` (K,) in this pass; the result is
        differentiable in them.
        """
        if len(prompt.token_ids) != self.context_length:
            got = len(prompt.token_ids)
            raise ValueError(f"token_ids: got {got}, requires {self.context_length}, padding included")
        ids = torch.tensor([list(prompt.token_ids)], device=self.device)
        if vectors is None:
            with torch.no_grad():
                return self._weighted(self._encode_ids(ids, None, ()), prompt)
        if len(positions) != len(vectors):
            raise ValueError(f"positions: got {len(positions)}, requires one for each of {len(vectors)} vectors")
        return self._weighted(self._encode_ids(ids, vectors, positions), prompt)

    def _weighted(self, context: Tensor, prompt: Prompt) -> Tensor:
        """Every token's row moved away from the empty prompt's by its weight, as ComfyUI does."""
        if not prompt.weights:
            return context
        ids, end = prompt.token_ids, prompt.token_ids[prompt.length - 1]
        padding = ids[-1] if prompt.length < len(ids) else end
        with torch.no_grad():
            alone = torch.tensor([[ids[0], end, *[padding] * (len(ids) - 2)]], device=self.device)
            empty = self._encode_ids(alone, None, ())
        weights = torch.ones(context.shape[1], device=context.device, dtype=context.dtype)
        weights[: len(ids)] = torch.tensor(prompt.weights)
        return empty + (context - empty) * rearrange(weights, "l -> 1 l 1")

    def _encode_ids(self, ids: Tensor, vectors: Tensor | None, positions: Sequence[int]) -> Tensor:
        with replaced_embeddings(self.text_encoder, vectors, positions):
            return self.text_encoder(ids)[0]

    def predict_noise(
        self,
        latents: Tensor,
        timestep: int,
        context: Tensor,
        *,
        tracker: CostTracker | None = None,
        control: AttentionControl | None = None,
        value_context: Tensor | None = None,
    ) -> Tensor:
        """ε_θ(z_t, t, C): latents (B, C, h, w) and context (B, L, D) to noise (B, C, h, w), float32.

        `control` is called at every attention layer. A gradient through the result is counted when it is taken.
        """
        output = self._pass(latents, timestep, context, tracker or CostTracker(), control, None, value_context)
        if output is None:
            raise RuntimeError("the UNet pass stopped before its end")
        return self.schedule.noise_from_output(output.float(), latents.to(output.device), timestep)

    def capture(
        self,
        latents: Tensor,
        timestep: int,
        context: Tensor,
        control: AttentionControl,
        *,
        tracker: CostTracker | None = None,
        stop_after: AttentionLayer | None = None,
    ) -> None:
        """Run the UNet only as far as the last layer that word maps are read from (or `stop_after`).

        What the control keeps is the result; the cost is the pass's share of the multiply-adds.
        """
        last = stop_after or self.map_layers[-1]
        self._pass(latents, timestep, context, tracker or CostTracker(), control, last, None)

    def share(self, stop_after: AttentionLayer | None, latent_height: int, latent_width: int) -> float:
        """The part of a full pass's multiply-adds that is run up to and including `stop_after`."""
        if stop_after is None:
            return 1.0
        key = (stop_after.name, latent_height, latent_width)
        if key not in self._shares:
            size = (latent_height, latent_width, self.context_length)
            self._shares[key] = count_flops(self.unet, *size, stop_after) / count_flops(self.unet, *size)
        return self._shares[key]

    def _pass(
        self,
        latents: Tensor,
        timestep: int,
        context: Tensor,
        tracker: CostTracker,
        control: AttentionControl | None,
        stop_after: AttentionLayer | None,
        value_context: Tensor | None,
    ) -> Tensor | None:
        samples = len(latents)
        share = self.share(stop_after, *latents.shape[-2:])
        tracker.count_forward(samples, share)
        context = context.to(self.device, self.dtype).expand(samples, -1, -1)
        if torch.is_grad_enabled() and context.requires_grad:
            stage = tracker.current
            context = context.clone()
            context.register_hook(lambda _: tracker.count_backward(samples, share, stage))
        inputs, length = latents.to(self.device, self.dtype), self.context_length
        time = torch.full((samples,), timestep, device=self.device)
        read = {"encoder_hidden_states": context[:, :length], "added_cond_kwargs": self._added(context, latents)}
        if control is None and stop_after is None and value_context is None:
            return self.unet(inputs, time, **read).sample
        if value_context is not None:
            value_context = value_context[:, :length].to(self.device, self.dtype).expand(samples, -1, -1)
        control = control or AttentionControl()
        with (
            suppress(StoppedEarly),
            controlled_attention(self.unet, self.layers, control, stop_after=stop_after, value_context=value_context),
        ):
            return self.unet(inputs, time, **read).sample
        return None

    def _added(self, context: Tensor, latents: Tensor) -> dict[str, Tensor] | None:
        """What the UNet reads beside the tokens' rows of contexts (B, L, D)."""
        return None


@contextmanager
def replaced_embeddings(encoder: Any, vectors: Tensor | None, positions: Sequence[int]) -> Iterator[None]:
    """Within the block a text encoder reads `vectors` (K, D) at `positions` (K,) for its tokens' input embeddings."""
    if vectors is None:
        yield
        return

    def replace(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        rows = torch.tensor(list(positions), device=output.device)
        return output.index_copy(1, rows, vectors.to(output).expand(output.shape[0], -1, -1))

    handle = encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


def embedding_table(encoder: Any) -> Tensor:
    """A text encoder's input embeddings, (tokens, D)."""
    table: Tensor = encoder.get_input_embeddings().weight
    return table.detach()
