"""Objects whose look changes keep their word's attention in their own place.

Tuning draws a word's attention together in its place and takes a good part of it away, there too: what
targets then attend with makes objects smaller and paler. An object that changes its colour alone has its place
already, so there its word attends as it did; what tuning has taken from other places stays taken. In a swap
the tuned map stays, which holds the new object in the place of the old one. No paper has this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones.attention import AttentionLayer
from ..backbones.stable_diffusion import EditModel
from ..inversion.ddim_inversion import Inversion
from ..localization.priors import LocalizationPrior
from ..text.prompt import Prompt
from ..text.word_alignment import Alignment
from .local_blend import edited_objects, kept_words, words_in
from .settings import EditSettings


@dataclass(frozen=True)
class KeptPlaces:
    """Where P tokens of the source attend as before tuning in the maps of n targets."""

    positions: tuple[int, ...]
    keys: Mapping[str, Tensor]
    """(heads, P, d) by cross-attention layer: the words' keys before they were tuned."""
    scales: Mapping[str, float]
    inside: Mapping[str, Tensor]
    """(n, N, P) bool by layer: whether a cell is in the place of an object that changes its look."""

    def probabilities(self, layer: AttentionLayer, query: Tensor, key: Tensor) -> Tensor:
        """What each target takes for the source's attention, (n, heads, N, L) in the query's dtype.

        query (heads, N, d) and key (heads, L, d) are the source's own. The scores of the words in their
        places are replaced before the softmax, so that every cell's attention still sums to 1.
        """
        scale, query = self.scales[layer.name], query.float()
        before = (query @ self.keys[layer.name].transpose(-1, -2)) * scale
        scores = (query @ key.float().transpose(-1, -2)) * scale
        inside = self.inside[layer.name][:, None]
        scores = scores.expand(len(inside), *scores.shape).clone()
        positions = list(self.positions)
        scores[..., positions] = torch.where(inside, before, scores[..., positions])
        return scores.softmax(dim=-1)


def kept_places(
    model: EditModel,
    inversion: Inversion,
    targets: Sequence[Prompt],
    alignments: Sequence[Alignment],
    settings: EditSettings,
    prior: LocalizationPrior | None,
) -> KeptPlaces | None:
    """The places that the targets keep; None where `settings` require none or there is nothing to keep."""
    if (
        prior is None
        or inversion.token_vectors is None
        or settings.attribute_attention != "original"
        or settings.target_embeddings != "original"
    ):
        return None
    source = inversion.prompt
    kept = [
        _changed_in_look(source, target, alignment, settings, prior)
        for target, alignment in zip(targets, alignments, strict=True)
    ]
    owners = {position: i for i, word in enumerate(source.words) for position in word.tokens}
    places = {p: name for name, word in prior.check_against(source).items() for p in word.tokens}
    positions = sorted(set(inversion.token_positions) & set(places))
    keeps = torch.tensor([[owners[p] in words for p in positions] for words in kept])
    if not keeps.any():
        return None
    context = model.encode_prompt(source.token_ids)[0, positions]
    height, width = inversion.latents.shape[-2:]
    keys, scales, inside = {}, {}, {}
    for layer in model.layers:
        if layer.kind != "cross":
            continue
        module = model.layer_modules[layer.name]
        keys[layer.name] = (
            module.to_k(context.to(model.dtype)).float().unflatten(-1, (module.heads, -1)).transpose(0, 1)
        )
        scales[layer.name] = module.scale
        grid = layer.grid(height, width)
        cells = torch.stack([prior.resample(places[p], grid).flatten() > 0 for p in positions], dim=-1)
        inside[layer.name] = (cells & keeps[:, None]).to(model.device)
    return KeptPlaces(tuple(positions), keys, scales, inside)


def _changed_in_look(
    source: Prompt, target: Prompt, alignment: Alignment, settings: EditSettings, prior: LocalizationPrior
) -> set[int]:
    """Indices of the source's words that the target keeps, of objects that it changes."""
    emphasised = words_in(target, settings.equalizer)
    objects = edited_objects(source, target, alignment, prior=prior, emphasised=emphasised)
    return {i for i, _ in kept_words(source, target, alignment)} & set(objects.source)
