"""The words' cross-attention maps along an inversion: averaged over its steps, or step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from einops import rearrange
from torch import Tensor

from ..backbones.attention import MapReader
from ..backbones.base import Backbone
from ..cost import CostTracker
from ..inversion.ddim_inversion import Inversion
from ..text.prompt import Prompt, same_word


@torch.no_grad()
def read_maps(
    model: Backbone, inversion: Inversion, contexts: Callable[[int], Tensor], *, tracker: CostTracker | None = None
) -> Iterator[Tensor]:
    """Cross-attention (B, rows, columns, L) at the pivots z_T … z_1, averaged over heads and map layers.

    `contexts(i)` gives the contexts (B, L, D) of step i; all B are read in one early-stopped pass. Raises
    ValueError for an inversion without steps.
    """
    if not inversion.steps:
        raise ValueError("inversion: it has no steps")
    tracker = tracker or CostTracker()
    rows, _ = model.map_layers[0].grid(*inversion.latents.shape[-2:])
    for i, timestep in enumerate(inversion.timesteps):
        context, reader = contexts(i), MapReader(model.map_layers)
        model.capture(inversion.pivot(i).expand(len(context), -1, -1, -1), timestep, context, reader, tracker=tracker)
        yield rearrange(reader.mean(), "b (y x) l -> b y x l", y=rows)
        tracker.report(i + 1, inversion.steps)


def average_maps(
    model: Backbone, inversion: Inversion, contexts: Callable[[int], Tensor], *, tracker: CostTracker | None = None
) -> Tensor:
    """The mean of `read_maps` over the steps, (B, rows, columns, L) float32."""
    steps = read_maps(model, inversion, contexts, tracker=tracker)
    total = next(steps)
    for maps in steps:
        total = total + maps
    return total / inversion.steps


def maps_before_and_after(
    model: Backbone, inversion: Inversion, words: Sequence[str], *, tracker: CostTracker | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Average maps (rows, columns) of the source prompt's words with their own vectors, and the optimized ones.

    Both are read at the same latents. Without optimized tokens the two are the same.
    """
    maps = average_maps(model, inversion, _before_and_after(model, inversion), tracker=tracker)
    before, after = (maps_of_words(maps[which], inversion.prompt, words) for which in (0, -1))
    return before, after


def maps_by_step(
    model: Backbone, inversion: Inversion, words: Sequence[str], *, tracker: CostTracker
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """As `maps_before_and_after`, for the same passes, but of every step: (T, rows, columns), noisiest first."""
    steps = list(read_maps(model, inversion, _before_and_after(model, inversion), tracker=tracker))
    before, after = (
        maps_of_words(torch.stack([maps[which] for maps in steps]), inversion.prompt, words) for which in (0, -1)
    )
    return before, after


def maps_of_words(maps: Tensor, prompt: Prompt, words: Sequence[str]) -> dict[str, Tensor]:
    """(…, rows, columns) for each word, on the CPU, from maps (…, rows, columns, L): the mean over its tokens."""
    return {word: maps[..., list(prompt.find(word).tokens)].mean(dim=-1).cpu() for word in words}


def maps_of_all_words(maps: Tensor, prompt: Prompt) -> dict[str, Tensor]:
    """As `maps_of_words`, of every word of the prompt; the second cat is "cat#2"."""
    named: dict[str, Tensor] = {}
    for index, word in enumerate(prompt.words):
        occurrence = sum(same_word(word.text, other.text) for other in prompt.words[: index + 1])
        name = word.text if occurrence == 1 else f"{word.text}#{occurrence}"
        named[name] = maps[..., list(word.tokens)].mean(dim=-1).cpu()
    return named


def _before_and_after(model: Backbone, inversion: Inversion) -> Callable[[int], Tensor]:
    """The contexts of a step: the prompt's own (1, L, D), or (2, L, D) with the optimized one after it."""
    plain = model.encode_prompt(inversion.prompt)
    if inversion.token_vectors is None:
        return lambda i: plain
    return lambda i: torch.cat([plain, inversion.context(model, i)])
