"""Edit directions (pix2pix-zero, Parmar et al. 2023): what sentences with the new object have over the old."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..locinv_core.backbones.stable_diffusion import EditModel
from ..locinv_core.editing.edited_objects import edited_objects
from ..locinv_core.text.prompt import Prompt, parse_prompt
from ..locinv_core.text.word_alignment import align

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
def edit_direction(model: EditModel, pairs: Pairs) -> Tensor:
    """Mean context of the new sentences less that of the old, (1, L, D).

    Raises ValueError for no pairs, and for a sentence that is empty or too long for the text encoder.
    """
    if not pairs:
        raise ValueError("pairs: got none, requires at least one (old sentence, new sentence)")
    differences = [_encoded(model, new) - _encoded(model, old) for old, new in pairs]
    return torch.stack(differences).mean(dim=0)


def check_pairs(model: EditModel, pairs: Pairs) -> None:
    """Raise ValueError for a sentence that `edit_direction` would refuse."""
    for pair in pairs:
        for sentence in pair:
            _parsed(model, sentence)


def _encoded(model: EditModel, sentence: str) -> Tensor:
    return model.encode_prompt(_parsed(model, sentence).token_ids)


def _parsed(model: EditModel, sentence: str) -> Prompt:
    return parse_prompt(sentence, model.tokenizer, nouns=[], bindings=[])


def object_name(prompt: Prompt, noun: int) -> str:
    """The word at this index with the adjectives that describe it: "red cat"."""
    words = sorted({noun, *(adjective for owner, adjective in prompt.pairs if owner == noun)})
    return " ".join(prompt.words[i].text for i in words)
