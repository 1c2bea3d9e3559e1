"""The words' cross-attention maps, averaged over the steps of an inversion: what tuning is judged by."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from ..backbones.attention import MapReader
from ..backbones.stable_diffusion import EditModel
from ..cost import CostTracker
from ..inversion.ddim_inversion import Inversion
from ..text.prompt import Prompt


@torch.no_grad()
def average_maps(
    model: EditModel,
    inversion: Inversion,
    contexts: Callable[[int], Tensor],
    *,
    tracker: CostTracker | None = None,
) -> Tensor:
    """Cross-attention along the pivots z_T … z_1, averaged over steps, heads and the layers that are read.

    `contexts(i)` gives the contexts (B, L, D) of step i; all B are read in one early-stopped pass.
    Returns (B, rows, columns, L) float32.
    """
    tracker = tracker or CostTracker()
    total: Tensor | None = None
    for i, timestep in enumerate(inversion.timesteps):
        context = contexts(i)
        reader = MapReader(model.map_layers)
        latents = inversion.pivot(i).expand(len(context), -1, -1, -1)
        model.capture(latents, timestep, context, reader, tracker=tracker)
        maps = reader.mean()
        total = maps if total is None else total + maps
        tracker.report(i + 1, inversion.steps)
    if total is None:
        raise ValueError("inversion: it has no steps")
    rows, columns = model.map_layers[0].grid(*inversion.latents.shape[-2:])
    return (total / inversion.steps).unflatten(1, (rows, columns))


def maps_before_and_after(
    model: EditModel, inversion: Inversion, words: Sequence[str], *, tracker: CostTracker | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Maps (rows, columns) of the source prompt's words with their own vectors, and with the tuned ones.

    Both are read at the same latents. Without tuned tokens the two are the same.
    """
    plain = model.encode_prompt(inversion.prompt.token_ids)
    if inversion.token_vectors is None:
        before = average_maps(model, inversion, lambda i: plain, tracker=tracker)
        return maps_of_words(before[0], inversion.prompt, words), maps_of_words(before[0], inversion.prompt, words)
    both = average_maps(model, inversion, lambda i: torch.cat([plain, inversion.context(model, i)]), tracker=tracker)
    return maps_of_words(both[0], inversion.prompt, words), maps_of_words(both[1], inversion.prompt, words)


def maps_of_words(maps: Tensor, prompt: Prompt, words: Sequence[str]) -> dict[str, Tensor]:
    """(rows, columns) for each word from maps (rows, columns, L): the mean over the word's tokens."""
    found: Mapping[str, tuple[int, ...]] = {word: prompt.find(word).tokens for word in words}
    return {word: maps[..., list(tokens)].mean(dim=-1).cpu() for word, tokens in found.items()}
