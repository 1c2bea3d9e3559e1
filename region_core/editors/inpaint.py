"""Stable Diffusion inpainting: a UNet that reads the mask and the masked image beside the latents.

With 4 latent channels it has 9 input channels: latents, mask, latents of the image without the masked part.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from ...locinv_core.backbones import diffusers_folder as parts
from ...locinv_core.backbones.loading import EMBEDDED, resolve_device, resolve_dtype
from ...locinv_core.backbones.stable_diffusion import EditModel
from ...locinv_core.cost import CostTracker
from ...locinv_core.guidance import check_guidance
from ...locinv_core.imaging.padding import Padding
from .base import ModelEditor, cells_of, check_batch, check_request, check_strength, keep_outside
from .blended import decode_framed, prompt_contexts, sample_blended
from .registry import RegionEditor

HOLE = 0.5
"""The grey that the masked part is painted with before it is encoded: 0 in the VAE's range of −1 to 1."""


@dataclass(frozen=True)
class InpaintEditor(ModelEditor):
    """SD inpainting; a step costs two passes a mask, one at guidance 1.

    model: an EditModel whose UNet reads 2·C + 1 channels, C being those of its latents; `load_inpaint_model`
    opens one. strength, composite, feather, batch: as in `BlendedEditor`.
    blend: put the source's latents back outside the mask after every step, which the UNet alone only learned
    to imitate; without it this is diffusers' own inpainting.
    Raises ValueError for another UNet.
    """

    model: EditModel
    strength: float = 0.75
    guidance: float = 7.5
    steps: int = 50
    negative: str = ""
    blend: bool = True
    composite: bool = False
    feather: float = 2.0
    batch: int = 8
    name = "inpaint"

    def __post_init__(self) -> None:
        unet, vae = self.model.unet.config, self.model.vae.config
        refuse_other_unet(unet.in_channels, vae.latent_channels, f"editor inpaint, model {self.model.name!r}")
        check_strength(self.strength)
        check_guidance(self.guidance)
        check_batch(self.batch)
        self.model.schedule.timesteps(self.steps)

    @torch.no_grad()
    def edit(
        self,
        image: Tensor,
        masks: Tensor,
        prompt: str,
        seed: int,
        *,
        steps: int | None = None,
        tracker: CostTracker | None = None,
    ) -> Tensor:
        """Edit `image` inside each of the masks, as `Editor.edit` says."""
        check_request(image, masks)
        tracker = tracker or CostTracker()
        model, steps = self.model, self.steps if steps is None else steps
        model.schedule.timesteps(steps)
        contexts = prompt_contexts(model, prompt, self.negative, self.guidance)
        framing = Padding.of(image.shape[-2], image.shape[-1], model.size_multiple)
        picture, inside = framing.pad_image(image), framing.pad_mask(masks)
        source = model.encode(picture)
        cells = cells_of(inside, model.latent_factor).to(source.device)
        condition = torch.cat([cells, self._encode_outside(picture, inside)], dim=1)
        # The door to the UNet counts the pass; what comes out is read here, where the latents are known apart
        # from the channels beside them.
        raw = replace(model, schedule=replace(model.schedule, prediction_type="epsilon"))

        def predict(latents: Tensor, timestep: int, context: Tensor, rows: slice) -> Tensor:
            seen = condition[rows].repeat(len(latents) // len(condition[rows]), 1, 1, 1)
            output = raw.predict_noise(torch.cat([latents, seen], dim=1), timestep, context, tracker=tracker)
            return model.schedule.noise_from_output(output, latents, timestep)

        latents = sample_blended(
            model,
            source,
            cells,
            contexts,
            predict,
            strength=self.strength,
            guidance=self.guidance,
            steps=steps,
            seed=seed,
            batch=self.batch,
            tracker=tracker,
            blend=self.blend,
        )
        edited = decode_framed(model, latents, framing, self.batch)
        return keep_outside(image.cpu(), edited, masks.cpu(), self.feather) if self.composite else edited

    def _encode_outside(self, picture: Tensor, masks: Tensor) -> Tensor:
        """Latents (B, C, h, w) of the image with each mask painted grey."""
        encoded = []
        for part in masks.split(self.batch):
            encoded.append(self.model.encode(torch.where(part > 0, HOLE, picture)))
        return torch.cat(encoded)


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
