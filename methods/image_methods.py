"""The methods that edit an image with no DDIM inversion of it: Imagic, InstructPix2Pix and LEDITS++.

What each reads of its task is a function of its own, so that what is wrong is said before any work.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..locinv_core.backbones.stable_diffusion import EditModel
from ..locinv_core.cost import CostTracker
from ..locinv_core.imaging.padding import Padding
from ..locinv_core.text.prompt import Prompt, parse_prompt
from ..region_core.editors.base import cells_of
from . import imagic, instruct_pix2pix
from . import ledits_pp as ledits
from .imagic import ImagicSettings
from .instruct_pix2pix import InstructPix2PixSettings
from .ledits_pp import Concept, LeditsSettings
from .types import EditTask, MethodModels, MethodOutcome, edit_mask, on_cpu, prompts_of


def imagic_target(model: EditModel, task: EditTask, settings: ImagicSettings) -> Prompt:
    """The task's target, which is all that Imagic reads of its texts.

    Raises ValueError for a text that does not fit the model, and for more steps than its schedule has.
    """
    model.schedule.timesteps(settings.steps)
    return parse_prompt(task.target, model.tokenizer)


def edit_imagic(
    models: MethodModels, task: EditTask, settings: ImagicSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """Imagic towards the target prompt."""
    assert models.model is not None
    model = models.model
    target = imagic_target(model, task, settings)
    framing, latents = _encoded(model, task, tracker)
    made = imagic.edit(model, latents, target, settings, seed=seed, tracker=tracker)
    return MethodOutcome(_decoded(model, made.latents, framing, tracker), latents=on_cpu(made.latents))


def instruction_of(model: EditModel, task: EditTask, settings: InstructPix2PixSettings) -> Prompt:
    """The task's instruction, or, without one, the order that turns its source into its target.

    Raises ValueError for a UNet that does not read an image, and as `imagic_target`.
    """
    instruct_pix2pix.refuse_other_unet(
        model.unet.config.in_channels, model.vae.config.latent_channels, f"model {model.name!r}"
    )
    model.schedule.timesteps(settings.steps)
    text = task.instruction
    if text is None:
        text = instruct_pix2pix.instruction_between(*prompts_of(model, task))
    return parse_prompt(text, model.tokenizer)


def edit_instructed(
    models: MethodModels, task: EditTask, settings: InstructPix2PixSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """InstructPix2Pix by the task's instruction, or by one that turns its source into its target."""
    assert models.instruct is not None
    model = models.instruct
    instruction = instruction_of(model, task, settings)
    framing, latents = _encoded(model, task, tracker)
    edited = instruct_pix2pix.edit(model, latents, instruction, settings, seed=seed, tracker=tracker)
    return MethodOutcome(
        _decoded(model, edited, framing, tracker),
        latents=on_cpu(edited),
        details={"instruction": instruction.text},
    )


def ledits_plan(
    model: EditModel, task: EditTask, settings: LeditsSettings
) -> tuple[tuple[Concept, ...], Tensor | None]:
    """What is taken away and added, and the cells (h, w), 0 or 1, that it stays in; None: all of them.

    Raises ValueError as `imagic_target`, and, for `within_mask`, as `edit_mask`.
    """
    source, target = prompts_of(model, task)
    ledits.check_steps(model, settings)
    place = None
    if settings.within_mask:
        mask = _framing(model, task).pad_mask(edit_mask(task, source, target)[None, None])
        place = cells_of(mask, model.latent_factor)[0, 0]
    return ledits.concepts_between(source, target, model.tokenizer), place


def edit_ledits(
    models: MethodModels, task: EditTask, settings: LeditsSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """LEDITS++ with the objects that the source loses and the target gains as concepts."""
    assert models.model is not None
    model = models.model
    concepts, place = ledits_plan(model, task, settings)
    framing, latents = _encoded(model, task, tracker)
    inversion = ledits.invert(model, latents, settings, seed=seed, tracker=tracker)
    made = ledits.edit(model, inversion, concepts, settings, place=place, tracker=tracker)
    acted = made.masks.amax(dim=0).cpu() if len(concepts) else torch.zeros(latents.shape[-2:])
    return MethodOutcome(
        _decoded(model, made.latents, framing, tracker),
        # Its inversion is exact: without a concept the image's own latents come back.
        _decoded(model, latents, framing, tracker),
        mask=framing.mask_to_pixels(acted),
        latents=on_cpu(made.latents),
        details={"concepts": [("-" if c.removed else "+") + c.prompt.text for c in concepts]},
    )


def _framing(model: EditModel, task: EditTask) -> Padding:
    return Padding.of(task.image.shape[-2], task.image.shape[-1], model.size_multiple)


def _encoded(model: EditModel, task: EditTask, tracker: CostTracker) -> tuple[Padding, Tensor]:
    framing = _framing(model, task)
    with tracker.stage("encode"):
        return framing, model.encode(framing.pad_image(task.image))


def _decoded(model: EditModel, latents: Tensor, framing: Padding, tracker: CostTracker) -> Tensor:
    with tracker.stage("decode"):
        return on_cpu(framing.crop(model.decode(latents)))
