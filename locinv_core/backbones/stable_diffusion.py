"""Stable Diffusion 1.x and 2.x: UNet, VAE, text encoder, tokenizer and schedule; the only call site of the UNet."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..ddim import Schedule
from .attention import (
    AttentionControl,
    AttentionLayer,
    controlled_attention,
    list_attention_layers,
    map_layers,
)
from .fingerprint import weight_sample
from .flops import count_flops
from .passes import CountedPasses

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, UNet2DConditionModel

    from ..text.prompt import Prompt


@dataclass(frozen=True)
class EditModel(CountedPasses):
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
                digest.update(f"{name}{tuple(weight.shape)}".encode() + weight_sample(weight))
        schedule = self.schedule
        digest.update(schedule.alphas_cumprod[::50].to("cpu", torch.float16).numpy().tobytes())
        digest.update(f"{schedule.prediction_type} {schedule.final_alpha:.6f} {schedule.timesteps(2)}".encode())
        return digest.hexdigest()[:32]

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

    def _noise(
        self,
        latents: Tensor,
        timestep: float,
        context: Tensor,
        control: AttentionControl | None,
        stop_after: AttentionLayer | None,
        value_context: Tensor | None,
        unconditional: slice,
    ) -> Tensor:
        length, context = self.context_length, context.to(self.dtype)
        inputs, time = latents.to(self.device, self.dtype), torch.full((len(latents),), timestep, device=self.device)
        controlled: AbstractContextManager[None] = nullcontext()
        if control is not None or stop_after is not None or value_context is not None:
            values = None if value_context is None else value_context[:, :length].to(self.dtype)
            control = control or AttentionControl()
            controlled = controlled_attention(
                self.unet, self.layers, control, stop_after=stop_after, value_context=values
            )
        with controlled:
            added = self._added(context, latents)
            output = self.unet(inputs, time, encoder_hidden_states=context[:, :length], added_cond_kwargs=added).sample
        return self.schedule.noise_from_output(output.float(), latents.to(output.device), int(timestep))

    def _flops(self, stop_after: AttentionLayer | None, latent_height: int, latent_width: int) -> int:
        return count_flops(self.unet, latent_height, latent_width, self.context_length, stop_after)

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
