"""Objects by a phrase: Grounding DINO (Liu et al. 2023) gives boxes, a detection prior; CLIPSeg (Lüddecke and
Ecker 2022) gives rough outlines, a segment prior. Both through transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor
from torchvision.ops import clip_boxes_to_image

from ..backbones.diffusers_folder import quiet_loading
from ..cost import CostTracker
from ..imaging.io import to_pil
from ..options import KEEPS, Keep
from .prior_sources import PriorSource
from .priors import LocalizationPrior, from_boxes, from_masks, image_size, merge, prior_word

TEXT_STAGE = "locate"


@dataclass(frozen=True, eq=False)
class GroundingDino:
    """A detector of what a phrase names, by boxes."""

    model: Any
    processor: Any
    name: str
    threshold: ClassVar[float] = 0.3

    def tokens(self, phrase: str) -> tuple[int, int]:
        """How many tokens the phrase has, and how many the model reads."""
        return len(self.processor.tokenizer(self._query(phrase))["input_ids"]), int(self.model.config.max_text_len)

    @torch.no_grad()
    def boxes(self, image: Tensor, phrase: str) -> tuple[Tensor, Tensor]:
        """Boxes (N, 4) in pixels on `image` (1, 3, H, W) and their scores (N,), highest first.

        A box's score is that of the phrase's best token; boxes are clipped to the image, and those without
        area left out.
        """
        inputs = self.processor(images=to_pil(image), text=self._query(phrase), return_tensors="pt")
        output = self.model(**inputs.to(next(self.model.parameters()).device))
        size = image_size(image)
        # Every box, and no label. By position: the thresholds' names differ between transformers' versions.
        answer = self.processor.post_process_grounded_object_detection(
            output, inputs["input_ids"], 0.0, 1.0, target_sizes=[size]
        )[0]
        corners, scores = clip_boxes_to_image(answer["boxes"].float().cpu(), size), answer["scores"].float().cpu()
        order = scores.argsort(descending=True, stable=True)
        order = order[(corners[order, 2:] > corners[order, :2]).all(dim=-1)]
        return corners[order], scores[order]

    def find(self, image: Tensor, word: str, phrase: str, least: float, keep: Keep) -> LocalizationPrior:
        """The boxes of a score of at least `least`. Raises ValueError where there is none."""
        boxes, sureness = self.boxes(image, phrase)
        _check_found(word, phrase, float(sureness[0]) if len(sureness) else 0.0, least)
        chosen = boxes[sureness >= least]
        return from_boxes({word: chosen[:1] if keep == "best" else chosen}, image_size(image))

    @staticmethod
    def _query(phrase: str) -> str:
        """As the model was trained: lower case, ended by a full stop."""
        return phrase.lower().strip(" .") + "."


@dataclass(frozen=True, eq=False)
class ClipSeg:
    """A segmenter of what a phrase names: a probability for each pixel."""

    model: Any
    processor: Any
    name: str
    threshold: ClassVar[float] = 0.4

    def tokens(self, phrase: str) -> tuple[int, int]:
        """How many tokens the phrase has, and how many the model reads."""
        most = int(self.model.config.text_config.max_position_embeddings)
        return len(self.processor.tokenizer(phrase)["input_ids"]), most

    @torch.no_grad()
    def sureness(self, image: Tensor, phrase: str) -> Tensor:
        """(H, W) float32 from 0 to 1 on `image` (1, 3, H, W)."""
        # Words first, then the image: the model requires as many images as phrases.
        inputs = self.processor(text=[phrase], images=[to_pil(image)], return_tensors="pt")
        logits = self.model(**inputs.to(next(self.model.parameters()).device)).logits
        maps = logits.float().cpu().reshape(1, 1, *logits.shape[-2:])
        size = image_size(image)
        return F.interpolate(maps, size=size, mode="bilinear", align_corners=False)[0, 0].sigmoid()

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


TextLocator = GroundingDino | ClipSeg


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


def load_text_locator(name: str | Path) -> TextLocator:
    """Open a Grounding DINO or a CLIPSeg: a folder of transformers' layout, or a hub name in the local cache.

    Nothing is downloaded, and only safetensors are read. Raises ValueError for what cannot be had and for
    another network.
    """
    from transformers import (
        AutoConfig,
        CLIPSegForImageSegmentation,
        CLIPSegProcessor,
        GroundingDinoForObjectDetection,
        GroundingDinoProcessor,
    )

    path = Path(name).expanduser()
    location = str(path) if path.is_dir() else str(name)
    kinds: dict[str, tuple[Any, Any, Any]] = {
        "grounding-dino": (GroundingDino, GroundingDinoForObjectDetection, GroundingDinoProcessor),
        "clipseg": (ClipSeg, CLIPSegForImageSegmentation, CLIPSegProcessor),
    }
    kind = ""
    try:
        with torch.inference_mode(False), quiet_loading():
            kind = AutoConfig.from_pretrained(location, local_files_only=True).model_type
            if kind not in kinds:
                raise ValueError(f"it is a {kind}")
            locator, network, processor = kinds[kind]
            model, told = network.from_pretrained(
                location, local_files_only=True, use_safetensors=True, output_loading_info=True
            )
            # Weights kept in half precision come as such, and images are prepared in float32.
            model = model.float()
            beside = processor.from_pretrained(location, local_files_only=True)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"model: {str(name)!r} cannot be opened ({reason}); requires a Grounding DINO or a CLIPSeg with"
            " safetensors, as a folder of transformers' layout or a Hugging Face name in the local cache"
        ) from error
    if told["missing_keys"] or told["mismatched_keys"]:
        count = len(told["missing_keys"]) + len(told["mismatched_keys"])
        raise ValueError(f"model: {str(name)!r}: {count} of its weights are missing or of another shape")
    found: TextLocator = locator(model.requires_grad_(False).eval(), beside, str(name))
    return found


def _check_found(word: str, phrase: str, most: float, least: float) -> None:
    if most < least:
        raise ValueError(
            f"words: {phrase!r} for {word!r} was not found: the model is nowhere more than {most:.2f} sure,"
            f" requires {least:g}; lower the threshold or describe the object in other words"
        )


def _from_text(word: str, given: str, image: Tensor) -> LocalizationPrior:
    phrase, at, name = given.partition("@")
    if not at:
        raise ValueError(f"prior of {word!r}: got {given!r}, requires {PRIOR_SOURCE.form}")
    return prior_from_text(load_text_locator(name.strip()), image, {word: phrase.strip() or word})


PRIOR_SOURCE = PriorSource("what Grounding DINO or CLIPSeg finds by a phrase", "PHRASE@MODEL", _from_text)
