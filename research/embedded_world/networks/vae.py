"""Training the embedded autoencoder: images to latents at an eighth of the side, and back.

The decoder alone may be trained further at any time: the latents stay, and what a UNet has learned of them.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ..scenes.spec import SIDE
from ..scenes.views import mirrored
from ..training.fitting import Run, fit
from ..training.recipe import AutoencoderRecipe, DecoderRecipe, VaeRecipe
from ..training.state import TrainingState
from ..training.workers import share


def plain_convolutions(recipe: AutoencoderRecipe) -> dict[str, Any]:
    """The settings that the autoencoders share in diffusers: convolutions alone, one block a level."""
    levels = len(recipe.channels)
    return {
        "block_out_channels": recipe.channels,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "layers_per_block": 1,
        "latent_channels": recipe.latents,
        "norm_num_groups": recipe.groups,
        "mid_block_add_attention": False,
        "sample_size": SIDE,
    }


def build_vae(recipe: VaeRecipe) -> AutoencoderKL:
    """A new autoencoder of the recipe's shape."""
    return AutoencoderKL(in_channels=3, out_channels=3, scaling_factor=1.0, **plain_convolutions(recipe))


def vae_loss(decoded: Tensor, target: Tensor, mean: Tensor, logvar: Tensor, recipe: VaeRecipe) -> Tensor:
    """L1 + MSE + ``edges`` * (L1 of horizontal and vertical differences) + ``kl`` * KL to N(0, 1).

    ``decoded``, ``target``: (B, 3, H, W) in [-1, 1]; ``mean``, ``logvar``: (B, C, h, w); the KL is summed over these.
    """
    divergence = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).sum(dim=(1, 2, 3)).mean()
    return decoding_loss(decoded, target, recipe.edges) + recipe.kl * divergence


def decoding_loss(decoded: Tensor, target: Tensor, edges: float) -> Tensor:
    """L1 + MSE + ``edges`` * (L1 of horizontal and vertical differences) of images (B, 3, H, W)."""
    error = decoded - target
    of_edges = error.diff(dim=2).abs().mean() + error.diff(dim=3).abs().mean()
    return error.abs().mean() + error.square().mean() + edges * of_edges


def random_crops(images: Tensor, count: int, side: int, rng: torch.Generator) -> Tensor:
    """``count`` square crops of images (N, 3, H, W) uint8, half of them mirrored.

    Returns (count, 3, side, side), float in [-1, 1].
    """
    ranges = len(images), images.shape[2] - side + 1, images.shape[3] - side + 1
    corners = torch.stack([torch.randint(most, (count,), generator=rng) for most in ranges], dim=1)
    crops = torch.stack([images[row, :, y : y + side, x : x + side] for row, y, x in corners.tolist()])
    return mirrored(crops, torch.rand(count, generator=rng) < 0.5).float() / 127.5 - 1


def train_vae(images: Tensor, recipe: VaeRecipe, run: Run) -> AutoencoderKL:
    """Train on images (N, 3, H, W) uint8; the averaged model, which is not written."""
    torch.manual_seed(run.seed)
    vae = build_vae(recipe).train()
    side = recipe.crop // recipe.factor

    def loss_of(_: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        batch = share(random_crops(images, recipe.batch, recipe.crop, rng))
        noise = torch.randn(recipe.batch, recipe.latents, side, side, generator=rng)
        with torch.autocast("cpu", torch.bfloat16):
            moments = vae.quant_conv(vae.encoder(batch))
            mean, logvar = moments.float().chunk(2, dim=1)
            logvar = logvar.clamp(-30, 20)
            latents = mean + (0.5 * logvar).exp() * share(noise)
            decoded = vae.decoder(vae.post_quant_conv(latents)).float()
        return vae_loss(decoded, batch, mean, logvar, recipe), f"crop PSNR {_psnr(decoded, batch):.2f}"

    trained = fit("vae", vae, loss_of, recipe, run)
    assert isinstance(trained, AutoencoderKL)
    return trained


def train_decoder(
    vae: AutoencoderKL,
    latents: Tensor,
    images: Tensor,
    recipe: DecoderRecipe,
    run: Run,
    snapshot: Callable[[], None],
) -> None:
    """Train the decoder of ``vae`` on, in place: scaled latents (N, C, h, w) to images (N, 3, H, W) uint8.

    ``snapshot`` is called at every checkpoint, with the averaged decoder in ``vae``.
    """
    half = nn.ModuleDict({"post_quant_conv": vae.post_quant_conv, "decoder": vae.decoder})
    half = copy.deepcopy(half).float().train().requires_grad_(True)
    half.to(memory_format=torch.channels_last)
    decode = nn.Sequential(half["post_quant_conv"], half["decoder"])
    factor = vae.config.scaling_factor

    def loss_of(_: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        rows = torch.randint(len(images), (recipe.batch,), generator=rng)
        amounts = recipe.noise * torch.rand(recipe.batch, 1, 1, 1, generator=rng)
        noise = amounts * torch.randn(recipe.batch, *latents.shape[1:], generator=rng)
        batch = share(images[rows]).float() / 127.5 - 1
        with torch.autocast("cpu", torch.bfloat16):
            decoded = decode((share(latents[rows]).float() + share(noise)) / factor).float()
        return decoding_loss(decoded, batch, recipe.edges), f"PSNR {_psnr(decoded, batch):.2f}"

    def take_over(trained: nn.Module) -> None:
        vae.post_quant_conv.load_state_dict(trained.get_submodule("post_quant_conv").state_dict())
        vae.decoder.load_state_dict(trained.get_submodule("decoder").state_dict())

    def keep(trained: nn.Module) -> None:
        take_over(trained)
        snapshot()

    take_over(fit("decoder", half, loss_of, recipe, run, snapshot=keep))


def _psnr(decoded: Tensor, target: Tensor) -> float:
    """In dB, of images in [-1, 1]."""
    return float(-10 * torch.log10(F.mse_loss(decoded.detach(), target) / 4))


@torch.no_grad()
def encode_set(vae: AutoencoderKL, images: Tensor, *, batch: int = 32) -> Tensor:
    """Latent means of images (N, 3, H, W) uint8, unscaled: (N, C, h, w) float32."""
    latents = []
    for part in images.split(batch):
        with torch.autocast("cpu", torch.bfloat16):
            latents.append(vae.encode(part.float() / 127.5 - 1).latent_dist.mean.float())
    return torch.cat(latents)


def export_vae(vae: AutoencoderKL, folder: Path, scaling_factor: float) -> None:
    """Write the autoencoder in fp16, diffusers layout, with the factor that gives latents unit deviation."""
    shape = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    half = AutoencoderKL.from_config(shape | {"scaling_factor": round(scaling_factor, 5)})
    half.load_state_dict(vae.state_dict())
    half.half().save_pretrained(folder, safe_serialization=True)


@torch.no_grad()
def standardise_latents(vae: AutoencoderKL, latents: Tensor) -> float:
    """Give every latent channel mean 0 and one common deviation, by rewriting the two 1x1 convolutions.

    The images that it makes stay the same. ``latents``: (N, C, h, w), its means on training images. Returns the common
    deviation; its inverse is the scaling factor.
    """
    centre, spread = latents.mean(dim=(0, 2, 3)), latents.std(dim=(0, 2, 3))
    common = spread.square().mean().sqrt()
    factor = common / spread
    channels = len(centre)
    into, out = vae.quant_conv, vae.post_quant_conv
    out.bias += out.weight[:, :, 0, 0] @ centre
    out.weight /= factor.view(1, -1, 1, 1)
    into.weight[:channels] *= factor.view(-1, 1, 1, 1)
    into.bias[:channels] = (into.bias[:channels] - centre) * factor
    into.bias[channels:] += 2 * factor.log()
    return float(common)
