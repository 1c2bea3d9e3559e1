"""Plug-and-Play (Tumanyan et al. 2023): features and self-attention of the source, injected into the target.

While the steps are early, the named residual layers of the target put out the source's features f, and the
named self-attention layers attend by the source's queries and keys; the values stay the target's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..locinv_core.backbones.attention import AttentionControl, AttentionLayer
from ..locinv_core.backbones.base import Backbone, require_diffusers
from ..locinv_core.backbones.stable_diffusion import EditModel
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

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel

_LAYERS = (
    "Names separated by commas; a block's name, as up_blocks.2, stands for all of its layers. Empty: as published,"
    " wherever this UNet has such layers."
)


@dataclass(frozen=True)
class PlugAndPlaySettings:
    """What is injected, and how long; the defaults are the published ones (τ_f = 40 and τ_A = 25 of 50).

    A name stands for the layer or for all the layers of the block that has it ("up_blocks.2"); () injects none. None
    takes the paper's decoder layer 4 for the features and layers 4 to 11 for self-attention, wherever a UNet has them:
    the second layer of the level that word maps are read from, and those after it on the way up.
    Raises ValueError for a value out of bounds.
    """

    guidance: float = guidance_setting()
    feature_share: float = share_setting(
        0.8,
        "The share of the steps in which the image's features are put in. More keeps its shapes, less lets them"
        " change.",
    )
    attention_share: float = share_setting(
        0.5, "The share of the steps in which self-attention is the image's. More keeps its layout."
    )
    feature_layers: tuple[str, ...] | None = setting(None, f"Residual layers whose features are put in. {_LAYERS}")
    attention_layers: tuple[str, ...] | None = setting(
        None, f"Self-attention layers that attend as in the image. {_LAYERS}"
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("feature_layers", "attention_layers"):
            value = getattr(self, name)
            if value is not None and not (
                isinstance(value, tuple) and all(isinstance(layer, str) and layer for layer in value)
            ):
                raise ValueError(f"{name}: got {value!r}, requires a tuple of layers' names, or None")


class SourceQueriesAndKeys(AttentionControl):
    """All rows attend by the source's queries and keys in the layers `names`."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def inputs(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if layer.name in self._names:
            return of_source(query), of_source(key), value
        return query, key, value


@contextmanager
def source_features(unet: UNet2DConditionModel, names: frozenset[str]) -> Iterator[None]:
    """Give all rows the source's features in the residual layers `names`, until the block ends.

    A residual layer's features are what it adds to its input, so the skip connection stays each row's own.
    """

    def inject(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return of_source(output)

    modules = dict(unet.named_modules())
    handles = [modules[name].conv2.register_forward_hook(inject) for name in names]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def feature_layers(model: EditModel, names: Sequence[str] | None = None) -> frozenset[str]:
    """The residual layers that `names` stand for. Raises ValueError for a name that is none of the UNet's."""
    from diffusers.models.resnet import ResnetBlock2D

    there = [name for name, module in model.unet.named_modules() if isinstance(module, ResnetBlock2D)]
    if names is None:
        names = [f"up_blocks.{_decoder_block(model)}.resnets.1"]
    return _named("feature_layers", names, there)


def attention_layers(model: Backbone, names: Sequence[str] | None = None) -> frozenset[str]:
    """The self-attention layers that `names` stand for; ValueError for a name that is none of the UNet's."""
    there = [layer.name for layer in model.layers if layer.kind == "self"]
    if names is None:
        first = (_decoder_block(model), 1)
        return frozenset(name for name in there if name.startswith("up_blocks.") and _place(name) >= first)
    return _named("attention_layers", names, there)


def check_choices(
    model: Backbone,
    source: Prompt,
    targets: Sequence[Prompt],
    settings: PlugAndPlaySettings,
    prior: LocalizationPrior | None = None,
) -> None:
    """Raise ValueError, before there is an inversion, for layers that the UNet lacks."""
    feature_layers(require_diffusers(model, "Plug-and-Play"), settings.feature_layers)
    attention_layers(model, settings.attention_layers)


@torch.no_grad()
def edit(
    model: Backbone,
    inversion: Inversion,
    targets: Sequence[Prompt],
    settings: PlugAndPlaySettings | None = None,
    *,
    prior: LocalizationPrior | None = None,
    tracker: CostTracker | None = None,
) -> Edit:
    """Edit an inverted image towards each of n target prompts; a step costs 1 + 2n passes.

    Rows with and without the prompt of a target are injected alike, as published.
    prior: checked, and not used by this method.
    Raises ValueError as `editing.edit` does for inversion, targets and prior, and for layers that
    the UNet lacks.
    """
    settings = settings or PlugAndPlaySettings()
    check_edit(model, inversion, targets, prior)
    whole = require_diffusers(model, "Plug-and-Play")
    features = feature_layers(whole, settings.feature_layers)
    attentions = attention_layers(model, settings.attention_layers)
    feature_steps = step_of(settings.feature_share, inversion.steps)
    attention_steps = step_of(settings.attention_share, inversion.steps)
    nothing: frozenset[str] = frozenset()

    @contextmanager
    def hold(step: int) -> Iterator[AttentionControl]:
        with source_features(whole.unet, features if step < feature_steps else nothing):
            yield SourceQueriesAndKeys(attentions if step < attention_steps else nothing)

    return edit_beside_source(model, inversion, targets, settings.guidance, hold, tracker or CostTracker())


def _decoder_block(model: Backbone) -> int:
    """The number of the block on the way up whose word maps are read: 1 in Stable Diffusion."""
    return max(layer.level for layer in model.layers) - model.map_layers[0].level


def _place(name: str) -> tuple[int, int]:
    """(block, layer of the block) of "up_blocks.1.attentions.2.…"."""
    parts = name.split(".")
    return int(parts[1]), int(parts[3])


def _named(setting: str, names: Sequence[str], there: Sequence[str]) -> frozenset[str]:
    found: set[str] = set()
    for name in names:
        layers = [layer for layer in there if layer == name or layer.startswith(f"{name}.")]
        if not layers:
            raise ValueError(f"{setting}: the UNet has no {name!r}, requires some of {', '.join(there)}")
        found.update(layers)
    return frozenset(found)


RECIPE = EditRecipe("pnp", edit=edit, settings_type=PlugAndPlaySettings, check=check_choices)
METHOD = inversion_method(RECIPE, "Plug-and-Play", "Tumanyan et al. 2023")
