"""pix2pix-zero (Parmar et al. 2023): an edit direction, held to the source's layout by guidance.

The target reads the source prompt's context moved along the direction, and is guided away from the source
prompt, as the published code edits real images: with no direction the image comes back at any scale.
Before each step its latents move down the gradient of the distance between its cross-attention maps and the
source's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..locinv_core.backbones.attention import AttentionControl, AttentionLayer, MapReader
from ..locinv_core.backbones.base import Backbone
from ..locinv_core.cost import CostTracker
from ..locinv_core.ddim import step_pairs
from ..locinv_core.editing.edited_objects import edited_objects
from ..locinv_core.editing.prompt_to_prompt import Edit, check_edit
from ..locinv_core.guidance import guided_noise
from ..locinv_core.inversion.ddim_inversion import Inversion
from ..locinv_core.localization.attention_maps import maps_of_all_words
from ..locinv_core.localization.priors import LocalizationPrior
from ..locinv_core.recipe import EditRecipe
from ..locinv_core.setting import check_settings, guidance_setting, setting
from ..locinv_core.text.prompt import Prompt, parse_prompt
from ..locinv_core.text.word_alignment import align
from .shared.inversion_methods import inversion_method
from .shared.object_names import object_name

Pairs = Sequence[tuple[str, str]]
"""Sentences about the old object, each beside one about the new."""

TEMPLATES: tuple[str, ...] = (
    "a {}",
    "one {}",
    "the {}",
    "a photo of a {}",
    "a picture of a {}",
    "a photo of the {}",
    "a picture of the {} on the grass",
    "the {} and a house",
    "a tree and the {}",
    "on the beach, a {}",
)
"""Sentences around the object's name, which stands early and late in them."""


@dataclass(frozen=True)
class Pix2PixZeroSettings:
    """The direction and the guidance; the defaults are the published ones, and `templates` our own.

    `guidance` is that of the targets, whose negative prompt is the source prompt; `attention_rate` is λ_xa. `pairs`,
    (old sentence, new sentence), are those whose mean difference is the direction of all targets; where there are
    none, `templates` make them of the objects that each target changes. Raises ValueError for a value out of bounds.
    """

    guidance: float = guidance_setting(5.0, "Guidance scale, away from what the image shows. 1: not guided.")
    attention_rate: float = setting(
        0.1,
        "How strongly words are held to where they look in the image. 0 holds nothing, and is faster.",
        0,
        1000,
        step=0.01,
    )
    pairs: tuple[tuple[str, str], ...] = setting(
        (),
        "The direction: a line 'old sentence -> new sentence' for each pair, for example a cat -> a fox. Empty: made"
        " of the templates and what the prompts change.",
    )
    templates: tuple[str, ...] = setting(
        TEMPLATES, "Without pairs: a sentence a line, with {} where an object's name goes. Empty: ten plain ones."
    )

    def __post_init__(self) -> None:
        check_settings(self)
        for name in ("pairs", "templates"):
            if not isinstance(getattr(self, name), (tuple, list)):
                raise ValueError(f"{name}: got {getattr(self, name)!r}, requires a list")
        for pair in self.pairs:
            if not (
                isinstance(pair, tuple)
                and len(pair) == 2
                and all(isinstance(text, str) and text.strip() for text in pair)
            ):
                raise ValueError(f"pairs: got {pair!r}, requires two sentences (old, new)")
        if not self.templates:
            raise ValueError("templates: got none, requires at least one sentence with {}")
        for template in self.templates:
            if not isinstance(template, str) or template.count("{}") != 1:
                raise ValueError(f"templates: got {template!r}, requires a sentence with one {{}}")


def sentence_pairs(source: Prompt, target: Prompt, templates: Sequence[str] = TEMPLATES) -> tuple[Pairs, ...]:
    """For each object that the edit changes, the sentences that name it as source and as target do.

    An object is named with its adjectives ("red cat" → "red fox"). Where the objects of the two prompts do not
    pair off, as when one is added, the prompts themselves are the one pair.
    """
    objects = edited_objects(source, target, align(source, target))
    if not objects.source or len(objects.source) != len(objects.target):
        return (((source.text, target.text),),)
    names = [
        (object_name(source, old), object_name(target, new))
        for old, new in zip(objects.source, objects.target, strict=True)
    ]
    return tuple(tuple((t.replace("{}", old), t.replace("{}", new)) for t in templates) for old, new in names)


@torch.no_grad()
def edit_direction(model: Backbone, pairs: Pairs) -> Tensor:
    """Mean context of the new sentences less that of the old, (1, L, D).

    Raises ValueError for no pairs, and for a sentence that is empty or too long for the text encoder.
    """
    if not pairs:
        raise ValueError("pairs: got none, requires at least one (old sentence, new sentence)")
    differences = [_encoded(model, new) - _encoded(model, old) for old, new in pairs]
    return torch.stack(differences).mean(dim=0)


def check_pairs(model: Backbone, pairs: Pairs) -> None:
    """Raise ValueError for a sentence that `edit_direction` would refuse."""
    for pair in pairs:
        for sentence in pair:
            _parsed(model, sentence)


def _encoded(model: Backbone, sentence: str) -> Tensor:
    return model.encode_prompt(_parsed(model, sentence))


def _parsed(model: Backbone, sentence: str) -> Prompt:
    return parse_prompt(sentence, model.tokenizer, nouns=[], bindings=[])


class LayerMaps(AttentionControl):
    """Keeps the cross-attention of every layer, (B, heads, N, L) float32, by the layer's name."""

    def __init__(self) -> None:
        self.maps: dict[str, Tensor] = {}

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return layer.kind == "cross"

    def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
        if self.needs_probabilities(layer):
            self.maps[layer.name] = probabilities.float()
        return probabilities


def last_cross_attention(model: Backbone) -> AttentionLayer:
    """The last cross-attention layer of a pass."""
    return [layer for layer in model.layers if layer.kind == "cross"][-1]


def cross_attention_maps(
    model: Backbone, latents: Tensor, timestep: int, context: Tensor, tracker: CostTracker
) -> Mapping[str, Tensor]:
    """The maps of every cross-attention layer (B, heads, N, L), from a pass that stops after the last."""
    kept = LayerMaps()
    model.capture(latents, timestep, context, kept, tracker=tracker, stop_after=last_cross_attention(model))
    return kept.maps


def map_distance(maps: Mapping[str, Tensor], reference: Mapping[str, Tensor]) -> Tensor:
    """‖M − M_ref‖² of each row, (B,): summed over layers, cells and tokens, averaged over heads.

    `reference` has one row, which all rows of `maps` are compared with.
    """
    distances = [(maps[name] - reference[name]).square().sum(dim=(-2, -1)).mean(dim=-1) for name in maps]
    return torch.stack(distances).sum(dim=0)


def guided_latents(
    model: Backbone,
    latents: Tensor,
    timestep: int,
    context: Tensor,
    reference: Mapping[str, Tensor],
    rate: float,
    tracker: CostTracker,
) -> Tensor:
    """z − λ·∇_z ‖M(z) − M_ref‖² for latents (n, C, h, w) and contexts (n, L, D).

    Every row has a distance and a gradient of its own. Costs n early-stopped passes, forward and back.
    """
    with torch.inference_mode(False), torch.enable_grad():
        z = latents.detach().clone().requires_grad_(True)
        maps = cross_attention_maps(model, z, timestep, context.clone(), tracker)
        (gradient,) = torch.autograd.grad(map_distance(maps, reference).sum(), z)
    tracker.count_backward(len(z), model.share(last_cross_attention(model), *z.shape[-2:]))
    return z.detach() - rate * gradient


def check_choices(
    model: Backbone,
    source: Prompt,
    targets: Sequence[Prompt],
    settings: Pix2PixZeroSettings,
    prior: LocalizationPrior | None = None,
) -> None:
    """Raise ValueError, before there is an inversion, for a sentence that the text encoder cannot
    read whole."""
    for target in targets:
        for pairs in _pairs(source, target, settings):
            check_pairs(model, pairs)


@torch.no_grad()
def edit(
    model: Backbone,
    inversion: Inversion,
    targets: Sequence[Prompt],
    settings: Pix2PixZeroSettings | None = None,
    *,
    prior: LocalizationPrior | None = None,
    tracker: CostTracker | None = None,
) -> Edit:
    """Edit an inverted image towards each of n target prompts.

    The reference maps are read along the pivots, where the source stands if it is reconstructed without a
    fault; the published regularisation of the inversion's noise is left to whoever makes the inversion.
    Only the rows with the moved prompt go down the gradient; those of the source prompt stand beside them.
    With s the share of a pass up to the last cross-attention layer, a step costs s·(1 + 3n) + 2n passes, at
    guidance 1 s·(1 + 3n) + n; at a rate of 0 the 3n·s are saved.
    prior: checked, and not used by this method.
    Raises ValueError as `editing.edit` does for inversion, targets and prior, and for sentences
    that are too long for the text encoder.
    """
    settings = settings or Pix2PixZeroSettings()
    tracker = tracker or CostTracker()
    check_edit(model, inversion, targets, prior)
    with tracker.stage("edit"), torch.inference_mode(False), torch.no_grad():
        source, n, guided = inversion.prompt, len(targets), settings.guidance != 1
        directions = torch.cat([_direction(model, source, target, settings) for target in targets])
        z = inversion.pivot(0).to(model.device).clone().expand(n, -1, -1, -1)
        totals: list[Tensor] = []
        for i, (timestep, following) in enumerate(step_pairs(inversion.timesteps)):
            context = inversion.context(model, i)
            moved = context + directions
            pivot = inversion.pivot(i).to(z).clone()
            reference = cross_attention_maps(model, pivot, timestep, context, tracker)
            if settings.attention_rate:
                z = guided_latents(model, z, timestep, moved, reference, settings.attention_rate, tracker)
            reader = MapReader(model.map_layers)
            latents, rows = z, moved
            if guided:
                latents, rows = torch.cat([z, z]), torch.cat([context.expand_as(moved), moved])
            without = slice(len(latents) - n)
            noise = model.predict_noise(latents, timestep, rows, tracker=tracker, control=reader, unconditional=without)
            noise = guided_noise(noise[-n:], noise[:n] if guided else None, settings.guidance)
            z = model.schedule.ddim_step(z, noise, start=timestep, end=following)
            own = torch.stack([reference[layer.name].mean(dim=1) for layer in model.map_layers]).mean(dim=0)
            totals.append(torch.cat([own, reader.mean()[-n:]]))
            tracker.report(i + 1, inversion.steps, z)
    mean = torch.stack(totals).mean(dim=0).unflatten(1, model.map_layers[0].grid(*z.shape[-2:]))
    return Edit(
        latents=z,
        source_latents=inversion.pivot(inversion.steps).to(z),
        source_maps=maps_of_all_words(mean[0], source),
        # A target's tokens stand where the source's do, whatever words the target prompt has.
        target_maps=tuple(maps_of_all_words(mean[1 + k], source) for k in range(n)),
        blend_masks=None,
    )


def _direction(model: Backbone, source: Prompt, target: Prompt, settings: Pix2PixZeroSettings) -> Tensor:
    """The sum of the directions of all the objects that change, (1, L, D)."""
    groups = _pairs(source, target, settings)
    return torch.stack([edit_direction(model, pairs) for pairs in groups]).sum(dim=0)


def _pairs(source: Prompt, target: Prompt, settings: Pix2PixZeroSettings) -> tuple[Pairs, ...]:
    """Of each object that changes, the sentences that make its direction."""
    return (settings.pairs,) if settings.pairs else sentence_pairs(source, target, settings.templates)


RECIPE = EditRecipe("pix2pix-zero", edit=edit, settings_type=Pix2PixZeroSettings, check=check_choices)
METHOD = inversion_method(RECIPE, "pix2pix-zero", "Parmar et al. 2023")
