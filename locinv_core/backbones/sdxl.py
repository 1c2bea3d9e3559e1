"""SDXL (Podell et al. 2023), and models of its architecture: two text encoders, and conditions beside the prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .stable_diffusion import EditModel, embedding_table, replaced_embeddings


@dataclass(frozen=True)
class SDXLModel(EditModel):
    """A latent diffusion model whose UNet reads two text encoders, a pooled embedding and the image's size.

    A context is (1, L + 1, D): of every token the last but one hidden states of both encoders, side by side on the
    channels, and after them a row with the pooled embedding of the second, padded with zeros. Batches, null text and
    edit directions so hold all that the UNet reads of a prompt. The empty prompt is encoded as any other.
    Tuned vectors (K, D₁ + D₂) are those of both encoders, the second's in units in which its root mean square is the
    first's, so that one learning rate serves both.
    """

    text_encoder_2: nn.Module = field(kw_only=True)
    pad_id_2: int = field(default=0, kw_only=True)
    """What the second encoder reads after the end token ("!"), where the first reads `tokenizer`'s padding."""

    @property
    def _text_encoders(self) -> tuple[nn.Module, ...]:
        return (self.text_encoder, self.text_encoder_2)

    @cached_property
    def _unit(self) -> float:
        """What the second encoder's embeddings are multiplied by in tuned vectors."""
        scale = float(embedding_table(self.text_encoder_2).float().square().mean().sqrt())
        return self.embedding_scale / scale if scale else 1.0

    def token_vectors(self, token_ids: Sequence[int]) -> Tensor:
        """The input embeddings (len(token_ids), D₁ + D₂) of these tokens in both encoders, float32."""
        table = embedding_table(self.text_encoder_2)
        second = table[torch.tensor(list(token_ids), device=table.device)].float()
        return torch.cat([super().token_vectors(token_ids), self._unit * second], dim=-1)

    def _encode_ids(self, ids: Tensor, vectors: Tensor | None, positions: Sequence[int]) -> Tensor:
        first_vectors, second_vectors = None, None
        if vectors is not None:
            widths = [embedding_table(encoder).shape[-1] for encoder in self._text_encoders]
            first_vectors, second_vectors = vectors.split(widths, dim=-1)
            second_vectors = second_vectors / self._unit
        with replaced_embeddings(self.text_encoder, first_vectors, positions):
            first = self.text_encoder(ids, output_hidden_states=True).hidden_states[-2]
        ends = ids == self.tokenizer.eos_token_id
        padding = ends.cumsum(dim=1) - ends.long() > 0
        with replaced_embeddings(self.text_encoder_2, second_vectors, positions):
            second = self.text_encoder_2(ids.masked_fill(padding, self.pad_id_2), output_hidden_states=True)
        tokens = torch.cat([first, second.hidden_states[-2]], dim=-1)
        pooled = F.pad(second.text_embeds, (0, tokens.shape[-1] - second.text_embeds.shape[-1]))
        return torch.cat([tokens, pooled[:, None]], dim=1)

    def _added(self, context: Tensor, latents: Tensor) -> dict[str, Tensor]:
        """The pooled embeddings (B, P), and the image's size before and after a crop that takes nothing away."""
        height, width = (side * self.latent_factor for side in latents.shape[-2:])
        # In float32: bfloat16 would round the sizes.
        sizes = torch.tensor([height, width, 0, 0, height, width], dtype=torch.float32, device=context.device)
        encoder: Any = self.text_encoder_2
        pooled = context[:, self.context_length, : encoder.config.projection_dim]
        return {"text_embeds": pooled, "time_ids": sizes.expand(len(context), -1)}
