"""Blended Latent Diffusion (Avrahami et al. 2023): a text-to-image model edits inside a mask.

The source's latents are noised to the edit's strength; after every step what lies outside the mask is the
source again, noised to that step's level.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...locinv_core.backbones.loading import load_edit_model
from ...locinv_core.backbones.stable_diffusion import EditModel
from ...locinv_core.cost import CostTracker
from ...locinv_core.ddim import step_pairs
from ...locinv_core.guidance import check_guidance, guided_noise
from ...locinv_core.imaging.padding import Padding
from ...locinv_core.text.prompt import empty_prompt, parse_prompt
from .base import (
    ModelEditor,
    cells_of,
    check_batch,
    check_request,
    check_strength,
    keep_outside,
    kept_steps,
    seeded_noise,
)
from .crop import check_window, seen_through, windows_around
from .registry import RegionEditor

REGION_WINDOW = 1.5
"""Of edits in boxes: a box takes two thirds of its window's side."""

Predict = Callable[[Tensor, int, Tensor, slice], Tensor]
"""(latents (n, C, h, w), timestep, context (n, L, D), which of the B masks) to ε (n, C, h, w)."""


@dataclass(frozen=True)
class BlendedEditor(ModelEditor):
    """Blended latent diffusion on any EditModel; a step costs two passes a mask, one at guidance 1.

    strength: the share of the schedule that is run; at 1 the edit starts from noise alone.
    composite: outside the mask the result is the image bit for bit, not its reconstruction by the VAE;
    the seam is softened over `feather` pixels. batch: masks edited at a time, which bounds the memory.
    window: each mask is edited in a window so many times its size, enlarged to the image's, and the result
    is composited; None edits in the whole image, as published. The model cannot see the mask: in the whole
    image it draws the new object wherever the image has room for it, and the mask often gets a part of it
    or none.
    """

    model: EditModel
    strength: float = 0.75
    guidance: float = 7.5
    steps: int = 50
    negative: str = ""
    composite: bool = False
    feather: float = 2.0
    batch: int = 8
    window: float | None = None
    name = "blended"

    def __post_init__(self) -> None:
        check_strength(self.strength)
        check_guidance(self.guidance)
        check_batch(self.batch)
        check_window(self.window)
        self.model.schedule.timesteps(self.steps)

    @property
    def reader(self) -> EditModel:
        """The model, which is a text-to-image model."""
        return self.model

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
        model, steps = self.model, self.steps if steps is None else steps
        model.schedule.timesteps(steps)
        framing = Padding.of(image.shape[-2], image.shape[-1], model.size_multiple)
        contexts = prompt_contexts(model, prompt, self.negative, self.guidance)
        windows = None if self.window is None else windows_around(masks, self.window)
        images, inside = (image, masks) if windows is None else seen_through(windows, image, masks)
        cells = cells_of(framing.pad_mask(inside), model.latent_factor)
        source = torch.cat([model.encode(framing.pad_image(part)) for part in images.split(self.batch)])
        latents = self.edit_latents(source, cells, contexts, seed, steps=steps, tracker=tracker)
        edited = decode_framed(model, latents, framing, self.batch)
        if windows is not None:
            pairs = zip(windows, edited, strict=True)
            edited = torch.cat([window.put_back(one[None], image.cpu()) for window, one in pairs])
        composite = self.composite or windows is not None
        return keep_outside(image.cpu(), edited, masks.cpu(), self.feather) if composite else edited

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
        """The edit between encoder and decoder: z_0 of the source to (B, C, h, w).

        source: (1, C, h, w), or (B, C, h, w), one for each of the cells (B, 1, h, w) of 0 and 1.
        contexts: as `prompt_contexts` gives them.
        """
        tracker = tracker or CostTracker()

        def predict(latents: Tensor, timestep: int, context: Tensor, rows: slice) -> Tensor:
            return self.model.predict_noise(latents, timestep, context, tracker=tracker)

        return sample_blended(
            self.model,
            source,
            cells,
            contexts,
            predict,
            strength=self.strength,
            guidance=self.guidance,
            steps=self.steps if steps is None else steps,
            seed=seed,
            batch=self.batch,
            tracker=tracker,
        )


def prompt_contexts(model: EditModel, prompt: str, negative: str, guidance: float) -> Tensor:
    """Contexts (2, L, D): of the prompt and of the negative; the prompt's alone, (1, L, D), at guidance 1.

    Raises ValueError for an empty prompt and for a text of more tokens than the encoder reads.
    """
    texts = [parse_prompt(prompt, model.tokenizer)]
    if guidance != 1:
        unconditional = parse_prompt(negative, model.tokenizer) if negative.strip() else None
        texts.append(unconditional or empty_prompt(model.tokenizer))
    return torch.cat([model.encode_prompt(text.token_ids) for text in texts])


def sample_blended(
    model: EditModel,
    source: Tensor,
    cells: Tensor,
    contexts: Tensor,
    predict: Predict,
    *,
    strength: float,
    guidance: float,
    steps: int,
    seed: int,
    batch: int,
    tracker: CostTracker,
    blend: bool = True,
) -> Tensor:
    """Sample from the noised source, the source put back outside the cells after every step: (B, C, h, w).

    source: (1, C, h, w), or (B, C, h, w), one for each mask. cells: (B, 1, h, w).
    With one noise η for all masks and steps, the source at timestep t is √ᾱ_t·z_0 + √(1−ᾱ_t)·η. The branches
    of guidance, contexts[0] and contexts[1], go through one pass together.
    """
    schedule = model.schedule
    count = kept_steps(steps, strength)
    pairs = step_pairs(schedule.timesteps(steps))[-count:]
    noise = seeded_noise((1, *source.shape[1:]), seed).to(source.device)
    cells = cells.to(source.device)
    chunks = [slice(first, min(first + batch, len(cells))) for first in range(0, len(cells), batch)]
    finished = []
    for number, rows in enumerate(chunks):
        inside, own = cells[rows], source if len(source) == 1 else source[rows]
        start = noise if strength == 1 else schedule.to_latents(own, noise, pairs[0][0])
        z = start.expand(len(inside), -1, -1, -1)
        context = contexts.repeat_interleave(len(inside), dim=0)
        for step, (upper, lower) in enumerate(pairs, start=1):
            outputs = predict(z.repeat(len(contexts), 1, 1, 1), upper, context, rows).chunk(len(contexts))
            epsilon = guided_noise(outputs[0], outputs[1] if len(outputs) > 1 else None, guidance)
            z = schedule.ddim_step(z, epsilon, start=upper, end=lower)
            if blend:
                kept = own if step == count else schedule.to_latents(own, noise, lower)
                z = torch.where(inside > 0, z, kept)
            tracker.report(number * count + step, len(chunks) * count, z)
        finished.append(z)
    return torch.cat(finished)


def decode_framed(model: EditModel, latents: Tensor, framing: Padding, batch: int) -> Tensor:
    """Latents (B, C, h, w) to images (B, 3, H, W) of the framed image's own size, on the CPU."""
    return torch.cat([framing.crop(model.decode(part)).cpu() for part in latents.split(batch)])


EDITOR = RegionEditor("blended", "Blended Latent Diffusion", "model", load_edit_model, BlendedEditor)
