"""Training a small InstructPix2Pix on pairs of scenes (Brooks et al. 2023, §3.2), from a text-to-image model.

The UNet's first layer is widened by zeros for the image's latents, so it begins as the model that draws.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from ..training.fitting import Run
from ..training.recipe import InstructRecipe
from ..training.workers import share
from .diffusion import Batch, export_diffusion, train_noise_prediction


@dataclass(frozen=True, eq=False)
class InstructedLatents:
    """The training set of edits by order.

    Attributes:
        latents: (N, 2, C, h, w), before and after an edit, unit deviation. scaling: what they were multiplied by.
        ids: (N, V, L), tokens of V wordings of the order. empty: (L,), of the empty order.
    """

    latents: Tensor
    scaling: float
    ids: Tensor
    empty: Tensor

    def draw(self, recipe: InstructRecipe, rng: torch.Generator) -> Batch:
        """A step's batch: latents after the edit and beside them, unscaled, those before it."""
        rows = torch.randint(len(self.latents), (recipe.batch,), generator=rng)
        which = torch.randint(self.ids.shape[1], (recipe.batch,), generator=rng)
        noise = torch.randn(recipe.batch, *self.latents.shape[2:], generator=rng)
        before, after = self.latents[rows].float().unbind(dim=1)
        ids = self.ids[rows, which]
        beside, ids = drop_conditions(before / self.scaling, ids, self.empty, recipe.dropout, rng)
        return Batch(share(after), share(noise), share(ids), (share(beside),))


def widened(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """The UNet with as many input channels again, whose weights are zero: it predicts what it did before."""
    channels = int(unet.config.in_channels)
    wide: UNet2DConditionModel = UNet2DConditionModel.from_config({**unet.config, "in_channels": 2 * channels})
    weights = dict(unet.state_dict())
    first = weights["conv_in.weight"]
    weights["conv_in.weight"] = torch.cat([first, torch.zeros_like(first)], dim=1)
    wide.load_state_dict(weights)
    return wide


def drop_conditions(
    beside: Tensor, ids: Tensor, empty: Tensor, share_of_each: float, rng: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Images' latents (B, C, h, w) and token ids (B, L) with some of them left out: no order in the first
    share of the draws, no image in the second, neither in the third."""
    drawn = torch.rand(len(ids), generator=rng)
    no_text = (drawn < share_of_each) | ((drawn >= 2 * share_of_each) & (drawn < 3 * share_of_each))
    no_image = (drawn >= share_of_each) & (drawn < 3 * share_of_each)
    ids = torch.where(no_text[:, None], empty, ids)
    return torch.where(no_image.view(-1, 1, 1, 1), 0.0, beside), ids


def train_instruct(data: InstructedLatents, recipe: InstructRecipe, run: Run) -> None:
    """Train from the text-to-image model in the run's ``start``; VAE and tokenizer are written as they are there."""
    start, out = run.start, run.out
    assert start is not None
    torch.manual_seed(run.seed)
    unet = widened(UNet2DConditionModel.from_pretrained(start / "unet", torch_dtype=torch.float32))
    text_encoder = CLIPTextModel.from_pretrained(start / "text_encoder", torch_dtype=torch.float32)

    def export(unet: UNet2DConditionModel, text_encoder: CLIPTextModel) -> None:
        export_diffusion(unet, text_encoder, out, "StableDiffusionInstructPix2PixPipeline")
        for part in ("vae", "tokenizer"):
            shutil.copytree(start / part, out / part, dirs_exist_ok=True)

    train_noise_prediction("instruct", unet, text_encoder, data.draw, recipe, run, export)
