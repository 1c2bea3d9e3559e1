"""Attribute preservation: in attribute edits, targets take the attention of before optimization inside the mask.

Token optimization draws a word's attention together inside its mask and takes a good part of it away, there too:
what targets then attend with makes objects smaller and paler. An object that changes its colour alone is where it
should be, so inside its mask its word attends as before; what was taken from elsewhere stays taken. In a swap the
optimized map stays, which holds the new object where the old one was. No paper has this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..backbones.attention import AttentionLayer
from ..backbones.base import Backbone
from ..inversion.ddim_inversion import Inversion
from ..localization.priors import LocalizationPrior
from ..text.prompt import Prompt
from ..text.word_alignment import Alignment
from .edited_objects import edited_objects, kept_words, words_in
from .settings import EditSettings


@dataclass(frozen=True)
class PreservedAttention:
    """A `SourceAttention` in which P tokens of the source attend, inside masks, as before optimization."""

    positions: tuple[int, ...]
    keys: Mapping[str, Tensor]
    """(heads, P, d) by cross-attention layer: the tokens' keys before they were optimized."""
    scales: Mapping[str, float]
    inside: Mapping[str, Tensor]
    """(n, N, P) bool by layer: whether a cell is in the mask of an object whose attributes a target changes."""

    def probabilities(self, layer: AttentionLayer, query: Tensor, key: Tensor) -> Tensor:
        """What each target takes for the source's attention, (n, heads, N, L) float32.

        query (heads, N, d) and key (heads, L, d) are the source's own. The scores of the tokens inside their
        masks are replaced before the softmax, so that every cell's attention still sums to 1.
        """
        scale, query = self.scales[layer.name], query.float()
        before = (query @ rearrange(self.keys[layer.name], "h p d -> h d p")) * scale
        scores = (query @ rearrange(key.float(), "h l d -> h d l")) * scale
        inside = rearrange(self.inside[layer.name], "n q p -> n 1 q p")
        scores = scores.expand(len(inside), *scores.shape).clone()
        positions = list(self.positions)
        scores[..., positions] = torch.where(inside, before, scores[..., positions])
        return scores.softmax(dim=-1)


def preserved_attention(
    model: Backbone,
    inversion: Inversion,
    targets: Sequence[Prompt],
    alignments: Sequence[Alignment],
    settings: EditSettings,
    prior: LocalizationPrior | None,
) -> PreservedAttention | None:
    """The attention that the targets preserve; None where `settings` exclude it or there is nothing to preserve."""
    if prior is None or inversion.token_vectors is None:
        return None
    if settings.attribute_attention != "original" or settings.target_embeddings != "original":
        return None
    source = inversion.prompt
    kept = [
        _changed_in_attributes(source, target, alignment, settings, prior)
        for target, alignment in zip(targets, alignments, strict=True)
    ]
    owners = {position: i for i, word in enumerate(source.words) for position in word.tokens}
    names = {p: name for name, word in prior.check_against(source).items() for p in word.tokens}
    positions = sorted(set(inversion.token_positions) & set(names))
    keeps = torch.tensor([[owners[p] in words for p in positions] for words in kept])
    if not keeps.any():
        return None
    context = model.encode_prompt(source)[:, positions]
    size = inversion.latents.shape[-2], inversion.latents.shape[-1]
    keys, scales, inside = {}, {}, {}
    for layer in model.layers:
        if layer.kind != "cross":
            continue
        keys[layer.name] = model.word_keys(layer.name, context)[0]
        scales[layer.name] = model.key_scale(layer.name)
        cells = torch.stack([prior.resample(names[p], layer.grid(*size)).flatten() > 0 for p in positions], dim=-1)
        inside[layer.name] = (cells & rearrange(keeps, "n p -> n 1 p")).to(model.device)
    return PreservedAttention(tuple(positions), keys, scales, inside)


def _changed_in_attributes(
    source: Prompt, target: Prompt, alignment: Alignment, settings: EditSettings, prior: LocalizationPrior
) -> set[int]:
    """Indices of the source's words that the target keeps, of objects that it changes."""
    emphasised = words_in(target, settings.equalizer)
    objects = edited_objects(source, target, alignment, prior=prior, emphasised=emphasised)
    return {i for i, _ in kept_words(source, target, alignment)} & set(objects.source)
