"""Every method of editing behind one signature: those of `locinv_core.presets`, and those that need a mask,
other weights, or a region that is learned."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from ..locinv_core.cost import CostTracker
from .image_methods import edit_imagic, edit_instructed, edit_ledits
from .imagic import ImagicSettings
from .instruct_pix2pix import InstructPix2PixSettings
from .ledits_pp import LeditsSettings
from .masked_methods import (
    InpaintSettings,
    MaskedSettings,
    RegionSettings,
    edit_blended,
    edit_inpaint,
    edit_regions,
)
from .preset_methods import edit_by_preset, preset_settings
from .presets import METHODS, Method
from .types import AnyMethod, EditTask, MethodModels, MethodOutcome, made_settings

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
    tracker: CostTracker | None = None,
) -> MethodOutcome:
    """Edit an image by the method called `name`.

    settings: the method's choices by name, plain JSON; None takes its defaults. Every UNet pass is counted by
    `run`, every step reported to it. Raises ValueError, before any pass, for an unknown method, for what the
    method lacks (a mask, an 8-channel UNet …), and for settings or a task that it cannot take.
    """
    method = any_method_named(name)
    made = method.settings(**(settings or {}))
    method.check(models, task)
    return method.edit(models, task, made, seed, tracker or CostTracker())


def any_method_named(name: str) -> AnyMethod:
    """The method called `name`. Raises ValueError, listing all methods, for another name."""
    if name not in ALL_METHODS:
        raise ValueError(f"method: got {name!r}, requires one of {', '.join(ALL_METHODS)}")
    return ALL_METHODS[name]


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
        _other("blended", "Blended Latent Diffusion", "masked", ("model", "mask"), MaskedSettings, edit_blended),
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
