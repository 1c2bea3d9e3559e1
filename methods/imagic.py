"""Imagic (Kawar et al. 2023): an embedding of the image, a UNet tuned to it, and a step towards the target.

A: the target's embedding is optimised until it stands for the image. B: a copy of the UNet is tuned until
it draws the image from that embedding. C: the copy draws what lies between the two embeddings.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..locinv_core.backbones.base import require_diffusers
from ..locinv_core.backbones.stable_diffusion import EditModel
from ..locinv_core.cost import CostTracker
from ..locinv_core.ddim import step_pairs
from ..locinv_core.guidance import guided_noise
from ..locinv_core.setting import check_settings, guidance_setting, setting, steps_setting
from ..locinv_core.text.prompt import Prompt, empty_prompt, parse_prompt
from .shared.images import decoded, encoded
from .types import EditTask, Method, MethodModels, MethodOutcome, on_cpu

EMBEDDING_STAGE = "embedding"
TUNING_STAGE = "fine-tuning"


@dataclass(frozen=True)
class ImagicSettings:
    """How long and how fast; the defaults are those that the paper gives for Stable Diffusion.

    `steps` and `guidance` are those of the drawing. At 0 embedding steps the embedding stays the target's, at 0 tuning
    steps the UNet as it was. `interpolation` is η, the paper's 0.6 to 0.8. Raises ValueError for a value out of bounds.
    """

    steps: int = steps_setting("DDIM steps of the drawing at the end.")
    guidance: float = guidance_setting()
    interpolation: float = setting(
        0.7, "0 draws the image itself, 1 the target. 0.6 to 0.8 are usual.", 0, 2, step=0.05
    )
    embedding_steps: int = setting(
        1000,
        "Adam's steps on the target's embedding, until it stands for the image. Each costs three UNet passes.",
        0,
        widget=(0, 100000),
    )
    embedding_rate: float = setting(2e-3, "Adam's learning rate on the embedding.", 0, 1, step=1e-4)
    tuning_steps: int = setting(
        1500,
        "Adam's steps on the copy of the UNet, until it draws the image from that embedding. Each costs three UNet"
        " passes.",
        0,
        widget=(0, 100000),
    )
    tuning_rate: float = setting(5e-7, "Adam's learning rate on the copy of the UNet.", 0, 1, step=1e-8)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class ImagicEdit:
    """The edit's latents, (1, C, h, w) float32, and the two embeddings, (1, L, D) float32."""

    latents: Tensor
    target: Tensor
    optimised: Tensor


def edit(
    model: EditModel,
    latents: Tensor,
    target: Prompt,
    settings: ImagicSettings | None = None,
    *,
    seed: int = 0,
    tracker: CostTracker | None = None,
) -> ImagicEdit:
    """Edit an image's z_0 (1, C, h, w) towards the target prompt; the source has no text of its own.

    Costs 3 passes for each of Adam's steps, and 2 for each of the drawing, 1 at guidance 1. The model given
    is not changed: all three parts work on a copy of its UNet in float32, which takes its gradients as
    memory beside it. The seed is that of every noise drawn.
    """
    settings = settings or ImagicSettings()
    tracker = tracker or CostTracker()
    model.schedule.timesteps(settings.steps)
    generator = torch.Generator().manual_seed(seed)
    with torch.inference_mode(False):
        work = copied(model)
        clean = latents.detach().to(model.device, torch.float32).clone()
        context = model.encode_prompt(target).detach().float().clone()
        with tracker.stage(EMBEDDING_STAGE):
            optimised = optimised_embedding(work, clean, context, settings, generator, tracker=tracker)
        with tracker.stage(TUNING_STAGE):
            tune_to(work, clean, optimised, settings, generator, tracker=tracker)
        between = interpolated(optimised, context, settings.interpolation)
        start = torch.randn(clean.shape, generator=generator).to(clean)
        with tracker.stage("edit"):
            drawn = draw(work, start, between, settings.steps, settings.guidance, tracker=tracker)
    return ImagicEdit(drawn, context, optimised)


def copied(model: EditModel) -> EditModel:
    """The model with a float32 copy of its UNet, in memory of its own; the other parts are shared."""
    return replace(model, unet=copy.deepcopy(model.unet).float(), name=f"{model.name} (copy)")


def optimised_embedding(
    model: EditModel,
    latents: Tensor,
    context: Tensor,
    settings: ImagicSettings,
    generator: torch.Generator,
    *,
    tracker: CostTracker | None = None,
) -> Tensor:
    """e_opt, (1, L, D): what Adam makes of the target's e_tgt under their Eq. 2, the UNet frozen.

    L(z, e) = E_{t,ε} ‖ε − ε_θ(z_t, t, e)‖², with one t and one ε a step.
    """
    tracker = tracker or CostTracker()
    with torch.enable_grad():
        embedding = context.detach().clone().requires_grad_(True)
        optimiser = torch.optim.Adam([embedding], lr=settings.embedding_rate)

        def step() -> None:
            _noise_error(model, latents, embedding, generator, tracker).backward()

        _descend(optimiser, step, settings.embedding_steps, tracker)
    return embedding.detach()


def tune_to(
    model: EditModel,
    latents: Tensor,
    embedding: Tensor,
    settings: ImagicSettings,
    generator: torch.Generator,
    *,
    tracker: CostTracker | None = None,
) -> None:
    """Tune the UNet of `model`, in place, to the same loss at a fixed embedding (their part B)."""
    tracker = tracker or CostTracker()
    weights = list(model.unet.parameters())
    try:
        with torch.enable_grad():
            for weight in weights:
                weight.requires_grad_(True)
            optimiser = torch.optim.Adam(weights, lr=settings.tuning_rate)

            def step() -> None:
                _noise_error(model, latents, embedding, generator, tracker).backward()
                tracker.count_backward(len(latents))

            _descend(optimiser, step, settings.tuning_steps, tracker)
    finally:
        for weight in weights:
            weight.requires_grad_(False)
            weight.grad = None


def interpolated(optimised: Tensor, target: Tensor, share: float) -> Tensor:
    """ē = η·e_tgt + (1 − η)·e_opt (their Eq. 3)."""
    return share * target + (1 - share) * optimised


@torch.no_grad()
def draw(
    model: EditModel, start: Tensor, context: Tensor, steps: int, guidance: float, *, tracker: CostTracker | None = None
) -> Tensor:
    """DDIM from noise (1, C, h, w) with a context (1, L, D) and classifier-free guidance: z_0."""
    tracker = tracker or CostTracker()
    rows = [context]
    if guidance != 1:
        rows.append(model.encode_prompt(empty_prompt(model.tokenizer)).to(context))
    contexts, z = torch.cat(rows), start
    for number, (upper, lower) in enumerate(step_pairs(model.schedule.timesteps(steps)), start=1):
        noise = model.predict_noise(z.expand(len(rows), -1, -1, -1), upper, contexts, tracker=tracker)
        noise = guided_noise(noise[:1], noise[1:] if len(rows) > 1 else None, guidance)
        z = model.schedule.ddim_step(z, noise, start=upper, end=lower)
        tracker.report(number, steps, z)
    return z


def _noise_error(
    model: EditModel, latents: Tensor, context: Tensor, generator: torch.Generator, tracker: CostTracker
) -> Tensor:
    """‖ε − ε_θ(z_t, t, e)‖², averaged, of a timestep and a noise drawn anew."""
    timestep = int(torch.randint(model.schedule.train_steps, (1,), generator=generator))
    noise = torch.randn(latents.shape, generator=generator).to(latents)
    noised = model.schedule.to_latents(latents, noise, timestep)
    return (model.predict_noise(noised, timestep, context, tracker=tracker) - noise).square().mean()


def _descend(optimiser: torch.optim.Optimizer, step: Callable[[], None], steps: int, tracker: CostTracker) -> None:
    for number in range(1, steps + 1):
        optimiser.zero_grad()
        step()
        optimiser.step()
        tracker.report(number, steps)


def target_of(models: MethodModels, task: EditTask, settings: ImagicSettings) -> Prompt:
    """The task's target, which is all that Imagic reads of its texts.

    Raises ValueError for a text that does not fit the model, and for more steps than its schedule has.
    """
    assert models.model is not None
    require_diffusers(models.model, "Imagic").schedule.timesteps(settings.steps)
    return parse_prompt(task.target, models.model.tokenizer)


def edit_task(
    models: MethodModels, task: EditTask, settings: ImagicSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """Imagic towards the target prompt."""
    assert models.model is not None
    target, model = target_of(models, task, settings), require_diffusers(models.model, "Imagic")
    made = edit(model, encoded(model, task, tracker), target, settings, seed=seed, tracker=tracker)
    return MethodOutcome(decoded(model, made.latents, task, tracker), latents=on_cpu(made.latents))


METHOD = Method(
    "imagic", "Imagic", "Kawar et al. 2023", "tuned", ("model",), ImagicSettings, edit_task, check_task=target_of
)
