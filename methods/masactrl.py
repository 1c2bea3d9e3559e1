"""MasaCtrl (Cao et al. 2023): the target asks, and the source's content answers, in self-attention.

From step S and layer L on, the target's self-attention takes its keys and values from the source and keeps
its own queries (their Eq. 4), so that a target laid out by its prompt is filled with what the image shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from ..locinv_core.backbones.attention import AttentionControl, AttentionLayer
from ..locinv_core.backbones.base import Backbone
from ..locinv_core.cost import CostTracker
from ..locinv_core.editing.prompt_to_prompt import Edit, check_edit
from ..locinv_core.editing.settings import step_of
from ..locinv_core.inversion.ddim_inversion import Inversion
from ..locinv_core.localization.priors import LocalizationPrior
from ..locinv_core.recipe import EditRecipe
from ..locinv_core.setting import check_settings, guidance_setting, setting, share_setting
from ..locinv_core.text.prompt import Prompt
from .shared.inversion_methods import inversion_method
from .shared.joint_sampling import edit_beside_source, of_source

PUBLISHED_LAYER = 10
PUBLISHED_LAYERS = 16
"""The published L, and how many self-attention layers its Stable Diffusion has."""


@dataclass(frozen=True)
class MasaCtrlSettings:
    """Where the source's keys and values are read; the defaults are the published ones.

    `start` is S, 4 of 50 steps, and `start_layer` L: self-attention layers before it, counted from 0 in the order in
    which they run, stay the target's. None takes the layer as deep in this UNet as the published 10 is among Stable
    Diffusion's 16. Raises ValueError for a value out of bounds.
    """

    guidance: float = guidance_setting()
    start: float = share_setting(
        0.08, "The share of the steps that the prompt alone lays out. More changes the layout further."
    )
    start_layer: int | None = setting(
        None,
        "The first self-attention layer that reads the image, counted from 0 in the order in which they run. -1: as"
        " deep in this UNet as the published 10 of 16.",
        widget=(-1, 1000),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        layer = self.start_layer
        if layer is not None and (isinstance(layer, bool) or not isinstance(layer, int) or layer < 0):
            raise ValueError(f"start_layer: got {layer!r}, requires the number of a layer, 0 or more")


class SourceKeysAndValues(AttentionControl):
    """All rows attend to the source's keys and values in the layers `names`."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def inputs(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if layer.name in self._names:
            return query, of_source(key), of_source(value)
        return query, key, value


def mutual_layers(model: Backbone, start_layer: int | None = None) -> frozenset[str]:
    """Names of the self-attention layers from L on. Raises ValueError if the UNet has none there."""
    names = [layer.name for layer in model.layers if layer.kind == "self"]
    if start_layer is None:
        start_layer = round(len(names) * PUBLISHED_LAYER / PUBLISHED_LAYERS)
    if start_layer >= len(names):
        raise ValueError(
            f"start_layer: got {start_layer}, requires one of the UNet's {len(names)} self-attention layers,"
            f" 0 to {len(names) - 1}"
        )
    return frozenset(names[start_layer:])


def check_choices(
    model: Backbone,
    source: Prompt,
    targets: Sequence[Prompt],
    settings: MasaCtrlSettings,
    prior: LocalizationPrior | None = None,
) -> None:
    """Raise ValueError, before there is an inversion, for a layer that the UNet lacks."""
    mutual_layers(model, settings.start_layer)


@torch.no_grad()
def edit(
    model: Backbone,
    inversion: Inversion,
    targets: Sequence[Prompt],
    settings: MasaCtrlSettings | None = None,
    *,
    prior: LocalizationPrior | None = None,
    tracker: CostTracker | None = None,
) -> Edit:
    """Edit an inverted image towards each of n target prompts; a step costs 1 + 2n passes.

    The published code gives a real image's source the empty prompt, so the source's passes with and without
    a prompt are one. Here too it has one, with the inversion's prompt, and all rows of a target read it.
    prior: checked, and not used by this method.
    Raises ValueError as `editing.edit` does for inversion, targets and prior, and for a layer that
    the UNet lacks.
    """
    settings = settings or MasaCtrlSettings()
    check_edit(model, inversion, targets, prior)
    names = mutual_layers(model, settings.start_layer)
    first = step_of(settings.start, inversion.steps)

    def hold(step: int) -> nullcontext[AttentionControl]:
        return nullcontext(SourceKeysAndValues(names if step >= first else frozenset()))

    return edit_beside_source(model, inversion, targets, settings.guidance, hold, tracker or CostTracker())


RECIPE = EditRecipe("masactrl", edit=edit, settings_type=MasaCtrlSettings, check=check_choices)
METHOD = inversion_method(RECIPE, "MasaCtrl", "Cao et al. 2023")
