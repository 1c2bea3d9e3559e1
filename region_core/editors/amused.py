"""aMUSEd (Patil et al. 2024, the open Muse): edits by masking an image's tokens and predicting them again.

A VQ model makes the image a grid of tokens; a transformer predicts the masked ones from those around them
and the prompt, the surest first. Tokens outside the box are never masked, so they are the image's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ...locinv_core.backbones.loading import resolve_device, resolve_dtype
from ...locinv_core.cost import CostTracker
from ...locinv_core.guidance import guided_noise
from ...locinv_core.imaging.padding import Padding
from ..encoders.hub import EMBEDDED, open_network, weights_place
from .base import ModelEditor, cells_of
from .registry import RegionEditor

if TYPE_CHECKING:
    from diffusers import UVit2DModel, VQModel

TEMPERATURE = (2.0, 0.0)
"""Of the noise on the order in which tokens are settled, from the first step to the last (aMUSEd's own)."""
AESTHETIC_SCORE = 6.0
"""The score that the transformer is told, on the scale of its training captions (aMUSEd's own)."""

_PARTS = ("vqvae", "transformer", "text_encoder", "tokenizer", "scheduler")


@dataclass(frozen=True)
class AmusedModel:
    """aMUSEd's parts; their weights never change."""

    vqvae: VQModel
    transformer: UVit2DModel
    text_encoder: nn.Module
    tokenizer: Any
    mask_token: int
    name: str

    def __post_init__(self) -> None:
        for part in (self.vqvae, self.transformer, self.text_encoder):
            part.requires_grad_(False)
            part.eval()

    @property
    def device(self) -> torch.device:
        return next(self.transformer.parameters()).device

    @property
    def token_pixels(self) -> int:
        """Pixels a token is wide (16 for aMUSEd)."""
        return int(2 ** (len(self.vqvae.config.block_out_channels) - 1))

    @property
    def size_multiple(self) -> int:
        """What an image's sides must be multiples of."""
        return self.token_pixels * (2 if self.transformer.config.downsample else 1)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], the range that the VQ model works in, to tokens (B, h, w)."""
        latents = self.vqvae.encode(images.to(self.device, self.vqvae.dtype)).latents
        tokens: Tensor = self.vqvae.quantize(latents)[2][2]
        return tokens.reshape(len(latents), *latents.shape[-2:])

    @torch.no_grad()
    def decode(self, tokens: Tensor) -> Tensor:
        """Tokens (B, h, w) to images (B, 3, H, W), float32 in [0, 1]."""
        width = self.vqvae.config.vq_embed_dim or self.vqvae.config.latent_channels
        codes = self.vqvae.quantize.get_codebook_entry(tokens.to(self.device), (*tokens.shape, width))
        # Codes are their own nearest codes, so that it does not matter that they are quantised once more.
        pixels: Tensor = self.vqvae.decode(codes).sample
        return pixels.float().clamp(0, 1)

    @torch.no_grad()
    def encode_prompt(self, token_ids: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Padded tokens (L,) to the context (1, L, D), of the last layer but one, and the pooled (1, P)."""
        ids = torch.tensor([token_ids], device=self.device)
        output = self.text_encoder(ids, return_dict=True, output_hidden_states=True)
        return output.hidden_states[-2], output.text_embeds

    @torch.no_grad()
    def predict(
        self, tokens: Tensor, context: Tensor, pooled: Tensor, size: tuple[int, int], tracker: CostTracker
    ) -> Tensor:
        """Logits (B, codes, h, w) of tokens (B, h, w); one NFE a sample.

        context: (B, L, D). pooled: (B, P). size: (H, W) of the image, which the transformer is told.
        """
        tracker.count_forward(len(tokens))
        told = torch.tensor([size[1], size[0], 0, 0, AESTHETIC_SCORE], device=self.device, dtype=context.dtype)
        logits: Tensor = self.transformer(
            tokens, encoder_hidden_states=context, pooled_text_emb=pooled, micro_conds=told.expand(len(tokens), -1)
        )
        return logits.float()


@dataclass(frozen=True)
class AmusedEditor(ModelEditor):
    """Predicts the tokens inside a box again; guidance, composite … as `ModelEditor` has them.

    strength: the share of the box's tokens that is masked at the start; the rest stay the image's own.
    A mask is read token by token, so boxes are the finest shape there is. Defaults are aMUSEd's own.
    """

    model: AmusedModel
    strength: float = 1.0
    guidance: float = 10.0
    steps: int = 12
    name = "amused"

    def check_steps(self, steps: int) -> None:
        if not isinstance(steps, int) or steps < 1:
            raise ValueError(f"steps: got {steps!r}, requires a whole number of at least 1")

    def cost(self, steps: int | None = None) -> float:
        """NFE of one edit: two passes a step, one at guidance 1; at any strength all steps are made."""
        return float((self.steps if steps is None else steps) * (1 if self.guidance == 1 else 2))

    @torch.no_grad()
    def edit_inside(
        self, image: Tensor, masks: Tensor, prompt: str, seed: int, steps: int, tracker: CostTracker
    ) -> Tensor:
        model = self.model
        conditions = [model.encode_prompt(text.token_ids) for text in self.texts(prompt)]
        padding = Padding.of(image.shape[-2], image.shape[-1], model.size_multiple)
        cells = cells_of(padding.pad_mask(masks), model.token_pixels)[:, 0] > 0
        source = model.encode(padding.pad_image(image))
        tokens = self.edit_tokens(source, cells, conditions, seed, steps=steps, tracker=tracker)
        return torch.cat([padding.crop(model.decode(part)).cpu() for part in tokens.split(self.batch)])

    @torch.no_grad()
    def edit_tokens(
        self,
        source: Tensor,
        cells: Tensor,
        conditions: list[tuple[Tensor, Tensor]],
        seed: int,
        *,
        steps: int,
        tracker: CostTracker | None = None,
    ) -> Tensor:
        """The edit between encoder and decoder: tokens (1, h, w) of the source to (B, h, w).

        cells: (B, h, w) bool, where tokens may change. conditions: (context, pooled) of each of `texts`.
        """
        tracker = tracker or CostTracker()
        size = (source.shape[1] * self.model.token_pixels, source.shape[2] * self.model.token_pixels)
        chosen = masked_first(cells.cpu(), self.strength, seed)
        tokens = torch.where(chosen, self.model.mask_token, source.cpu())
        # Every mask has a generator of its own, so that what it becomes does not depend on its company.
        generators = [torch.Generator().manual_seed(seed) for _ in tokens]
        shares = chosen.flatten(1).float().mean(dim=1).tolist()
        from diffusers import AmusedScheduler

        scheduler = AmusedScheduler(mask_token_id=self.model.mask_token, masking_schedule="linear")
        scheduler.set_timesteps(steps, TEMPERATURE, "cpu")
        chunks = [range(first, min(first + self.batch, len(cells))) for first in range(0, len(cells), self.batch)]
        for number, rows in enumerate(chunks):
            context, pooled = (
                torch.cat([part.expand(len(rows), *part.shape[1:]) for part in both])
                for both in zip(*conditions, strict=True)
            )
            for step, timestep in enumerate(scheduler.timesteps, start=1):
                seen = tokens[rows.start : rows.stop].to(self.model.device).repeat(len(conditions), 1, 1)
                branches = self.model.predict(seen, context, pooled, size, tracker).chunk(len(conditions))
                logits = guided_noise(branches[0], branches[1] if len(branches) > 1 else None, self.guidance)
                for row, its_logits in zip(rows, logits.cpu(), strict=True):
                    own = {"starting_mask_ratio": shares[row], "generator": generators[row]}
                    settled = scheduler.step(its_logits[None], timestep, tokens[row][None], **own)
                    tokens[row] = settled.prev_sample[0]
                tracker.report(number * steps + step, len(chunks) * steps)
        return tokens


def masked_first(cells: Tensor, strength: float, seed: int) -> Tensor:
    """The tokens that are masked at the start, (B, h, w) bool: `strength` of those in each of `cells`.

    At least one. One random order of all tokens serves every mask, so a mask's choice is its own.
    """
    order = torch.rand(cells.shape[1:], generator=torch.Generator().manual_seed(seed))
    chosen = torch.zeros_like(cells)
    for inside, picked in zip(cells, chosen, strict=True):
        values = order[inside].sort().values
        count = max(1, round(strength * len(values)))
        picked |= inside & (order <= values[count - 1])
    return chosen


def load_amused_model(name: str | Path = EMBEDDED, *, device: str = "auto", dtype: str = "auto") -> AmusedModel:
    """An aMUSEd: "embedded", a folder in diffusers' layout, or a hub name (amused/amused-256).

    MaskGIT, which Learnable Regions used, is published as JAX checkpoints alone and so is not opened. Raises
    ValueError for what cannot be had or is no aMUSEd.
    """
    from diffusers import AmusedScheduler, UVit2DModel, VQModel
    from transformers import CLIPTextModelWithProjection, CLIPTokenizerFast

    place = weights_place(name, "amused")
    lacking = [part for part in _PARTS if Path(place).is_dir() and not (Path(place) / part).is_dir()]
    if lacking:
        raise ValueError(
            f"amused {str(name)!r}: it lacks {', '.join(lacking)}; requires aMUSEd in diffusers' layout,"
            f" with {', '.join(_PARTS)}"
        )
    chosen_device = resolve_device(device)
    chosen_dtype = resolve_dtype(dtype, chosen_device)
    with torch.inference_mode(False):
        # aMUSEd's VQ model overflows in half precision, and is small.
        vqvae = open_network(VQModel, name, "amused", subfolder="vqvae").float()
        # Cast as it is read: diffusers warns of a cast afterwards.
        transformer = open_network(UVit2DModel, name, "amused", subfolder="transformer", torch_dtype=chosen_dtype)
        text_encoder = open_network(CLIPTextModelWithProjection, name, "amused", subfolder="text_encoder")
        networks = vqvae.to(chosen_device), transformer.to(chosen_device), text_encoder.to(chosen_device, chosen_dtype)
        scheduler = _open_small(AmusedScheduler, name, place, "scheduler")
        tokenizer = _open_small(CLIPTokenizerFast, name, place, "tokenizer")
    tokenizer.model_max_length = min(int(tokenizer.model_max_length), int(text_encoder.config.max_position_embeddings))
    mask_token, vocabulary = int(scheduler.config.mask_token_id), int(transformer.config.vocab_size)
    if not vqvae.config.num_vq_embeddings <= mask_token < vocabulary:
        raise ValueError(
            f"amused {str(name)!r}: its mask token is {mask_token}, requires an id after the codebook's"
            f" {vqvae.config.num_vq_embeddings} and below the transformer's {vocabulary}"
        )
    return AmusedModel(*networks, tokenizer, mask_token, EMBEDDED if str(name) == EMBEDDED else Path(place).name)


def _open_small(kind: Any, name: str | Path, place: str, part: str) -> Any:
    try:
        return kind.from_pretrained(place, subfolder=part)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"amused {str(name)!r}: its {part} cannot be opened ({reason})") from error


EDITOR = RegionEditor("amused", "aMUSEd", "amused", load_amused_model, AmusedEditor)
