"""An inverted image: the latents z_0 … z_T, and what later stages add to them; and DDIM inversion."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..backbones.base import Backbone
from ..cost import CostTracker
from ..ddim import step_pairs
from ..options import NullMethod
from ..text.prompt import Prompt

SAME_IMAGE = 0.05
"""How far latents of one image encoded twice (in two dtypes, say) may be apart, of their magnitude."""


@dataclass(frozen=True)
class Inversion:
    """An image's way to noise, and what makes the way back end in the image.

    Step i = 0 … T−1 counts from the noisiest; it goes from `timesteps[i]` to the next one, and from
    `pivot(i)` to `pivot(i + 1)`.
    """

    latents: Tensor
    """(T+1, C, h, w) float32: z_0 (the image) … z_T (the noisiest)."""
    timesteps: tuple[int, ...]
    """(T,) descending."""
    prompt: Prompt
    """The source prompt."""
    fingerprint: str
    """Of the model that it belongs to."""
    token_positions: tuple[int, ...] = ()
    """(K,) positions in the source prompt of the tokens that were tuned."""
    token_vectors: Tensor | None = None
    """(T, K, D) float32: their input embeddings at every step; None if nothing was tuned."""
    null_method: NullMethod = "none"
    null_text: Tensor | None = None
    """(T, L, D) float32: the unconditional context of every step; only for `null-text`."""
    trajectory: Tensor | None = None
    """(T+1, C, h, w) float32, z̄_0 … z̄_T: the source branch as sampling replays it; only for `null-text`."""
    guidance: float | None = None
    """The guidance scale that null-text was optimised for."""

    @property
    def steps(self) -> int:
        """T."""
        return len(self.timesteps)

    @property
    def has_negative_prompt(self) -> bool:
        """Whether the unconditional branch has the source prompt: negative-prompt inversion, proximal or not."""
        return self.null_method in ("negative-prompt", "proximal")

    def pivot(self, step: int) -> Tensor:
        """z at the start of a step, (1, C, h, w): pivot(0) is z_T, pivot(T) is z_0."""
        return self.latents[self.steps - step][None]

    def replayed(self, step: int) -> Tensor | None:
        """The source branch at the start of a step, (1, C, h, w), where it is known beforehand.

        With Direct Inversion it is the pivot, with null-text the z̄ of the optimisation; else None.
        """
        if self.null_method == "direct":
            return self.pivot(step)
        if self.null_method == "null-text" and self.trajectory is not None:
            return self.trajectory[self.steps - step][None]
        return None

    def context(self, model: Backbone, step: int) -> Tensor:
        """The source prompt's context at a step, (1, L, D), with the tuned vectors in their places."""
        if self.token_vectors is None:
            return model.encode_prompt(self.prompt)
        with torch.no_grad():
            vectors = self.token_vectors[step].to(model.device)
            return model.encode_prompt(self.prompt, vectors, self.token_positions)

    def with_tokens(self, positions: tuple[int, ...], vectors: Tensor) -> Inversion:
        """The same inversion with tuned vectors (T, K, D); null text that was fitted before is dropped."""
        return replace(
            self,
            token_positions=positions,
            token_vectors=vectors,
            null_method="none",
            null_text=None,
            trajectory=None,
            guidance=None,
        )

    def on(self, device: torch.device) -> Inversion:
        """The same inversion with its tensors on `device`: one opened from a file has them on the CPU."""
        tensors = ("latents", "token_vectors", "null_text", "trajectory")
        there = {name: value.to(device) for name in tensors if (value := getattr(self, name)) is not None}
        return replace(self, **there)

    def check_image(self, latents: Tensor, latent_factor: int) -> None:
        """Raise ValueError unless this inversion is of the image that latents (1, C, h, w) encode.

        latent_factor: pixels a latent cell is wide.
        """
        if self.latents.shape[1:] != latents.shape[1:]:
            had, wants = (
                f"{z.shape[-1] * latent_factor}x{z.shape[-2] * latent_factor}" for z in (self.latents, latents)
            )
            raise ValueError(f"inversion: it was made of an image of {had} pixels, requires one of {wants}")
        apart = (self.pivot(self.steps).to(latents) - latents).norm() / latents.norm()
        if float(apart) > SAME_IMAGE:
            raise ValueError("inversion: it was made of another image; requires the image that is edited")

    def check_model(self, model: Backbone) -> None:
        """Raise ValueError unless `model` is the one that this inversion was made with."""
        if self.fingerprint != model.fingerprint:
            raise ValueError(
                f"inversion: it belongs to a model with the fingerprint {self.fingerprint}, but"
                f" {model.name!r} has {model.fingerprint}; requires the model that it was made with"
            )


@torch.no_grad()
def ddim_invert(
    model: Backbone, latents: Tensor, prompt: Prompt, steps: int, *, tracker: CostTracker | None = None
) -> Inversion:
    """DDIM inversion at guidance 1 (LocInv Eq. 2): z_0 (1, C, h, w) to z_0 … z_T, one UNet pass a step.

    ε is evaluated at the timestep being stepped *to*, the convention of Null-text, so that inverting and
    sampling use the same timesteps.
    Raises ValueError for latents of several images.
    """
    if latents.ndim != 4 or len(latents) != 1:
        raise ValueError(f"latents: got the shape {tuple(latents.shape)}, requires one image's, (1, C, h, w)")
    tracker = tracker or CostTracker()
    timesteps = model.schedule.timesteps(steps)
    with tracker.stage("inversion"):
        context = model.encode_prompt(prompt)
        z = latents.float()
        trajectory = [z]
        for done, (upper, lower) in enumerate(reversed(step_pairs(timesteps)), start=1):
            noise = model.predict_noise(z, upper, context, tracker=tracker)
            z = model.schedule.ddim_step(z, noise, start=lower, end=upper)
            trajectory.append(z)
            tracker.report(done, steps, z)
    return Inversion(torch.cat(trajectory), timesteps, prompt, model.fingerprint)
