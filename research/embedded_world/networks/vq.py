"""Training the embedded autoencoder with a codebook (VQ-VAE): images to codes at an eighth of the side.

Images are in [0, 1], as aMUSEd's are. It learns at first without its codebook; then the codebook is made from the
latents by k-means, and codes that nothing uses are moved to where latents lie.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from diffusers import VQModel
from einops import rearrange
from torch import Tensor

from ..scenes.views import look, mirrored
from ..training.fitting import Run, fit
from ..training.recipe import VqRecipe
from ..training.state import TrainingState
from ..training.workers import share
from .exporting import write_half
from .vae import plain_convolutions


def build_vq(recipe: VqRecipe) -> VQModel:
    """A new autoencoder of the recipe's shape."""
    return VQModel(num_vq_embeddings=recipe.codes, lookup_from_codebook=True, **plain_convolutions(recipe))


def vq_loss(decoded: Tensor, target: Tensor, edges: float) -> Tensor:
    """L1 + MSE + ``edges`` * (L1 of horizontal and vertical differences); (B, 3, H, W) in [0, 1].

    The terms of ``vae.decoding_loss``, in the order in which the shipped weights were trained.
    """
    error = decoded - target
    whole = error.abs().mean() + error.square().mean()
    return whole + edges * (error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean())


def k_means(points: Tensor, count: int, rng: torch.Generator, *, rounds: int = 10) -> Tensor:
    """``count`` centres (count, d) of points (N, d), by Lloyd's iterations from random points."""
    picked = torch.randperm(len(points), generator=rng)[:count]
    centres = points[picked if len(picked) == count else torch.randint(len(points), (count,), generator=rng)].clone()
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(dim=1)
        sums = torch.zeros_like(centres).index_add_(0, nearest, points)
        sizes = torch.bincount(nearest, minlength=count)
        found = sizes > 0
        centres[found] = sums[found] / sizes[found, None]
    return centres


@torch.no_grad()
def _latents(model: VQModel, images: Tensor) -> Tensor:
    """All latents of images (B, 3, H, W) uint8 as points (B * h * w, d)."""
    with torch.autocast("cpu", torch.bfloat16):
        latents = model.encode(images.float() / 255).latents
    return rearrange(latents.float(), "b d h w -> (b h w) d")


@torch.no_grad()
def _renew(model: VQModel, state: TrainingState, images: Tensor, rng: torch.Generator, fresh: bool) -> int:
    """Make the codebook anew, or only move the codes that no latent of ``images`` is nearest to, in every worker alike.

    Returns how many codes were in use before.
    """
    points = _latents(model, images)
    book, kept = model.quantize.embedding.weight, state.average.tensors["quantize.embedding.weight"]
    used = torch.bincount(torch.cdist(points, book).argmin(dim=1), minlength=len(book)) > 0
    if fresh:
        book.copy_(k_means(points, len(book), rng))
        kept.copy_(book)
    elif not bool(used.all()):
        lost = int((~used).sum())
        book[~used] = points[torch.randint(len(points), (lost,), generator=rng)]
        kept[~used] = book[~used]
    return int(used.sum())


def train_vq(images: Tensor, recipe: VqRecipe, run: Run) -> None:
    """Train on images (N, 3, H, W) uint8."""
    torch.manual_seed(run.seed)
    model = build_vq(recipe).train()
    in_use = 0

    def loss_of(state: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        nonlocal in_use
        rows = torch.randint(len(images), (recipe.batch,), generator=rng)
        span = torch.tensor([images.shape[-1], images.shape[-2]]) - recipe.crop
        corner = (torch.rand(recipe.batch, 2, generator=rng) * (span + 1)).floor()
        mirror = torch.rand(recipe.batch, generator=rng) < 0.5
        quantized = state.step >= recipe.free_steps
        since = state.step - recipe.free_steps
        settled = state.step > recipe.settle * recipe.steps
        if quantized and since % recipe.renew_steps == 0 and (since == 0 or not settled):
            probe = torch.randint(len(images), (recipe.probe,), generator=rng)
            in_use = _renew(model, state, images[probe], rng, fresh=since == 0)
        windows = share(torch.cat([corner, corner + recipe.crop], dim=1))
        seen = look(images[share(rows)], windows, recipe.crop)
        target = mirrored(seen, share(mirror))
        with torch.autocast("cpu", torch.bfloat16):
            latents = model.encode(target).latents
        latents, commitment = latents.float(), torch.zeros(())
        if quantized:
            latents, commitment, _ = model.quantize(latents)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = model.decoder(model.post_quant_conv(latents)).float()
        loss = vq_loss(decoded, target, recipe.edges) + recipe.commitment * commitment
        psnr = -10 * torch.log10(F.mse_loss(decoded.detach(), target))
        figures = f"crop PSNR {psnr.item():.2f} quantizer {commitment.item():.4f}"
        return loss, f"{figures} codes in use {in_use}"

    fit("vq", model, loss_of, recipe, run, snapshot=partial(write_half, folder=run.out))


@torch.no_grad()
def encode_codes(model: VQModel, images: Tensor, *, batch: int = 32) -> Tensor:
    """The codes (N, h, w) int64 of images (N, 3, H, W) uint8."""
    codes = []
    for part in images.split(batch):
        latents = model.encode(part.to(model.dtype) / 255).latents
        _, _, (_, _, nearest) = model.quantize(latents)
        codes.append(nearest.view(len(part), *latents.shape[-2:]))
    return torch.cat(codes)


@torch.no_grad()
def decode_codes(model: VQModel, codes: Tensor, *, batch: int = 32) -> Tensor:
    """Images (N, 3, H, W) in [0, 1] of codes (N, h, w)."""
    images = []
    for part in codes.split(batch):
        shape = (*part.shape, int(model.config.latent_channels))
        decoded = model.decode(part, force_not_quantize=True, shape=shape).sample
        images.append(decoded.float().clamp(0, 1))
    return torch.cat(images)


def reconstructed(model: VQModel, images: Tensor) -> Tensor:
    """Images (N, 3, H, W) uint8 through their codes and back: (N, 3, H, W) in [0, 1]."""
    return decode_codes(model, encode_codes(model, images))
