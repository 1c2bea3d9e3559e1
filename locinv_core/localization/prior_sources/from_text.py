"""Objects by a phrase: what the models that find them share, and the source `text`, which takes any of these models.

Detectors give boxes, a detection prior; segmenters give a probability for each pixel, a segment prior.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from ...cost import CostTracker
from ...options import KEEPS, Keep
from ..priors import LocalizationPrior, Size, from_boxes, from_masks, image_size, merge, prior_word
from .models import Architecture, open_pretrained, split_hub
from .registry import PriorSource, prior_source, prior_source_names

TEXT_STAGE = "locate"
FORM = "PHRASE@MODEL"


@dataclass(frozen=True, eq=False)
class TextLocator(ABC):
    """A model that finds what a phrase names. threshold: the least score that is usual for it."""

    model: Any
    processor: Any
    name: str
    threshold: ClassVar[float]
    architecture: ClassVar[Architecture]

    def tokens(self, phrase: str) -> tuple[int, int]:
        """How many tokens the phrase has, and how many the model reads."""
        most = int(self.model.config.text_config.max_position_embeddings)
        return len(self.processor.tokenizer(self.query(phrase))["input_ids"]), most

    def query(self, phrase: str) -> str:
        """The phrase as the model reads it."""
        return phrase

    def on_device(self, inputs: Any) -> Any:
        """The processor's output where the model is."""
        return inputs.to(next(self.model.parameters()).device)

    @abstractmethod
    def find(self, image: Tensor, word: str, phrase: str, least: float, keep: Keep) -> LocalizationPrior:
        """What has a score of at least `least`. Raises ValueError where there is nothing."""


class BoxLocator(TextLocator):
    """A detector."""

    @abstractmethod
    def detect(self, image: Tensor, phrase: str) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4) in pixels, as the model gives them, and their scores (N,)."""

    @torch.no_grad()
    def boxes(self, image: Tensor, phrase: str) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4) in pixels on `image` (1, 3, H, W) and their scores (N,), highest first.

        Boxes are clipped to the image, and those without area left out.
        """
        corners, scores = (given.float().cpu() for given in self.detect(image, phrase))
        corners = clip_boxes_to_image(corners, image_size(image))
        order = scores.argsort(descending=True, stable=True)
        order = order[(corners[order, 2:] > corners[order, :2]).all(dim=-1)]
        return corners[order], scores[order]

    def find(self, image: Tensor, word: str, phrase: str, least: float, keep: Keep) -> LocalizationPrior:
        """The boxes of a score of at least `least`. Raises ValueError where there is none."""
        boxes, sureness = self.boxes(image, phrase)
        _check_found(word, phrase, float(sureness[0]) if len(sureness) else 0.0, least)
        chosen = boxes[sureness >= least]
        return from_boxes({word: chosen[:1] if keep == "best" else chosen}, image_size(image))


class MapLocator(TextLocator):
    """A segmenter."""

    @abstractmethod
    def sureness(self, image: Tensor, phrase: str) -> Tensor:
        """(H, W) float32 from 0 to 1 on `image` (1, 3, H, W)."""

    def find(self, image: Tensor, word: str, phrase: str, least: float, keep: Keep) -> LocalizationPrior:
        """The pixels of at least `least`. Raises ValueError where there is none."""
        from scipy.ndimage import label

        sureness = self.sureness(image, phrase)
        _check_found(word, phrase, float(sureness.max()), least)
        inside = sureness >= least
        if keep == "best":
            patches = torch.from_numpy(label(inside.numpy())[0])
            inside = patches == patches.flatten()[sureness.argmax()]
        return from_masks({word: inside})


def enlarged(maps: Tensor, size: Size) -> Tensor:
    """Maps (..., h, w) of logits on the image's pixels: (C, H, W) float32, on the CPU."""
    maps = maps.float().cpu().reshape(1, -1, *maps.shape[-2:])
    return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0]


def prior_from_text(
    locator: TextLocator,
    image: Tensor,
    phrases: Mapping[str, str],
    *,
    threshold: float | None = None,
    keep: Keep = "best",
    tracker: CostTracker | None = None,
) -> LocalizationPrior:
    """Where each word's object is on `image` (1, 3, H, W) in [0, 1], by the phrase that describes it.

    phrases: word -> what the model searches for. threshold: the least score; None is the model's usual one.
    keep: of several boxes, or of several patches of an outline, the one of the highest score or all. One pass
    a word. Raises ValueError, before any pass, for no word and a phrase that is empty or too long; and for an
    object that is not found, saying how sure the model was.
    """
    image_size(image)
    if not phrases:
        raise ValueError("words: got none, requires at least one word of the prompt")
    if keep not in KEEPS:
        raise ValueError(f"keep: got {keep!r}, requires one of {', '.join(KEEPS)}")
    least = locator.threshold if threshold is None else threshold
    if not 0 < least < 1:
        raise ValueError(f"threshold: got {least}, requires a number between 0 and 1")
    for word, phrase in phrases.items():
        prior_word(word)
        if not phrase.strip(" ."):
            raise ValueError(f"words: {word!r} is to be found by an empty text, requires a few words")
        tokens, most = locator.tokens(phrase)
        if tokens > most:
            raise ValueError(f"words: {phrase!r} has {tokens} tokens, and the model reads {most}")
    tracker = tracker or CostTracker()
    priors = []
    with tracker.stage(TEXT_STAGE):
        for number, (word, phrase) in enumerate(phrases.items(), start=1):
            priors.append(locator.find(image, word, phrase, least, keep))
            tracker.report(number, len(phrases))
    return merge(*priors)


def load_text_locator(
    name: str | Path, kinds: Sequence[type[TextLocator]] = (), *, download: bool = False
) -> TextLocator:
    """Open a model that finds by a phrase: a folder of transformers' layout, or a hub name in the local cache.

    kinds: those it may be of; none are all that a prior source has. download: fetch what the cache lacks.
    Raises ValueError as `open_pretrained` does.
    """
    kinds = kinds or text_locators()
    found, model, processor = open_pretrained(name, [kind.architecture for kind in kinds], download=download)
    kind = next(kind for kind in kinds if kind.architecture is found)
    return kind(model, processor, str(name))


def text_locators() -> list[type[TextLocator]]:
    """The classes of all the prior sources that find by a phrase."""
    return [kind for name in prior_source_names() if (kind := prior_source(name).locator) is not None]


def text_source(label: str, *kinds: type[TextLocator]) -> PriorSource:
    """The source "PHRASE@MODEL" whose model is one of these kinds; none are all."""

    def prior(word: str, given: str, image: Tensor) -> LocalizationPrior:
        phrase, at, name = given.partition("@")
        if not at:
            raise ValueError(f"prior of {word!r}: got {given!r}, requires {FORM}")
        name, download = split_hub(name)
        locator = load_text_locator(name, kinds, download=download)
        return prior_from_text(locator, image, {word: phrase.strip() or word})

    return PriorSource(label, FORM, prior, kinds[0] if kinds else None)


def _check_found(word: str, phrase: str, most: float, least: float) -> None:
    if most < least:
        raise ValueError(
            f"words: {phrase!r} for {word!r} was not found: the model is nowhere more than {most:.2f} sure,"
            f" requires {least:g}; lower the threshold or describe the object in other words"
        )


PRIOR_SOURCE = text_source("what a model of any of these kinds finds by a phrase")
