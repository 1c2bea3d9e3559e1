"""ComfyUI's CLIP as the text side of a backbone: prompts with embeddings in the places of tokens."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import comfy.model_management
import torch
import torch.nn.functional as F
from torch import Tensor

from .differentiable import differentiable

if TYPE_CHECKING:
    from comfy.sd import CLIP

    from ...locinv_core.text.prompt import Prompt

_ENCODERS = ("l", "h", "g")
"""ComfyUI's names of CLIP's text encoders, in the order that their channels stand in a context."""


@dataclass(frozen=True, eq=False)
class ComfyText:
    """One or two CLIP text encoders, with clip skip and LoRAs as the CLIP has them.

    A context is (1, L, D), all encoders' channels side by side; where the model reads a pooled embedding, it is the
    row after the L, filled up with zeros. Embeddings of a second encoder are kept in units that give them the root
    mean square of the first's, so that one learning rate fits both.
    Raises ValueError for other text encoders, and for a negative CONDITIONING of another length.
    """

    clip: CLIP
    pooled: bool
    negative: Any = None

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """Which of ComfyUI's encoders there are."""
        stage = self.clip.cond_stage_model
        found = tuple(key for key in _ENCODERS if hasattr(stage, f"clip_{key}"))
        if not found or any(hasattr(stage, other) for other in ("t5xxl", "llama", "gemma2_2b")):
            raise ValueError(
                f"clip: it is a {type(stage).__name__}, requires the text encoders of Stable Diffusion 1.x, 2.x or SDXL"
            )
        return found

    @cached_property
    def tokenizer(self) -> Any:
        """What reads a prompt."""
        tokenizer = copy.copy(self._tokenizers[0].tokenizer)
        tokenizer.model_max_length = self.length
        return tokenizer

    @property
    def length(self) -> int:
        """L: tokens of a chunk."""
        return int(self._tokenizers[0].max_length)

    @cached_property
    def width(self) -> int:
        """D: channels of a context."""
        return sum(self._sizes)

    @cached_property
    def embedding_scale(self) -> float:
        """Root mean square of the first encoder's embeddings."""
        return self._scales[0]

    def vectors(self, token_ids: Sequence[int]) -> Tensor:
        """The input embeddings (K, D) float32 of these tokens."""
        rows = list(token_ids)
        parts = [
            table.detach()[torch.tensor(rows, device=table.device)].float() * unit
            for table, unit in zip(self._tables, self._units, strict=True)
        ]
        return torch.cat(parts, dim=-1).clone().to(comfy.model_management.get_torch_device())

    def encode(self, prompt: Prompt, vectors: Tensor | None = None, positions: Sequence[int] = ()) -> Tensor:
        """The context of a prompt; differentiable in the vectors (K, D) that take the tokens' places."""
        if len(prompt.token_ids) != self.length:
            got = len(prompt.token_ids)
            raise ValueError(f"token_ids: got {got}, requires {self.length}, padding included")
        if vectors is not None and len(positions) != len(vectors):
            raise ValueError(f"positions: got {len(positions)}, requires one for each of {len(vectors)} vectors")
        if not prompt.words and self.negative is not None:
            return self._given_negative
        stage = self.clip.cond_stage_model
        with torch.inference_mode():
            self.clip.load_model()
        stage.reset_clip_options()
        if self.clip.layer_idx is not None:
            stage.set_clip_options({"layer": self.clip.layer_idx})
        tokens = self._tokens(prompt, vectors, positions)
        if vectors is not None and vectors.requires_grad and torch.is_grad_enabled():
            with differentiable(stage):
                context, pooled = stage.encode_token_weights(tokens)[:2]
        else:
            with torch.no_grad():
                context, pooled = stage.encode_token_weights(tokens)[:2]
        return self._whole(context, pooled)

    def tokens(self, context: Tensor) -> Tensor:
        """The rows of a context (B, L or L + 1, D) that cross-attention reads."""
        return context[:, : self.length]

    def pooled_of(self, context: Tensor) -> Tensor | None:
        """The pooled embedding (B, P) of a context."""
        return context[:, self.length, : self._sizes[-1]] if self.pooled else None

    def _whole(self, context: Tensor, pooled: Tensor | None) -> Tensor:
        """A context with its pooled embedding as last row, where the model reads one."""
        device = comfy.model_management.get_torch_device()
        context = context.float().to(device)
        if not self.pooled:
            return context
        if pooled is None:
            raise ValueError("clip: it gives no pooled embedding, which the MODEL requires; requires SDXL's CLIP")
        row = F.pad(pooled.float().to(device), (0, context.shape[-1] - pooled.shape[-1]))
        return torch.cat([context, row[:, None]], dim=1)

    def _tokens(self, prompt: Prompt, vectors: Tensor | None, positions: Sequence[int]) -> dict[str, Any]:
        """ComfyUI's tokens and weights of each encoder."""
        parts: list[Any] = [[None] * len(positions)] * len(self.keys)
        if vectors is not None:
            own = vectors.split(self._sizes, dim=-1)
            parts = [part / unit for part, unit in zip(own, self._units, strict=True)]
        weights = prompt.weights or [1.0] * self.length
        made = {}
        for key, encoder, part in zip(self.keys, self._encoders, parts, strict=True):
            content, padding = prompt.token_ids[: prompt.length], self.length - prompt.length
            ids: list[Any] = [*content, *[encoder.special_tokens["pad"]] * padding]
            for position, vector in zip(positions, part, strict=True):
                ids[position] = vector
            made[key] = [list(zip(ids, weights, strict=True))]
        return made

    def check_negative(self) -> None:
        """Raise ValueError unless the negative CONDITIONING, if there is one, is of one chunk of tokens."""
        if self.negative is not None and [part[0].shape[1] for part in self.negative] != [self.length]:
            got = ", ".join(str(part[0].shape[1]) for part in self.negative) or "none"
            raise ValueError(f"negative: got parts of {got} tokens, requires one part of {self.length}")

    @cached_property
    def _given_negative(self) -> Tensor:
        context, told = self.negative[0]
        with torch.inference_mode(False):
            pooled = told.get("pooled_output")
            return self._whole(context.clone(), None if pooled is None else pooled.clone())

    @property
    def _tokenizers(self) -> list[Any]:
        return [getattr(self.clip.tokenizer, f"clip_{key}") for key in self.keys]

    @property
    def _encoders(self) -> list[Any]:
        return [getattr(self.clip.cond_stage_model, f"clip_{key}") for key in self.keys]

    @property
    def _tables(self) -> list[Tensor]:
        return [encoder.transformer.get_input_embeddings().weight for encoder in self._encoders]

    @cached_property
    def _sizes(self) -> list[int]:
        return [int(table.shape[-1]) for table in self._tables]

    @cached_property
    def _scales(self) -> list[float]:
        return [float(table.detach().float().square().mean().sqrt()) for table in self._tables]

    @cached_property
    def _units(self) -> list[float]:
        return [self._scales[0] / scale if scale else 1.0 for scale in self._scales]
