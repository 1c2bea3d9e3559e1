"""Training the embedded UNet and its text encoder, together, to predict the noise in latents from a caption.

The squared error of epsilon is weighted towards the noisy end; for guidance, a share of the captions is empty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from ..training.fitting import Run, fit
from ..training.recipe import DiffusionRecipe, InstructRecipe
from ..training.state import TrainingState
from ..training.workers import share
from .exporting import text_settings, write_half, write_index


def build_scheduler() -> DDIMScheduler:
    """Stable Diffusion's kind of schedule, with the betas of the first latent diffusion models.

    Its own 0.00085 to 0.012 leave so few latents a visible mean colour at the last step: the model would read the
    background there and not in the caption.
    """
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.0015,
        beta_end=0.0195,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type="epsilon",
        timestep_spacing="leading",
    )


def build_unet(recipe: DiffusionRecipe, latents: Sequence[int]) -> UNet2DConditionModel:
    """A new UNet for latents of shape (C, h, w): cross-attention at every level, heads of 32."""
    levels = len(recipe.channels)
    return UNet2DConditionModel(
        sample_size=latents[-1],
        in_channels=latents[0],
        out_channels=latents[0],
        block_out_channels=recipe.channels,
        down_block_types=("CrossAttnDownBlock2D",) * levels,
        up_block_types=("CrossAttnUpBlock2D",) * levels,
        layers_per_block=recipe.layers,
        attention_head_dim=tuple(max(1, channels // 32) for channels in recipe.channels),
        cross_attention_dim=recipe.width,
        norm_num_groups=recipe.groups,
    )


def build_text_encoder(recipe: DiffusionRecipe, *, vocabulary: int, length: int) -> CLIPTextModel:
    """A new CLIP text encoder."""
    settings = text_settings(recipe.width, recipe.depth, max(1, recipe.width // 32), vocabulary, length)
    return CLIPTextModel(CLIPTextConfig(**settings, projection_dim=recipe.width, initializer_factor=1.0))


def noise_weights(alpha_bar: Tensor, cap: float) -> Tensor:
    """SNR^(-1/2), at most ``cap``, with SNR = alpha_bar / (1 - alpha_bar): the weight of each epsilon error.

    What a caption says is decided where there is hardly any signal; plain errors would train the last touches.
    """
    return ((1 - alpha_bar) / alpha_bar).sqrt().clamp(max=cap)


def draw_timesteps(weights: Tensor, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """``count`` timesteps, evenly spread over the density sqrt(weight), and what is left of their weights.

    A loss with the returned factors has the expectation of one over even timesteps with ``weights``, up to a
    constant, and less variance. Returns (count,) int64 and (count,).
    """
    density = weights.double().sqrt()
    edges = density.cumsum(0) / density.sum()
    places = (torch.arange(count) + torch.rand(count, generator=rng)) / count
    timesteps = torch.searchsorted(edges, places.double()).clamp(max=len(weights) - 1)
    return timesteps, weights[timesteps].sqrt()


def draw_rows(objects: Tensor, crowd: float, count: int, rng: torch.Generator) -> Tensor:
    """``count`` of N images, each as likely as its number of ``objects`` (N,) to this power: int64."""
    return torch.multinomial(objects.double() ** crowd, count, replacement=True, generator=rng)


def noised(clean: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """√ᾱ·z_0 + √(1−ᾱ)·ε of latents (B, C, h, w) and their ᾱ (B,)."""
    level = alpha_bar.view(-1, 1, 1, 1)
    return level.sqrt() * clean + (1 - level).sqrt() * noise


def noise_loss(predicted: Tensor, noise: Tensor, factors: Tensor) -> Tensor:
    """The mean of ``factors`` (B,) times the squared errors of ε (B, C, h, w): ()."""
    return (factors * (predicted - noise).square().mean(dim=(1, 2, 3))).mean()


@dataclass(frozen=True, eq=False)
class Batch:
    """A worker's share of a batch: latents to predict the noise in, the noise, token ids of the texts, and the
    latents that the UNet reads beside the noisy ones, if any."""

    clean: Tensor
    noise: Tensor
    ids: Tensor
    beside: tuple[Tensor, ...] = ()


@dataclass(frozen=True, eq=False)
class CaptionedLatents:
    """The training set of text to image.

    Attributes:
        latents: (N, C, h, w), unit deviation. ids: (N, V, L), tokens of V captions an image.
        empty: (L,), of the empty caption. objects: (N,), how many each image shows.
    """

    latents: Tensor
    ids: Tensor
    empty: Tensor
    objects: Tensor

    def draw(self, recipe: DiffusionRecipe, rng: torch.Generator) -> Batch:
        """A step's batch."""
        count = recipe.batch
        rows = draw_rows(self.objects, recipe.crowd, count, rng)
        which = torch.randint(self.ids.shape[1], (count,), generator=rng)
        noise = torch.randn(count, *self.latents.shape[1:], generator=rng)
        ids = self.ids[rows, which]
        ids[torch.rand(count, generator=rng) < recipe.dropout] = self.empty
        return Batch(self.latents[share(rows)].float(), share(noise), share(ids))


def train_noise_prediction(
    name: str,
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    draw: Callable[[Any, torch.Generator], Batch],
    recipe: DiffusionRecipe | InstructRecipe,
    run: Run,
    export: Callable[[UNet2DConditionModel, CLIPTextModel], None],
) -> None:
    """Train both models on batches that ``draw`` makes by the recipe; ``export`` writes them."""
    unet.set_attn_processor(AttnProcessor())  # with few heads on a CPU, faster backward than the fused kernel
    text_encoder.set_attn_implementation("eager")
    alpha_bar = build_scheduler().alphas_cumprod
    weights = noise_weights(alpha_bar, recipe.weight_cap)

    def loss_of(state: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        timesteps, factors = (share(drawn) for drawn in draw_timesteps(weights, recipe.batch, rng))
        batch = draw(recipe, rng)
        seen = torch.cat([noised(batch.clean, batch.noise, alpha_bar[timesteps]), *batch.beside], dim=1)
        with torch.autocast("cpu", torch.bfloat16):
            context = text_encoder(batch.ids).last_hidden_state
            predicted = state.forward(seen, timesteps, encoder_hidden_states=context).sample.float()
        return noise_loss(predicted, batch.noise, factors), ""

    def snapshot(trained: nn.Module) -> None:
        export(trained.unet, trained.text_encoder)

    pair = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}).train()
    fit(name, pair, loss_of, recipe, run, snapshot=snapshot, worth_compiling=unet)


def train_diffusion(data: CaptionedLatents, recipe: DiffusionRecipe, run: Run, *, vocabulary: int) -> None:
    """Train from random weights, or as the run says where there is no checkpoint."""
    torch.manual_seed(run.seed)
    unet = build_unet(recipe, data.latents.shape[1:])
    text_encoder = build_text_encoder(recipe, vocabulary=vocabulary, length=data.ids.shape[-1])
    if run.start is not None and not run.checkpoint.exists():
        for model, part in ((unet, "unet"), (text_encoder, "text_encoder")):
            known = type(model).from_pretrained(run.start / part, torch_dtype=torch.float32)
            model.load_state_dict(known.state_dict())
        run.report(f"unet: starting from the weights in {run.start}")
    export = partial(export_diffusion, folder=run.out)
    train_noise_prediction("unet", unet, text_encoder, data.draw, recipe, run, export)


def export_diffusion(
    unet: UNet2DConditionModel,
    text_encoder: CLIPTextModel,
    folder: Path,
    pipeline: str = "StableDiffusionPipeline",
) -> None:
    """Write UNet, text encoder and scheduler, weights in fp16, and the index of the folder, with a VAE and a
    tokenizer beside them, as one of diffusers' pipelines."""
    write_half(unet, folder / "unet")
    write_half(text_encoder, folder / "text_encoder")
    build_scheduler().save_pretrained(folder / "scheduler")
    parts = {
        "scheduler": "diffusers.DDIMScheduler",
        "text_encoder": "transformers.CLIPTextModel",
        "tokenizer": "transformers.CLIPTokenizer",
        "unet": "diffusers.UNet2DConditionModel",
        "vae": "diffusers.AutoencoderKL",
    }
    none = {name: [None, None] for name in ("feature_extractor", "image_encoder", "safety_checker")}
    write_index(folder, pipeline, parts, requires_safety_checker=False, **none)
