"""The word maps that Cross-Attention Maps shows: read from an inversion, or chosen from an edit's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from .inverted_image import InvertedImage, WordMaps, noun_names

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.cost import CostTracker
    from ...locinv_core.localization.priors import LocalizationPrior

T = TypeVar("T")


def read_maps(
    source: InvertedImage, words: Sequence[str], prior: LocalizationPrior | None, tracker: CostTracker
) -> WordMaps:
    """The maps of `words` at the inversion's latents, after tuning and, if anything was tuned, before it.

    Without words: the prior's, and all other nouns. Raises ValueError for a word that the prompt lacks and
    for a prior of another size or of other words.
    """
    from ...locinv_core.localization.attention_maps import maps_by_step
    from ...locinv_core.localization.plan import word_name
    from ...locinv_core.localization.priors import prior_word
    from .ui_payloads import STEP_SIDE, reduced

    inversion = source.inversion
    prompt = inversion.prompt
    placed: tuple[str, ...] = ()
    if prior is not None:
        source.framed(prior).check_against(prompt)
        placed = prior.words
    if not words:
        words = [*placed, *(name for name in noun_names(prompt) if prior_word(name) not in placed)]
    if not words:
        words = [word_name(prompt, index) for index in range(len(prompt.words))]
    for word in words:
        prompt.find(word)
    with source.model.ready() as model, tracker.stage("maps"):
        before, after = maps_by_step(model, inversion, words, tracker=tracker)
    if inversion.token_vectors is None:
        before = {}

    def small(maps: Tensor) -> list[Tensor]:
        return [reduced(source.on_image(step), STEP_SIDE) for step in maps]

    return WordMaps(
        source.image,
        {word: source.on_image(maps.mean(dim=0)) for word, maps in after.items()},
        {word: source.on_image(maps.mean(dim=0)) for word, maps in before.items()},
        {word: small(maps) for word, maps in after.items()},
        {word: small(maps) for word, maps in before.items()},
    )


def selected(maps: WordMaps, words: Sequence[str]) -> WordMaps:
    """Of these maps, those of `words`; all without any. Raises ValueError for a word that has none."""
    if not words:
        return maps
    names = []
    for word in words:
        same = [name for name in maps.maps if name.casefold() == word.casefold()]
        if not same:
            raise ValueError(f"words: there is no map of {word!r}; there are maps of: {', '.join(maps.maps)}")
        names.append(same[0])

    def kept(values: Mapping[str, T]) -> dict[str, T]:
        return {name: values[name] for name in names if name in values}

    return WordMaps(maps.image, kept(maps.maps), kept(maps.before), kept(maps.by_step), kept(maps.before_by_step))


def places_in(maps: WordMaps, prior: LocalizationPrior | None) -> dict[str, Tensor]:
    """The prior's masks (H, W) by those of the words with maps that it has, whatever their capitals.

    Raises ValueError for a prior of another size than the image's.
    """
    from ...locinv_core.localization.priors import prior_word

    if prior is None:
        return {}
    height, width = maps.image.shape[-2:]
    if prior.size != (height, width):
        raise ValueError(
            f"prior: its masks have {prior.size[1]}x{prior.size[0]} pixels, requires the image's {width}x{height}"
        )
    keys = {word: prior_word(word) for word in maps.maps}
    return {word: prior.masks[key] for word, key in keys.items() if key in prior.masks}


def masks_of(maps: WordMaps) -> Tensor:
    """(words, H, W): each map as a share of its maximum."""
    stacked = torch.stack(list(maps.maps.values()))
    return stacked / stacked.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
