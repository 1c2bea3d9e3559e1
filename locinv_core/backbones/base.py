"""What an edit needs of a model: the seam between the methods and the model families.

Inversion, token optimization, Prompt-to-Prompt and the compared methods talk to a `Backbone`. What one of them needs
beyond it (a UNet's residual layers, a copy to tune) it asks for by `require_diffusers`, which refuses other backbones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from ..cost import CostTracker
from ..ddim import Schedule
from .attention import AttentionControl, AttentionLayer
from .passes import NO_ROWS

if TYPE_CHECKING:
    from ..text.prompt import Prompt
    from .stable_diffusion import EditModel


class Backbone(Protocol):
    """A latent diffusion model whose weights never change.

    Latents are (B, C, h, w) float32 with variance kept: z_t = √ᾱ_t·z_0 + √(1−ᾱ_t)·ε. A context (B, L, D) is all that
    a pass reads of a prompt, one row a token; a family that reads more of it (SDXL's pooled embedding) has it in rows
    after the L of the tokens, which no attention map has.
    """

    @property
    def name(self) -> str:
        """What errors and reports call the model."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What its network computes in."""
        ...

    @property
    def tokenizer(self) -> Any:
        """What `parse_prompt` reads a text with."""
        ...

    @property
    def schedule(self) -> Schedule:
        """The time grid, and the deterministic step along the ODE, both ways."""
        ...

    @property
    def context_length(self) -> int:
        """L: tokens that the text encoder reads, padding included."""
        ...

    @property
    def latent_factor(self) -> int:
        """Pixels a latent cell is wide."""
        ...

    @property
    def latent_scale(self) -> float:
        """What the VAE's own latents are multiplied by."""
        ...

    @property
    def size_multiple(self) -> int:
        """What an image's sides must be multiples of."""
        ...

    @property
    def native_size(self) -> int:
        """Side in pixels of the square images that the model was trained on."""
        ...

    @property
    def layers(self) -> tuple[AttentionLayer, ...]:
        """Every attention layer in the order of execution."""
        ...

    @property
    def map_layers(self) -> tuple[AttentionLayer, ...]:
        """The layers that word maps are averaged over."""
        ...

    @property
    def fingerprint(self) -> str:
        """The same weights give the same one."""
        ...

    @property
    def embedding_scale(self) -> float:
        """Root mean square of the token embeddings: the unit of the token optimizer's learning rate."""
        ...

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """(rows, columns) of the word maps of an image of this size in pixels."""
        ...

    def share(self, stop_after: AttentionLayer | None, latent_height: int, latent_width: int) -> float:
        """The part of a full pass's multiply-adds that is run up to and including `stop_after`."""
        ...

    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] to latents."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """Latents to images (B, 3, H, W), float32 in [0, 1]."""
        ...

    def token_vectors(self, token_ids: Sequence[int]) -> Tensor:
        """The input embeddings (K, D) float32 of these tokens."""
        ...

    def encode_prompt(self, prompt: Prompt, vectors: Tensor | None = None, positions: Sequence[int] = ()) -> Tensor:
        """The context (1, L, D) of a prompt, with `vectors` (K, D) in the places of the tokens at `positions`;
        differentiable in them."""
        ...

    def word_keys(self, layer: str, context: Tensor) -> Tensor:
        """The keys (B, heads, L, d) float32 of contexts in a cross-attention layer; differentiable."""
        ...

    def key_scale(self, layer: str) -> float:
        """What a layer multiplies Q·Kᵀ by."""
        ...

    def predict_noise(
        self,
        latents: Tensor,
        timestep: int,
        context: Tensor,
        *,
        tracker: CostTracker | None = None,
        control: AttentionControl | None = None,
        value_context: Tensor | None = None,
        unconditional: slice = NO_ROWS,
    ) -> Tensor:
        """ε_θ(z_t, t, C), float32, in one pass; `control` is called at every attention layer.

        `value_context` gives the cross-attention's values another context than the keys'. `unconditional`: the rows
        without the prompt."""
        ...

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
        """The same pass, run only as far as the last of `map_layers`, or `stop_after`."""
        ...


def require_diffusers(model: Backbone, what: str) -> EditModel:
    """The model as diffusers' own. Raises ValueError, naming `what` needs it, for another backbone."""
    from .stable_diffusion import EditModel

    if not isinstance(model, EditModel):
        raise ValueError(
            f"model: {what} works inside diffusers' UNet, and {model.name!r} runs elsewhere; requires a model from"
            " Load Edit Model"
        )
    return model
