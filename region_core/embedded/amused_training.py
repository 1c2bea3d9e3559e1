"""Training the embedded masked-token transformer (MaskGIT, Muse; aMUSEd in diffusers) and its text encoder.

It learns to name the masked codes of a picture from the others and the caption. A share of the pictures has
only a box masked, which is what editing inside a box asks for; a share of the captions is the empty one.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AmusedScheduler, UVit2DModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModelWithProjection

from ...locinv_core.embedded.fitting import Report, fit
from ...locinv_core.embedded.training_state import TrainingState
from ...locinv_core.embedded.training_workers import rank, share
from .exporting import write_amused_index, write_half
from .recipe import TransformerRecipe

__all__ = ["MICRO_CONDITIONS", "build_transformer", "draw_masks", "text_tower", "train_transformer"]

MICRO_CONDITIONS = (128.0, 128.0, 0.0, 0.0, 6.0)  # width, height, crop's corner, aesthetic score: as aMUSEd's
_ENCODED = 2  # numbers that each of them becomes


def text_tower(clip: CLIPModel) -> CLIPTextModelWithProjection:
    """The dual encoder's text tower with its projection, a copy, in fp32."""
    tower = CLIPTextModelWithProjection(clip.config.text_config)
    known = clip.state_dict()
    tower.load_state_dict({name: known[name].float() for name in tower.state_dict()})
    return tower.float()


def build_transformer(
    recipe: TransformerRecipe, *, codes: int, grid: int, text_width: int, embedding: int
) -> UVit2DModel:
    """A new transformer for ``grid`` x ``grid`` codes; the token after the last code is the mask."""
    return UVit2DModel(
        hidden_size=recipe.width,
        cond_embed_dim=embedding,
        micro_cond_encode_dim=_ENCODED,
        micro_cond_embed_dim=_ENCODED * len(MICRO_CONDITIONS),
        encoder_hidden_size=text_width,
        vocab_size=codes + 1,
        codebook_size=codes,
        in_channels=recipe.channels,
        block_out_channels=recipe.channels,
        num_res_blocks=recipe.blocks,
        downsample=True,
        upsample=True,
        block_num_heads=recipe.heads,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=recipe.inner,
        sample_size=grid,
    )


def draw_masks(count: int, grid: int, boxes: float, rng: torch.Generator) -> Tensor:
    """Which codes are masked: (count, grid, grid) bool, at least one in each.

    The share of masked codes is cos(u π/2), u even in 0 to 1 (MaskGIT's schedule); for a share ``boxes`` of
    the rows, all of it inside a box of a fifth of the side or more.
    """
    shares = torch.cos(torch.rand(count, generator=rng) * math.pi / 2)
    least = max(2, grid // 5)
    sides = torch.randint(least, grid + 1, (count, 2), generator=rng)
    start = (torch.rand(count, 2, generator=rng) * (grid - sides + 1)).long()
    whole = torch.rand(count, generator=rng) >= boxes
    places = torch.arange(grid)
    inside = [
        (places >= start[:, k, None]) & (places < start[:, k, None] + sides[:, k, None]) for k in (0, 1)
    ]
    window = (inside[0][:, :, None] & inside[1][:, None, :]) | whole.view(-1, 1, 1)
    order = torch.rand(count, grid, grid, generator=rng).masked_fill(~window, 2.0).flatten(1)
    masked = (shares * window.flatten(1).sum(1)).ceil().long().clamp(min=1)
    ranks = order.argsort(dim=1).argsort(dim=1)
    return (ranks < masked[:, None]).view(count, grid, grid)


class _Pair(nn.Module):
    """The two models that are trained, as one module."""

    def __init__(self, transformer: UVit2DModel, text_encoder: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder

    def forward(self, tokens: Tensor, ids: Tensor, micro: Tensor) -> Tensor:
        """Logits (B, codes, h, w), conditioned as AmusedPipeline does it."""
        text = self.text_encoder(input_ids=ids, output_hidden_states=True)
        return self.transformer(
            tokens,
            encoder_hidden_states=text.hidden_states[-2],
            pooled_text_emb=text.text_embeds,
            micro_conds=micro,
        )


def _micro_conditions(count: int, rng: torch.Generator) -> Tensor:
    """(count, 5): half of the rows the usual numbers, half others, so that they come to mean little."""
    usual = torch.tensor(MICRO_CONDITIONS).expand(count, -1)
    other = torch.rand(count, 5, generator=rng) * torch.tensor([512.0, 512.0, 64.0, 64.0, 10.0])
    return torch.where(torch.rand(count, 1, generator=rng) < 0.5, usual, other.round())


def train_transformer(
    codes: Tensor,
    token_ids: Tensor,
    empty_ids: Tensor,
    clip: CLIPModel,
    recipe: TransformerRecipe,
    checkpoint: Path,
    out: Path,
    *,
    codebook: int,
    tokenizer: Path,
    seed: int,
    report: Report,
) -> None:
    """Train, going on from ``checkpoint`` when it exists; worker 0 writes into ``out`` at every checkpoint.

    Args:
        codes: (N, h, h) of the training pictures. token_ids: (N, V, L), V captions a picture.
        empty_ids: (L,), of the empty caption. clip: whose text tower the text encoder starts as.
        codebook: how many codes there are. tokenizer: the folder to copy it from.
    """
    torch.manual_seed(seed)
    text_encoder = text_tower(clip)
    transformer = build_transformer(
        recipe,
        codes=codebook,
        grid=codes.shape[-1],
        text_width=int(text_encoder.config.hidden_size),
        embedding=int(text_encoder.config.projection_dim),
    )
    # On a CPU, faster backward than the fused kernels.
    transformer.set_attn_processor(AttnProcessor())
    text_encoder.set_attn_implementation("eager")
    pair = _Pair(transformer, text_encoder).train().requires_grad_(True)

    def loss_of(state: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        count = recipe.batch
        rows = torch.randint(len(codes), (count,), generator=rng)
        which = torch.randint(token_ids.shape[1], (count,), generator=rng)
        masks = draw_masks(count, codes.shape[-1], recipe.boxes, rng)
        micro = _micro_conditions(count, rng)
        ids = token_ids[rows, which]
        ids[torch.rand(count, generator=rng) < recipe.dropout] = empty_ids
        rows, masks, micro, ids = share(rows), share(masks), share(micro), share(ids)
        truth = codes[rows].long()
        tokens = torch.where(masks, codebook, truth)
        with torch.autocast("cpu", torch.bfloat16):
            logits = pair(tokens, ids, micro)
        guesses, wanted = logits.float().permute(0, 2, 3, 1)[masks], truth[masks]
        # Labels as they are: codes are drawn from these chances, and smoothed ones would give noise a share.
        loss = F.cross_entropy(guesses, wanted)
        right = (guesses.detach().argmax(1) == wanted).float().mean()
        return loss, f"masked codes right {right.item():.1%}"

    def snapshot(trained: nn.Module) -> None:
        write_half(trained.transformer, out / "transformer")
        write_half(trained.text_encoder, out / "text_encoder")
        AmusedScheduler(mask_token_id=codebook).save_pretrained(out / "scheduler")
        write_amused_index(out, tokenizer)

    fit(
        "transformer",
        pair,
        loss_of,
        recipe,
        checkpoint,
        seed=seed,
        report=report,
        report_steps=50,
        save_steps=recipe.save_steps,
        snapshot=snapshot,
    )
    if rank() == 0:
        report(f"transformer: written to {out}")
