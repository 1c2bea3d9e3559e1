"""LEDITS++ (Brack et al. 2024): guidance by concepts, each where it is relevant, on a perfect inversion.

The inversion draws every z_t apart from the others and keeps, for each step, the noise that leads from one to
the next. Sampling with those noises gives the image back; concepts are added to it or taken from it.

The solver and the noise's extraction are diffusers'. The loop is not its pipeline's, which knows four latent
channels and maps at a quarter of the latents alone, and counts padding among a concept's words: here any
Backbone serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..locinv_core.backbones.attention import AttentionControl, MapReader
from ..locinv_core.backbones.base import Backbone
from ..locinv_core.cost import CostTracker
from ..locinv_core.editing.edited_objects import edited_objects
from ..locinv_core.setting import check_settings, guidance_setting, setting, share_setting, steps_setting
from ..locinv_core.text.prompt import Prompt, empty_prompt, parse_prompt
from ..locinv_core.text.word_alignment import align
from ..region_core.editors.base import cells_of
from .shared.images import decoded, encoded, padding_of
from .shared.object_names import edit_mask, object_name
from .types import EditTask, Method, MethodModels, MethodOutcome, on_cpu, prompts_of

if TYPE_CHECKING:
    from diffusers import DPMSolverMultistepScheduler

NOISY = 800
"""Above this timestep of 1000 estimates are too noisy for a mask of their own; attention's alone is used."""


@dataclass(frozen=True)
class LeditsSettings:
    """The defaults are those of diffusers. Raises ValueError for a value out of bounds.

    `skip` is how many more steps the schedule has, `guidance` s_e, and `threshold` λ. `within_mask` is for a method
    that knows the edit's mask; concepts need none.
    """

    steps: int = steps_setting("Steps, there and back. 50 is usual; fewer are faster.")
    skip: float = share_setting(
        0.15,
        "How many more steps the schedule has, as a share of the steps: the noisiest, which are left out. More keeps"
        " more of the image.",
    )
    guidance: float = guidance_setting(5.0, "How strongly objects are taken away and added.")
    threshold: float = share_setting(
        0.9, "An object acts on the part of the image above this quantile. More keeps it to a smaller place."
    )
    within_mask: bool = setting(False, "Whether objects act inside the mask alone.")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class Concept:
    """What the edit adds to an image, or, if `removed`, takes from it."""

    prompt: Prompt
    removed: bool = False


@dataclass(frozen=True)
class LeditsInversion:
    """z_T, (1, C, h, w) float32, the timesteps from there down, and the noise of each step (T, C, h, w)."""

    start: Tensor
    timesteps: tuple[int, ...]
    noises: Tensor
    schedule_steps: int


@dataclass(frozen=True)
class LeditsEdit:
    """The edit's latents, (1, C, h, w), and where each concept acted, (n, h, w): the share of the steps."""

    latents: Tensor
    masks: Tensor


def concepts_between(source: Prompt, target: Prompt, tokenizer: Any) -> tuple[Concept, ...]:
    """The objects that the source loses, taken away, and those that the target gains, added.

    An object is named with its adjectives, as it stands in its prompt ("red cat"); the same name twice counts
    once. Prompts that name the same objects have no concepts.
    """
    alignment = align(source, target)
    objects = edited_objects(source, target, alignment)
    lost = [object_name(source, i) for i in objects.source if alignment.removed]
    gained = [object_name(target, j) for j in objects.target if alignment.changed]
    names = {name: True for name in lost if name not in gained}
    names |= {name: False for name in gained if name not in lost}
    return tuple(Concept(parse_prompt(name, tokenizer), removed) for name, removed in names.items())


def check_steps(model: Backbone, settings: LeditsSettings) -> int:
    """How many steps the schedule has. Raises ValueError for more than the model has timesteps."""
    steps = int(settings.steps * (1 + settings.skip))
    model.schedule.timesteps(steps)
    return steps


@torch.no_grad()
def invert(
    model: Backbone,
    latents: Tensor,
    settings: LeditsSettings | None = None,
    *,
    seed: int = 0,
    tracker: CostTracker | None = None,
) -> LeditsInversion:
    """Invert an image's z_0 (1, C, h, w); one pass a step, without a prompt, as published."""
    settings = settings or LeditsSettings()
    tracker = tracker or CostTracker()
    from diffusers.pipelines.ledits_pp.pipeline_leditspp_stable_diffusion import compute_noise

    steps, schedule_steps = settings.steps, check_steps(model, settings)
    solver = _solver(model, schedule_steps)
    timesteps = tuple(int(t) for t in solver.timesteps[-steps:])
    clean = latents.to(model.device, torch.float32)
    generator = torch.Generator().manual_seed(seed)
    empty = model.encode_prompt(empty_prompt(model.tokenizer))
    levels = {timesteps[-1 - k]: k for k in range(steps)}
    # images[k] is z before the step to level k: images[0] is the image, images[steps] the noisiest.
    images = [clean]
    for t in reversed(timesteps):
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        images.append(solver.add_noise(clean, noise, torch.tensor([t])))
    noises = []
    with tracker.stage("inversion"):
        for number, t in enumerate(timesteps, start=1):
            k = levels[t]
            predicted = model.predict_noise(images[k + 1], t, empty, tracker=tracker, unconditional=slice(None))
            noise, images[k] = compute_noise(solver, images[k], images[k + 1], torch.tensor(t), predicted, 1.0)
            noises.append(noise.expand_as(clean))
            tracker.report(number, steps, images[k])
    return LeditsInversion(images[steps], timesteps, torch.cat(noises), schedule_steps)


@torch.no_grad()
def edit(
    model: Backbone,
    inversion: LeditsInversion,
    concepts: Sequence[Concept],
    settings: LeditsSettings | None = None,
    *,
    place: Tensor | None = None,
    tracker: CostTracker | None = None,
) -> LeditsEdit:
    """Sample with the inversion's noises and n concepts; a step costs 1 + n passes.

    Without concepts the result is the image. place: (h, w) of 0 and 1; outside it no concept has guidance.
    """
    settings = settings or LeditsSettings()
    tracker = tracker or CostTracker()
    solver = _solver(model, inversion.schedule_steps)
    n, steps = len(concepts), len(inversion.timesteps)
    prompts = [empty_prompt(model.tokenizer), *(concept.prompt for concept in concepts)]
    contexts = torch.cat([model.encode_prompt(prompt) for prompt in prompts])
    z = inversion.start.to(model.device)
    acted = torch.zeros(n, *z.shape[-2:], device=z.device)
    with tracker.stage("edit"):
        for i, t in enumerate(inversion.timesteps):
            reader = MapReader(model.map_layers)
            control: AttentionControl | None = reader if n else None
            rows = z.expand(1 + n, -1, -1, -1)
            predicted = model.predict_noise(rows, t, contexts, tracker=tracker, control=control, unconditional=slice(1))
            noise = predicted[:1]
            for c, concept in enumerate(concepts):
                guidance = settings.guidance * (predicted[1 + c] - predicted[0])[None]
                mask = _map_mask(model, reader.mean()[1 + c], concept.prompt, settings.threshold, z)
                if t <= NOISY * model.schedule.train_steps / 1000:
                    mask = mask * _noise_mask(guidance, settings.threshold)
                if place is not None:
                    mask = mask * place.to(mask)
                acted[c] += mask / steps
                noise = noise + (-1 if concept.removed else 1) * mask * guidance  # their Eq. 9
            z = solver.step(noise, t, z, variance_noise=inversion.noises[i : i + 1].to(z)).prev_sample
            tracker.report(i + 1, steps, z)
    return LeditsEdit(z, acted)


def _solver(model: Backbone, steps: int) -> DPMSolverMultistepScheduler:
    """The published solver, SDE-DPM-Solver++ of second order, on the model's schedule.

    It ends at the schedule's least noise and not at none, so that the last step too has a noise to keep: with
    that the image comes back exactly.
    """
    from diffusers import DPMSolverMultistepScheduler

    solver = DPMSolverMultistepScheduler.from_config(
        dict(model.schedule.config),
        prediction_type="epsilon",
        timestep_spacing="leading",
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        lower_order_final=False,
        final_sigmas_type="sigma_min",
    )
    solver.set_timesteps(steps)
    return solver


def _map_mask(model: Backbone, maps: Tensor, prompt: Prompt, threshold: float, z: Tensor) -> Tensor:
    """M¹ (h, w): where the concept's words, smoothed, are above the quantile; maps is (N, L)."""
    grid = model.map_layers[0].grid(*z.shape[-2:])
    total = maps[:, 1 : prompt.length - 1].sum(dim=-1).view(1, 1, *grid)
    smooth = F.conv2d(F.pad(total, (1, 1, 1, 1), mode="reflect"), _kernel().to(total))
    above = (smooth >= torch.quantile(smooth, threshold)).float()
    return F.interpolate(above, size=z.shape[-2:])[0, 0]


def _noise_mask(guidance: Tensor, threshold: float) -> Tensor:
    """M² (h, w): where the guidance (1, C, h, w), summed over channels, is above the quantile."""
    size = guidance[0].abs().sum(dim=0)
    return (size >= torch.quantile(size, threshold)).float()


def _kernel() -> Tensor:
    """diffusers' smoothing, (1, 1, 3, 3): exp(−x² − y²) over the nine cells, in all 1."""
    line = torch.exp(-torch.tensor([1.0, 0.0, 1.0]))
    square = line[:, None] * line[None]
    return (square / square.sum())[None, None]


def plan_of(
    models: MethodModels, task: EditTask, settings: LeditsSettings
) -> tuple[tuple[Concept, ...], Tensor | None]:
    """What is taken away and added, and the cells (h, w), 0 or 1, that it stays in; None: all of them.

    Raises ValueError for a text that does not fit the model, for steps as `check_steps`, and, for `within_mask`, as
    `edit_mask`.
    """
    assert models.model is not None
    model = models.model
    source, target = prompts_of(model, task)
    check_steps(model, settings)
    cells = None
    if settings.within_mask and not task.to_find:
        mask = padding_of(model, task).pad_mask(edit_mask(task, source, target)[None, None])
        cells = cells_of(mask, model.latent_factor)[0, 0]
    return concepts_between(source, target, model.tokenizer), cells


def edit_task(
    models: MethodModels, task: EditTask, settings: LeditsSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """LEDITS++ with the objects that the source loses and the target gains as concepts."""
    assert models.model is not None
    model = models.model
    concepts, cells = plan_of(models, task, settings)
    latents = encoded(model, task, tracker)
    inversion = invert(model, latents, settings, seed=seed, tracker=tracker)
    made = edit(model, inversion, concepts, settings, place=cells, tracker=tracker)
    acted = made.masks.amax(dim=0).cpu() if len(concepts) else torch.zeros(latents.shape[-2:])
    return MethodOutcome(
        decoded(model, made.latents, task, tracker),
        # Its inversion is exact: without a concept the image's own latents come back.
        decoded(model, latents, task, tracker) if task.reconstruct else None,
        mask=padding_of(model, task).mask_to_pixels(acted),
        latents=on_cpu(made.latents),
        details={"concepts": [("-" if c.removed else "+") + c.prompt.text for c in concepts]},
    )


METHOD = Method(
    "ledits++", "LEDITS++", "Brack et al. 2024", "frozen", ("model",), LeditsSettings, edit_task, check_task=plan_of
)
