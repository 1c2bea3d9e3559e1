"""Every method of editing behind one signature: those of `locinv_core.presets`, and those that need a mask,
other weights, or a region that is learned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from ..locinv_core.compared import imagic, instruct_pix2pix, ledits
from ..locinv_core.compared.imagic import ImagicSettings
from ..locinv_core.compared.instruct_pix2pix import InstructPix2PixSettings
from ..locinv_core.compared.ledits import LeditsSettings
from ..locinv_core.images import Framing
from ..locinv_core.model import EditModel
from ..locinv_core.presets import METHODS, Method
from ..locinv_core.prompts import Prompt, parse_prompt
from ..locinv_core.run import Run
from .editors import cells_of
from .masked_methods import (
    InpaintSettings,
    MaskedSettings,
    RegionSettings,
    edit_blended,
    edit_inpaint,
    edit_regions,
)
from .method_types import (
    AnyMethod,
    EditTask,
    MethodModels,
    MethodOutcome,
    edit_mask,
    made_settings,
    on_cpu,
)
from .preset_methods import edit_by_preset, preset_settings

__all__ = [
    "ALL_METHODS",
    "AnyMethod",
    "EditTask",
    "MethodModels",
    "MethodOutcome",
    "any_method_named",
    "edit_by_method",
]

LABELS: Mapping[str, str] = {
    "locinv": "LocInv",
    "dpl": "DPL",
    "nti": "NTI + P2P",
    "npi": "NPI",
    "proxnpi": "ProxNPI",
    "direct": "Direct Inversion",
    "ddim": "DDIM + P2P",
    "pnp": "Plug-and-Play",
    "masactrl": "MasaCtrl",
    "diffedit": "DiffEdit",
    "pix2pix-zero": "pix2pix-zero",
}


def edit_by_method(
    name: str,
    models: MethodModels,
    task: EditTask,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    run: Run | None = None,
) -> MethodOutcome:
    """Edit a picture by the method called `name`.

    settings: the method's choices by name, plain JSON; None takes its defaults. Every UNet pass is counted by
    `run`, every step reported to it. Raises ValueError, before any pass, for an unknown method, for what the
    method lacks (a mask, an 8-channel UNet …), and for settings or a task that it cannot take.
    """
    method = any_method_named(name)
    made = method.settings(**(settings or {}))
    method.check(models, task)
    return method.edit(models, task, made, seed, run or Run())


def any_method_named(name: str) -> AnyMethod:
    """The method called `name`. Raises ValueError, listing all methods, for another name."""
    if name not in ALL_METHODS:
        raise ValueError(f"method: got {name!r}, wants one of {', '.join(ALL_METHODS)}")
    return ALL_METHODS[name]


def edit_imagic(
    models: MethodModels, task: EditTask, settings: ImagicSettings, seed: int, run: Run
) -> MethodOutcome:
    """Imagic towards the target prompt."""
    assert models.model is not None
    model, (_, target) = models.model, _prompts(models.model, task)
    model.schedule.timesteps(settings.steps)
    framing, latents = _encoded(model, task, run)
    made = imagic.edit(model, latents, target, settings, seed=seed, run=run)
    return MethodOutcome(_decoded(model, made.latents, framing, run))


def edit_instructed(
    models: MethodModels, task: EditTask, settings: InstructPix2PixSettings, seed: int, run: Run
) -> MethodOutcome:
    """InstructPix2Pix by the task's instruction, or by one that turns its source into its target."""
    assert models.instruct is not None
    model = models.instruct
    text = task.instruction
    if text is None:
        text = instruct_pix2pix.instruction_between(*_prompts(model, task))
    instruction = parse_prompt(text, model.tokenizer)
    model.schedule.timesteps(settings.steps)
    framing, latents = _encoded(model, task, run)
    edited = instruct_pix2pix.edit(model, latents, instruction, settings, seed=seed, run=run)
    return MethodOutcome(_decoded(model, edited, framing, run), details={"instruction": text})


def edit_ledits(
    models: MethodModels, task: EditTask, settings: LeditsSettings, seed: int, run: Run
) -> MethodOutcome:
    """LEDITS++ with the things that the source loses and the target gains as concepts."""
    assert models.model is not None
    model, (source, target) = models.model, _prompts(models.model, task)
    ledits.check_steps(model, settings)
    framing = Framing.of(task.image.shape[-2], task.image.shape[-1], model.size_multiple)
    place = None
    if settings.within_mask:
        mask = framing.pad_mask(edit_mask(task, source, target)[None, None])
        place = cells_of(mask, model.latent_factor)[0, 0]
    concepts = ledits.concepts_between(source, target, model.tokenizer)
    framing, latents = _encoded(model, task, run)
    inversion = ledits.invert(model, latents, settings, seed=seed, run=run)
    made = ledits.edit(model, inversion, concepts, settings, place=place, run=run)
    acted = made.masks.amax(dim=0) if len(concepts) else torch.zeros(latents.shape[-2:])
    size = (framing.padded_height, framing.padded_width)
    shown = torch.nn.functional.interpolate(acted[None, None].float().cpu(), size=size)
    return MethodOutcome(
        _decoded(model, made.latents, framing, run),
        # Its inversion is exact: without a concept the picture's own latents come back.
        _decoded(model, latents, framing, run),
        mask=framing.crop(shown)[0, 0],
        details={"concepts": [("-" if c.removed else "+") + c.prompt.text for c in concepts]},
    )


def _prompts(model: EditModel, task: EditTask) -> tuple[Prompt, Prompt]:
    return parse_prompt(task.source, model.tokenizer), parse_prompt(task.target, model.tokenizer)


def _encoded(model: EditModel, task: EditTask, run: Run) -> tuple[Framing, torch.Tensor]:
    framing = Framing.of(task.image.shape[-2], task.image.shape[-1], model.size_multiple)
    with run.stage("encode"):
        return framing, model.encode(framing.pad_image(task.image))


def _decoded(model: EditModel, latents: torch.Tensor, framing: Framing, run: Run) -> torch.Tensor:
    with run.stage("decode"):
        return on_cpu(framing.crop(model.decode(latents)))


def _preset(method: Method) -> AnyMethod:
    needs = ("model", "prior") if method.name == "locinv" else ("model",)
    return AnyMethod(
        method.name,
        LABELS[method.name],
        "frozen",
        needs,  # type: ignore[arg-type]
        preset_settings(method),
        edit_by_preset,
    )


def _other(name: str, label: str, kind: Any, needs: Any, settings: type[Any], edit: Any) -> AnyMethod:
    return AnyMethod(name, label, kind, needs, partial(_settings_of, settings, name), edit)


def _settings_of(kind: type[Any], name: str, /, **choices: Any) -> Any:
    return made_settings(kind, name, choices)


ALL_METHODS: Mapping[str, AnyMethod] = {
    method.name: method
    for method in (
        *(_preset(method) for method in METHODS.values()),
        _other("ledits++", "LEDITS++", "frozen", ("model",), LeditsSettings, edit_ledits),
        _other(
            "blended", "Blended Latent Diffusion", "masked", ("model", "mask"), MaskedSettings, edit_blended
        ),
        _other("inpaint", "SD inpainting", "masked", ("inpaint", "mask"), InpaintSettings, edit_inpaint),
        _other("imagic", "Imagic", "tuned", ("model",), ImagicSettings, edit_imagic),
        _other(
            "instruct-pix2pix",
            "InstructPix2Pix",
            "instructed",
            ("instruct",),
            InstructPix2PixSettings,
            edit_instructed,
        ),
        _other(
            "learnable-regions",
            "Learnable Regions",
            "frozen",
            ("model", "clip", "vit"),
            RegionSettings,
            edit_regions,
        ),
    )
}
"""Every method by its name."""
