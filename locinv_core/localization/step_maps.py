"""The words' cross-attention maps at each step of an inversion, for the slider of Cross-Attention Maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from ..backbones.attention import MapReader
from .attention_maps import maps_of_words

if TYPE_CHECKING:
    from torch import Tensor

    from ..backbones.stable_diffusion import EditModel
    from ..cost import CostTracker
    from ..inversion.ddim_inversion import Inversion


@torch.no_grad()
def maps_by_step(
    model: EditModel, inversion: Inversion, words: Sequence[str], *, tracker: CostTracker
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Maps (T, rows, columns) of the words, noisiest step first: with their own vectors, with the tuned ones.

    Their mean over T is what `word_maps.maps_before_and_after` gives, for the same passes. Without tuned
    tokens the two are the same.
    """
    if not inversion.steps:
        raise ValueError("inversion: it has no steps")
    grid = model.map_layers[0].grid(*inversion.latents.shape[-2:])
    plain = model.encode_prompt(inversion.prompt.token_ids)
    found: list[list[dict[str, Tensor]]] = []
    for i, timestep in enumerate(inversion.timesteps):
        context = plain
        if inversion.token_vectors is not None:
            context = torch.cat([plain, inversion.context(model, i)])
        reader = MapReader(model.map_layers)
        model.capture(inversion.pivot(i).expand(len(context), -1, -1, -1), timestep, context, reader, tracker=tracker)
        maps = reader.mean().unflatten(1, grid)
        found.append([maps_of_words(each, inversion.prompt, words) for each in maps])
        tracker.report(i + 1, inversion.steps)
    before, after = ({word: torch.stack([step[which][word] for step in found]) for word in words} for which in (0, -1))
    return before, after
