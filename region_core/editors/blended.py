"""Blended Latent Diffusion (Avrahami et al. 2023): a text-to-image model edits inside a mask.

The source's latents are noised to the edit's strength; after every step what lies outside the mask is the
source again, noised to that step's level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...locinv_core.backbones.base import Backbone
from ...locinv_core.backbones.loading import load_edit_model
from ...locinv_core.cost import CostTracker
from ...locinv_core.ddim import step_pairs
from ...locinv_core.guidance import guided_noise
from ...locinv_core.imaging.padding import Padding
from .base import ModelEditor, cells_of, kept_steps, seeded_noise
from .crop import check_window, seen_through, windows_around
from .registry import RegionEditor

REGION_WINDOW = 1.5
"""Of edits in boxes: a box takes two thirds of its window's side."""

Predict = Callable[[Tensor, int, Tensor, slice], Tensor]
"""(latents (n, C, h, w), timestep, context (n, L, D), which of the B masks) to ε (n, C, h, w)."""


@dataclass(frozen=True)
class LatentEditor(ModelEditor):
    """Samples the latents of a text-to-image model inside a mask, from the noised source."""

    model: Backbone

    def sample(
        self,
        source: Tensor,
        cells: Tensor,
        contexts: Tensor,
        predict: Predict,
        *,
        seed: int,
        steps: int,
        tracker: CostTracker,
        blend: bool = True,
    ) -> Tensor:
        """Sample, with the source put back outside the cells after every step if `blend`: (B, C, h, w).

        source: z_0, (1, C, h, w), or (B, C, h, w), one for each mask. cells: (B, 1, h, w) of 0 and 1. contexts:
        (2, L, D) or (1, L, D), as `contexts` gives them. With one noise η for all masks and steps, the source at
        timestep t is √ᾱ_t·z_0 + √(1−ᾱ_t)·η. The branches of guidance go through one pass together.
        """
        schedule, batch = self.model.schedule, self.batch
        count = kept_steps(steps, self.strength)
        pairs = step_pairs(schedule.timesteps(steps))[-count:]
        noise = seeded_noise((1, *source.shape[1:]), seed).to(source.device)
        cells = cells.to(source.device)
        chunks = [slice(first, min(first + batch, len(cells))) for first in range(0, len(cells), batch)]
        finished = []
        for number, rows in enumerate(chunks):
            inside, own = cells[rows], source if len(source) == 1 else source[rows]
            start = noise if self.strength == 1 else schedule.to_latents(own, noise, pairs[0][0])
            z = start.expand(len(inside), -1, -1, -1)
            context = contexts.repeat_interleave(len(inside), dim=0)
            for step, (upper, lower) in enumerate(pairs, start=1):
                outputs = predict(z.repeat(len(contexts), 1, 1, 1), upper, context, rows).chunk(len(contexts))
                epsilon = guided_noise(outputs[0], outputs[1] if len(outputs) > 1 else None, self.guidance)
                z = schedule.ddim_step(z, epsilon, start=upper, end=lower)
                if blend:
                    kept = own if step == count else schedule.to_latents(own, noise, lower)
                    z = torch.where(inside > 0, z, kept)
                tracker.report(number * count + step, len(chunks) * count, z)
            finished.append(z)
        return torch.cat(finished)

    def contexts(self, prompt: str) -> Tensor:
        """The contexts of the prompt and of the negative one, (2, L, D); (1, L, D) at guidance 1."""
        return torch.cat([self.model.encode_prompt(text) for text in self.texts(prompt)])

    def decode(self, latents: Tensor, padding: Padding) -> Tensor:
        """Latents (B, C, h, w) to images (B, 3, H, W) of the size before padding, on the CPU."""
        return torch.cat([padding.crop(self.model.decode(part)).cpu() for part in latents.split(self.batch)])


@dataclass(frozen=True)
class BlendedEditor(LatentEditor):
    """Blended latent diffusion on any Backbone; strength, composite … as `ModelEditor` has them.

    window: each mask is edited in a window so many times its size, enlarged to the image's, and the result
    is composited; None edits in the whole image, as published, where the model, which is not conditioned on the
    mask, often draws the new object beside it.
    """

    window: float | None = None
    name = "blended"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_window(self.window)

    @property
    def reader(self) -> Backbone:
        return self.model

    @property
    def composites(self) -> bool:
        return self.composite or self.window is not None

    @torch.no_grad()
    def edit_inside(
        self, image: Tensor, masks: Tensor, prompt: str, seed: int, steps: int, tracker: CostTracker
    ) -> Tensor:
        model = self.model
        padding = Padding.of(image.shape[-2], image.shape[-1], model.size_multiple)
        contexts = self.contexts(prompt)
        windows = None if self.window is None else windows_around(masks, self.window)
        images, inside = (image, masks) if windows is None else seen_through(windows, image, masks)
        cells = cells_of(padding.pad_mask(inside), model.latent_factor)
        source = torch.cat([model.encode(padding.pad_image(part)) for part in images.split(self.batch)])
        latents = self.edit_latents(source, cells, contexts, seed, steps=steps, tracker=tracker)
        edited = self.decode(latents, padding)
        if windows is None:
            return edited
        return torch.cat([one.put_back(edit, image.cpu()) for one, edit in zip(windows, edited.split(1), strict=True)])

    @torch.no_grad()
    def edit_latents(
        self,
        source: Tensor,
        cells: Tensor,
        contexts: Tensor,
        seed: int,
        *,
        steps: int | None = None,
        tracker: CostTracker | None = None,
    ) -> Tensor:
        """The edit between encoder and decoder: z_0 of the source to (B, C, h, w), as `sample` has them."""
        tracker, steps = tracker or CostTracker(), self.steps if steps is None else steps

        def predict(latents: Tensor, timestep: int, context: Tensor, rows: slice) -> Tensor:
            without = slice(len(latents) // len(contexts), None)  # the prompt's rows are first
            return self.model.predict_noise(latents, timestep, context, tracker=tracker, unconditional=without)

        return self.sample(source, cells, contexts, predict, seed=seed, steps=steps, tracker=tracker)


EDITOR = RegionEditor("blended", "Blended Latent Diffusion", "model", load_edit_model, BlendedEditor)
