"""Training the embedded masked-token transformer (MaskGIT, Muse; aMUSEd in diffusers) and its text encoder.

It learns to name the masked codes of an image from the others and the caption. Of most images one object is masked,
as in editing inside a box, half of them under a caption that names nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AmusedScheduler, UVit2DModel
from diffusers.models.attention_processor import AttnProcessor
from einops import rearrange
from torch import Tensor, nn
from transformers import CLIPModel, CLIPTextModelWithProjection

from ..training.fitting import Run, fit
from ..training.recipe import TransformerRecipe
from ..training.state import TrainingState
from ..training.workers import share
from .exporting import copy_tokenizer, write_half, write_index

MICRO_CONDITIONS = (128.0, 128.0, 0.0, 0.0, 6.0)  # width, height, crop's corner, aesthetic score: as aMUSEd's
_PARTS = {
    "scheduler": "diffusers.AmusedScheduler",
    "text_encoder": "transformers.CLIPTextModelWithProjection",
    "tokenizer": "transformers.CLIPTokenizer",
    "transformer": "diffusers.UVit2DModel",
    "vqvae": "diffusers.VQModel",
}
_ENCODED = 2  # numbers that each of the micro conditions becomes
_MARGIN = 2  # most codes around an object that are masked with it


@dataclass(frozen=True, eq=False)
class Captions:
    """What the images of a training set show, in tokens.

    Attributes:
        whole: (N, V, L), V wordings of everything that an image shows. empty: (L,), the empty caption.
        alone: (N, T, L), of each of up to T objects, in its place, without the others.
        boxes: (N, T, 4), x0, y0, x1, y1 of the objects, as shares of the sides. objects: (N,), how many.
    """

    whole: Tensor
    empty: Tensor
    alone: Tensor
    boxes: Tensor
    objects: Tensor

    def draw(self, rows: Tensor, alone: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) and the box (B, 4) of one of its objects for each of ``rows`` (B,).

        alone: (B,) bool, whose tokens are of that object alone.
        """
        obj = (torch.rand(len(rows), generator=rng) * self.objects[rows]).long()
        wording = torch.randint(self.whole.shape[1], (len(rows),), generator=rng)
        ids = torch.where(alone[:, None], self.alone[rows, obj], self.whole[rows, wording])
        return ids, self.boxes[rows, obj]


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
    return _masked(_windows(start, start + sides, grid) | whole.view(-1, 1, 1), shares, rng)


def object_masks(boxes: Tensor, grid: int, rng: torch.Generator) -> Tensor:
    """As ``draw_masks``, each inside a box (B, 4) in shares of the sides: (B, grid, grid) bool.

    The codes that a box touches, and on each side by chance up to two more; of half of them all codes, which
    is how an editor begins, of the others a share by MaskGIT's schedule.
    """
    margins = torch.randint(_MARGIN + 1, boxes.shape, generator=rng)
    start = (boxes[:, :2] * grid).floor().long() - margins[:, :2]
    end = (boxes[:, 2:] * grid).ceil().long() + margins[:, 2:]
    shares = torch.cos(torch.rand(len(boxes), generator=rng) * math.pi / 2)
    shares[torch.rand(len(boxes), generator=rng) < 0.5] = 1.0
    return _masked(_windows(start, end, grid), shares, rng)


def _windows(start: Tensor, end: Tensor, grid: int) -> Tensor:
    """Boxes from ``start`` to ``end``, (B, 2) each, x and y, the ends exclusive: (B, grid, grid) bool."""
    places = torch.arange(grid)
    across, down = ((places >= start[:, k, None]) & (places < end[:, k, None]) for k in (0, 1))
    return down[:, :, None] & across[:, None, :]


def _masked(windows: Tensor, shares: Tensor, rng: torch.Generator) -> Tensor:
    """A share (B,) of the codes inside each window (B, h, w), at least one: (B, h, w) bool."""
    order = torch.rand(windows.shape, generator=rng).masked_fill(~windows, 2.0).flatten(1)
    masked = (shares * windows.flatten(1).sum(1)).ceil().long().clamp(min=1)
    ranks = order.argsort(dim=1).argsort(dim=1)
    return (ranks < masked[:, None]).view_as(windows)


class _Pair(nn.Module):
    """The two models that are trained, as one module."""

    def __init__(self, transformer: UVit2DModel, text_encoder: CLIPTextModelWithProjection) -> None:
        super().__init__()
        self.transformer, self.text_encoder = transformer, text_encoder

    def forward(self, tokens: Tensor, ids: Tensor, micro: Tensor) -> Tensor:
        """Logits (B, codes, h, w), conditioned as AmusedPipeline does it."""
        text = self.text_encoder(input_ids=ids, output_hidden_states=True)
        conditions = {"encoder_hidden_states": text.hidden_states[-2], "pooled_text_emb": text.text_embeds}
        return self.transformer(tokens, **conditions, micro_conds=micro)


def _micro_conditions(count: int, rng: torch.Generator) -> Tensor:
    """(count, 5): half of the rows the usual numbers, half others, so that they come to mean little."""
    usual = torch.tensor(MICRO_CONDITIONS).expand(count, -1)
    other = torch.rand(count, 5, generator=rng) * torch.tensor([512.0, 512.0, 64.0, 64.0, 10.0])
    return torch.where(torch.rand(count, 1, generator=rng) < 0.5, usual, other.round())


def train_transformer(
    codes: Tensor,
    captions: Captions,
    clip: CLIPModel,
    recipe: TransformerRecipe,
    run: Run,
    *,
    codebook: int,
    tokenizer: Path,
) -> None:
    """Train the transformer, and a text encoder that starts as CLIP's text tower.

    Args:
        codes: (N, h, h) of the training images.
        codebook: how many codes there are. tokenizer: the folder to copy it from.
    """
    out = run.out
    torch.manual_seed(run.seed)
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
        grid, of_object = codes.shape[-1], torch.rand(count, generator=rng) < recipe.objects
        alone = of_object & (torch.rand(count, generator=rng) < 0.5)
        ids, boxes = captions.draw(rows, alone, rng)
        ids[torch.rand(count, generator=rng) < recipe.dropout] = captions.empty
        inside, anywhere = object_masks(boxes, grid, rng), draw_masks(count, grid, recipe.boxes, rng)
        masks = torch.where(of_object.view(-1, 1, 1), inside, anywhere)
        micro = _micro_conditions(count, rng)
        rows, masks, micro, ids = share(rows), share(masks), share(micro), share(ids)
        truth = codes[rows].long()
        tokens = torch.where(masks, codebook, truth)
        with torch.autocast("cpu", torch.bfloat16):
            logits = state.forward(tokens, ids, micro)
        guesses, wanted = rearrange(logits.float(), "b codes h w -> b h w codes")[masks], truth[masks]
        # Labels as they are: codes are drawn from these chances, and smoothed ones would give noise a share.
        loss = F.cross_entropy(guesses, wanted)
        right = (guesses.detach().argmax(1) == wanted).float().mean()
        return loss, f"masked codes right {right.item():.1%}"

    def snapshot(trained: nn.Module) -> None:
        write_half(trained.transformer, out / "transformer")
        write_half(trained.text_encoder, out / "text_encoder")
        AmusedScheduler(mask_token_id=codebook).save_pretrained(out / "scheduler")
        copy_tokenizer(tokenizer, out / "tokenizer")
        write_index(out, "AmusedPipeline", _PARTS)

    fit("transformer", pair, loss_of, recipe, run, snapshot=snapshot, worth_compiling=pair)
