"""Stable Diffusion inpainting: a UNet that reads the mask and the masked image beside the latents.

With 4 latent channels it has 9 input channels: latents, mask, latents of the image without the masked part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...locinv_core.backbones import diffusers_folder as parts
from ...locinv_core.backbones.base import require_diffusers
from ...locinv_core.backbones.loading import EMBEDDED, resolve_device, resolve_dtype
from ...locinv_core.backbones.stable_diffusion import EditModel
from ...locinv_core.cost import CostTracker
from ...locinv_core.imaging.padding import Padding
from .base import cells_of
from .blended import LatentEditor
from .registry import RegionEditor

HOLE = 0.5
"""The grey that the masked part is painted with before it is encoded: 0 in the VAE's range of −1 to 1."""


@dataclass(frozen=True)
class InpaintEditor(LatentEditor):
    """SD inpainting; strength, composite … as `ModelEditor` has them.

    model: an EditModel whose UNet reads 2·C + 1 channels, C being those of its latents; `load_inpaint_model`
    opens one. blend: put the source's latents back outside the mask after every step, which the UNet alone only
    learned to imitate; without it this is diffusers' own inpainting. Raises ValueError for another UNet.
    """

    blend: bool = True
    name = "inpaint"

    def __post_init__(self) -> None:
        model = require_diffusers(self.model, "inpaint")
        unet, vae = model.unet.config, model.vae.config
        refuse_other_unet(unet.in_channels, vae.latent_channels, f"editor inpaint, model {self.model.name!r}")
        super().__post_init__()

    @torch.no_grad()
    def edit_inside(
        self, image: Tensor, masks: Tensor, prompt: str, seed: int, steps: int, tracker: CostTracker
    ) -> Tensor:
        model, contexts = require_diffusers(self.model, "inpaint"), self.contexts(prompt)
        padding = Padding.of(image.shape[-2], image.shape[-1], model.size_multiple)
        padded, inside = padding.pad_image(image), padding.pad_mask(masks)
        source = model.encode(padded)
        cells = cells_of(inside, model.latent_factor).to(source.device)
        holed = [model.encode(torch.where(part > 0, HOLE, padded)) for part in inside.split(self.batch)]
        condition = torch.cat([cells, torch.cat(holed)], dim=1)
        # The only call site of the UNet counts the pass; its output is interpreted here, where the latents are
        # known apart from the channels beside them.
        raw = replace(model, schedule=replace(model.schedule, prediction_type="epsilon"))

        def predict(latents: Tensor, timestep: int, context: Tensor, rows: slice) -> Tensor:
            seen = condition[rows].repeat(len(latents) // len(condition[rows]), 1, 1, 1)
            output = raw.predict_noise(torch.cat([latents, seen], dim=1), timestep, context, tracker=tracker)
            return model.schedule.noise_from_output(output, latents, timestep)

        latents = self.sample(
            source, cells, contexts, predict, seed=seed, steps=steps, tracker=tracker, blend=self.blend
        )
        return self.decode(latents, padding)


def load_inpaint_model(folder: str | Path, *, device: str = "auto", dtype: str = "auto") -> EditModel:
    """An inpainting model in diffusers' folder layout, safetensors only.

    Raises ValueError for what is no such folder, and, before any weights are read, for a UNet that does not
    read a mask.
    """
    path = Path(folder).expanduser()
    where = f"editor inpaint, model {str(folder)!r}"
    if str(folder) == EMBEDDED:
        raise ValueError(
            f"{where}: the embedded model's UNet does not read a mask, requires the diffusers folder of an"
            " inpainting model (9 channels); the editors 'blended' and 'amused' work with 'embedded'"
        )
    if not str(folder) or not path.is_dir():
        raise ValueError(f"{where}: there is no such folder, requires the diffusers folder of an inpainting model")
    chosen_device = resolve_device(device)
    chosen_dtype = resolve_dtype(dtype, chosen_device)
    configs = parts.read_configs(path)
    refuse_other_unet(configs["unet"].get("in_channels", 4), configs["vae"].get("latent_channels", 4), where)
    with torch.inference_mode(False):
        return parts.open_parts(path, configs, chosen_device, chosen_dtype, where=where)


def refuse_other_unet(channels: int, latent_channels: int, where: str) -> None:
    """Raise ValueError unless the UNet reads latents, mask and masked latents: 2·C + 1 channels."""
    wanted = 2 * latent_channels + 1
    if channels != wanted:
        raise ValueError(f"{where}: its UNet reads {channels} channels, requires {wanted} (an inpainting model)")


EDITOR = RegionEditor("inpaint", "Stable Diffusion inpainting", "inpaint", load_inpaint_model, InpaintEditor)
