"""DiffEdit (Couairon et al. 2023): where two prompts disagree about the noise is where the edit belongs.

The mask is where the noise estimates of source and target prompt differ on the noised image. Then the
image, encoded by DDIM up to a part of the way, is decoded with the target prompt inside the mask and along
its own encoding outside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..locinv_core.backbones.attention import MapReader
from ..locinv_core.backbones.base import Backbone
from ..locinv_core.cost import CostTracker
from ..locinv_core.ddim import step_pairs
from ..locinv_core.editing.prompt_to_prompt import Edit, check_edit
from ..locinv_core.editing.settings import step_of
from ..locinv_core.guidance import guided_noise
from ..locinv_core.inversion.ddim_inversion import Inversion
from ..locinv_core.localization.attention_maps import maps_of_all_words
from ..locinv_core.localization.priors import LocalizationPrior
from ..locinv_core.recipe import EditRecipe
from ..locinv_core.setting import MOST_SEED, check_settings, guidance_setting, setting, share_setting
from ..locinv_core.text.prompt import Prompt, empty_prompt
from .shared.inversion_methods import inversion_method


@dataclass(frozen=True)
class DiffEditSettings:
    """The mask and the decoding; the defaults are the published ones (those of diffusers where none is).

    `guidance` is the decoding's: a mask has none, because its scale cancels. `encode_share` is r. A cell is edited
    where its difference exceeds the part `threshold` of the ceiling. Raises ValueError for a value out of bounds.
    """

    guidance: float = guidance_setting()
    encode_share: float = share_setting(0.8, "How far back towards noise the edit begins. More changes more.")
    threshold: float = share_setting(0.5, "How strongly the prompts must disagree. Less makes the mask larger.")
    ceiling: float = setting(
        3.0,
        "Disagreement above this many times the image's mean counts no more; the threshold is a share of it.",
        0,
        1000,
        step=0.1,
        widget=(0.1, 1000),
    )
    noises: int = setting(
        10,
        "Over how many noises the disagreement is averaged. More makes the mask calmer, and takes longer.",
        1,
        widget=(1, 1000),
    )
    noise_share: float = share_setting(0.5, "How noisy the image is when the mask is sought.")
    seed: int = setting(0, "The noises that the mask is sought with.", 0, widget=(0, MOST_SEED))

    def __post_init__(self) -> None:
        check_settings(self)
        if self.ceiling == 0:
            raise ValueError("ceiling: got 0, requires a number above 0")


@torch.no_grad()
def noise_differences(
    model: Backbone,
    latents: Tensor,
    timestep: int,
    source: Tensor,
    targets: Tensor,
    *,
    noises: int,
    seed: int,
    tracker: CostTracker | None = None,
) -> Tensor:
    """|ε(z_t, t, target) − ε(z_t, t, source)|, averaged over noises and channels: (n, h, w) float32.

    `latents` z_0 (1, C, h, w) are noised to `timestep` with each of the noises; `source` (1, L, D) and
    `targets` (n, L, D) are contexts. Costs (1 + n) passes a noise.
    """
    tracker = tracker or CostTracker()
    generator = torch.Generator().manual_seed(seed)
    context = torch.cat([source, targets])
    total = torch.zeros(len(targets), *latents.shape[-2:], device=latents.device)
    for _ in range(noises):
        drawn = torch.randn(latents.shape, generator=generator).to(latents)
        noised = model.schedule.to_latents(latents, drawn, timestep)
        noise = model.predict_noise(noised.expand(len(context), -1, -1, -1), timestep, context, tracker=tracker)
        total += (noise[1:] - noise[:1]).abs().mean(dim=1)
    return total / noises


def binary_masks(differences: Tensor, ceiling: float = 3.0, threshold: float = 0.5) -> Tensor:
    """Where the edit belongs, (n, h, w) bool, from the differences (n, h, w).

    A target's differences, clipped at `ceiling` times their mean and scaled to [0, 1] by that, are cut at
    `threshold`; clipping moves no cell across the cut. Prompts that nowhere disagree edit nothing.
    """
    highest = ceiling * differences.mean(dim=(-2, -1), keepdim=True)
    return differences > threshold * highest


@torch.no_grad()
def edit(
    model: Backbone,
    inversion: Inversion,
    targets: Sequence[Prompt],
    settings: DiffEditSettings | None = None,
    *,
    prior: LocalizationPrior | None = None,
    tracker: CostTracker | None = None,
) -> Edit:
    """Edit an inverted image towards each of n target prompts, each in its own mask.

    The encoding is the inversion's own, which was made with the source prompt (the paper's has none). The
    mask costs (1 + n) passes a noise, and each of round(r·T) steps, but at least one, 2n (at guidance 1: n).
    Outside the mask the latents end in z_0 itself. `blend_masks` are the masks; no source branch is run.
    prior: checked, and not used by this method, whose point is to find the place.
    Raises ValueError as `editing.edit` does for inversion, targets and prior.
    """
    settings = settings or DiffEditSettings()
    tracker = tracker or CostTracker()
    check_edit(model, inversion, targets, prior)
    steps, n, guided = inversion.steps, len(targets), settings.guidance != 1
    clean = inversion.pivot(steps).to(model.device)
    contexts = torch.cat([model.encode_prompt(target) for target in targets])

    with tracker.stage("mask"):
        noisy_step = steps - max(1, step_of(settings.noise_share, steps))
        differences = noise_differences(
            model,
            clean,
            inversion.timesteps[noisy_step],
            model.encode_prompt(inversion.prompt),
            contexts,
            noises=settings.noises,
            seed=settings.seed,
            tracker=tracker,
        )
        masks = binary_masks(differences, settings.ceiling, settings.threshold)

    with tracker.stage("edit"):
        if guided:
            empty = model.encode_prompt(empty_prompt(model.tokenizer))
            contexts = torch.cat([empty.expand(n, -1, -1), contexts])
        first = steps - max(1, step_of(settings.encode_share, steps))
        z = inversion.pivot(first).to(clean).expand(n, -1, -1, -1)
        maps = []
        for i, (timestep, following) in list(enumerate(step_pairs(inversion.timesteps)))[first:]:
            reader = MapReader(model.map_layers)
            latents = torch.cat([z, z]) if guided else z
            without = slice(len(latents) - n)
            noise = model.predict_noise(
                latents, timestep, contexts, tracker=tracker, control=reader, unconditional=without
            )
            noise = guided_noise(noise[-n:], noise[:n] if guided else None, settings.guidance)
            z = model.schedule.ddim_step(z, noise, start=timestep, end=following)
            # Their step 3: y_t ← M·y_t + (1 − M)·x_t.
            z = torch.where(masks[:, None], z, inversion.pivot(i + 1).to(z))
            maps.append(reader.mean()[-n:])
            tracker.report(i + 1 - first, steps - first, z)
    mean = torch.stack(maps).mean(dim=0).unflatten(1, model.map_layers[0].grid(*z.shape[-2:]))
    return Edit(
        latents=z,
        source_latents=clean,
        source_maps={},
        target_maps=tuple(maps_of_all_words(mean[k], target) for k, target in enumerate(targets)),
        blend_masks=masks.float(),
    )


RECIPE = EditRecipe("diffedit", edit=edit, settings_type=DiffEditSettings, check=None)
METHOD = inversion_method(RECIPE, "DiffEdit", "Couairon et al. 2023")
