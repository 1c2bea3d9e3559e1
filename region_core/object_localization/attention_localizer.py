"""Localizing a word's object with no mask (ours; neither paper has this).

Boxes are the squares around a ViT's anchors and windows slid over the image. They are ranked by the model's
own cross-attention for the word, read at a few noise levels, and by CLIP on their crops. No edit is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ...locinv_core.backbones.attention import MapReader
from ...locinv_core.backbones.base import Backbone
from ...locinv_core.cost import CostTracker
from ...locinv_core.imaging.io import size_within
from ...locinv_core.imaging.padding import Padding
from ...locinv_core.localization.priors import LocalizationPrior, from_boxes
from ...locinv_core.text.edit_target import changed_noun
from ...locinv_core.text.prompt import Prompt, parse_prompt
from ..anchors import dino_anchors
from ..editors.base import seeded_noise
from ..encoders.clip import ClipEncoder
from ..encoders.vit import VisionFeatures
from ..proposals import box_masks, default_reach, propose
from .box_ranking import Box, LocatedBox, LocateSettings, rank_boxes

LOCATE_STAGE = "locate"
WORKING_SIDE = 128
"""Boxes are scored on maps whose longer side has this many cells, or as many as the image has pixels."""


@dataclass(frozen=True)
class Phrase:
    """A noun with its adjectives: its text, and the positions of its tokens in the prompt."""

    text: str
    tokens: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Located:
    """Where a word is, and what else was considered.

    phrase: the word with its adjectives. candidates: best first. attention: (h, w), the phrase's
    cross-attention on the image, averaged over noise levels, 1 at its maximum. anchors: (K, 2), the ViT's in
    pixels, x and y; K = 0 without a ViT.
    """

    word: str
    phrase: str
    candidates: tuple[LocatedBox, ...]
    attention: Tensor = field(repr=False)
    anchors: Tensor = field(repr=False)

    @property
    def box(self) -> Box:
        """x0, y0, x1, y1 in pixels, the last two exclusive: the best candidate's."""
        return self.candidates[0].box

    @property
    def score(self) -> float:
        """The best candidate's, from 0 to 1."""
        return self.candidates[0].score

    def mask(self, size: tuple[int, int]) -> Tensor:
        """The box as a mask (H, W) of 0 and 1 on an image of this size."""
        x0, y0, x1, y1 = self.box
        return box_masks([(round(x0), round(y0), round(x1), round(y1))], size)[0, 0]


def locate_words(
    model: Backbone,
    vision: VisionFeatures | None,
    clip: ClipEncoder | None,
    image: Tensor,
    prompt: Prompt,
    words: Sequence[str],
    settings: LocateSettings | None = None,
    *,
    tracker: CostTracker | None = None,
) -> dict[str, Located]:
    """Find the box of each of the prompt's `words` in `image` (1, 3, H, W); they share the passes.

    Costs one early-stopped pass a noise level. Without `vision` there are no anchors, without `clip` attention alone
    decides. Raises ValueError, before any pass, for no word, one that the prompt lacks, or too small an image.
    """
    settings = settings or LocateSettings()
    tracker = tracker or CostTracker()
    if not words:
        raise ValueError("words: got none, requires at least one word of the prompt")
    phrases = {word: phrase_of(prompt, word) for word in words}
    with tracker.stage(LOCATE_STAGE), torch.no_grad():
        anchors, squares = _around_anchors(vision, image, settings)
        maps = attention_maps(model, image, prompt, settings, tracker=tracker)
        found = {}
        for word, phrase in phrases.items():
            values = maps[..., list(phrase.tokens)].mean(dim=-1)
            judge = None
            if clip is not None and settings.clip_weight > 0:
                judge = _CropJudge(clip, image, phrase.text, other_phrases(prompt, phrase), settings)
            ranked = rank_boxes(values, (image.shape[-2], image.shape[-1]), squares, judge, settings)
            found[word] = Located(word, phrase.text, ranked, values / values.max().clamp_min(1e-12), anchors)
    return found


def locate_changed(
    model: Backbone,
    vision: VisionFeatures | None,
    clip: ClipEncoder | None,
    image: Tensor,
    texts: tuple[str, str],
    *,
    word: str | None = None,
    tracker: CostTracker | None = None,
) -> Located | None:
    """Localize the caption's `word` in `image` (1, 3, H, W); None takes the one noun that the prompt changes.

    texts: caption and prompt. None comes back where the prompt changes no noun or several, or is too long. With a
    `word`, raises ValueError for one that the caption lacks and a caption that is too long.
    """
    if word is None:
        with suppress(ValueError):
            word = changed_noun(*(parse_prompt(text, model.tokenizer) for text in texts))
        if word is None:
            return None
    whole = parse_prompt(texts[0], model.tokenizer)
    return locate_words(model, vision, clip, image, whole, [word], tracker=tracker)[word]


def detection_prior(found: Mapping[str, Located], size: tuple[int, int]) -> LocalizationPrior:
    """The boxes found, as LocInv's detection prior on an image of `size` (H, W)."""
    return from_boxes({word: located.box for word, located in found.items()}, size)


def phrase_of(prompt: Prompt, word: str) -> Phrase:
    """The word with the adjectives that describe it. Raises ValueError for a word that the prompt lacks."""
    return _phrase(prompt, prompt.locate(word))


def other_phrases(prompt: Prompt, phrase: Phrase) -> list[str]:
    """What else the prompt names, each with its adjectives; what reads the same as `phrase` is left out."""
    nouns = (_phrase(prompt, range(noun, noun + 1)) for noun in prompt.nouns)
    others = (p.text for p in nouns if not set(p.tokens) & set(phrase.tokens))
    return [text for text in dict.fromkeys(others) if text.casefold() != phrase.text.casefold()]


def attention_maps(
    model: Backbone, image: Tensor, prompt: Prompt, settings: LocateSettings, *, tracker: CostTracker | None = None
) -> Tensor:
    """Cross-attention for every token, averaged over noise levels: (h, w, L) float32, on the CPU.

    The image (1, 3, H, W) is noised to each level with noise of its own, and a pass stops after the last
    layer that is read. h × w covers the image itself, its longer side at most WORKING_SIDE cells.
    """
    tracker = tracker or CostTracker()
    height, width = image.shape[-2:]
    framing = Padding.of(height, width, model.size_multiple)
    source = model.encode(framing.pad_image(image))
    context = model.encode_prompt(prompt)
    noises = seeded_noise((len(settings.levels), *source.shape[1:]), settings.seed).to(source.device)
    readings = []
    for step, (level, noise) in enumerate(zip(settings.levels, noises, strict=True), start=1):
        timestep = int(level * model.schedule.train_steps)
        latents = model.schedule.to_latents(source, noise[None], timestep)
        reader = MapReader(model.map_layers)
        model.capture(latents, timestep, context, reader, tracker=tracker)
        readings.append(reader.mean()[0])
        tracker.report(step, len(settings.levels), latents)
    grid = model.map_layers[0].grid(*source.shape[-2:])
    mean = torch.stack(readings).mean(dim=0)
    maps = rearrange(mean, "(y x) l -> 1 l y x", y=grid[0], x=grid[1]).cpu()
    padded = (framing.padded_height, framing.padded_width)
    full = framing.crop(F.interpolate(maps, size=padded, mode="bilinear", align_corners=False))
    small = F.adaptive_avg_pool2d(full, size_within(height, width, WORKING_SIDE))
    return rearrange(small, "1 l y x -> y x l")


class _CropJudge:
    """CLIP's evidence that a box shows a phrase: cos(crop, phrase) less the mean of cos(crop, other)."""

    def __init__(
        self, clip: ClipEncoder, image: Tensor, phrase: str, others: Sequence[str], settings: LocateSettings
    ) -> None:
        self._clip, self._image, self._settings = clip, image, settings
        articles = ("an" if text[:1].lower() in "aeiou" else "a" for text in (phrase, *others))
        named = (f"{article} {text}" for article, text in zip(articles, (phrase, *others), strict=True))
        self._texts = clip.encode_texts([settings.template.format(text) for text in named])

    def __call__(self, boxes: Tensor) -> Tensor:
        crops = self._clip.encode_images(self.crops(boxes))
        similarity = crops @ self._texts.T
        return similarity[:, 0] - (similarity[:, 1:].mean(dim=1) if len(self._texts) > 1 else 0.0)

    def crops(self, boxes: Tensor) -> Tensor:
        """A square view (N, 3, crop, crop) of each box (N, 4) and its margin, moved into the image."""
        from torchvision.ops import roi_align

        height, width = self._image.shape[-2:]
        sides = (boxes[:, 2:] - boxes[:, :2]).amax(dim=1) * (1 + 2 * self._settings.margin)
        limits = boxes.new_tensor([width, height])
        reach = sides[:, None].minimum(limits)
        low = ((boxes[:, :2] + boxes[:, 2:] - reach) / 2).clamp_min(0).minimum(limits - reach)
        regions = torch.cat([low, low + reach], dim=1).to(self._image)
        return roi_align(self._image, [regions], self._settings.crop, aligned=True).clamp(0, 1)


def _around_anchors(vision: VisionFeatures | None, image: Tensor, settings: LocateSettings) -> tuple[Tensor, Tensor]:
    """The ViT's anchors in pixels (K, 2), x and y, and the squares around them (K, M, 4)."""
    if vision is None:
        return torch.zeros(0, 2), torch.zeros(0, settings.m, 4)
    seen = vision.look(image)
    rows, columns = seen.grid
    count = min(settings.k, rows * columns)
    most = max(1, -(-(max(seen.grid) - 1) // default_reach(seen.grid)))
    anchors = dino_anchors(seen.attention, count)
    proposals = propose(anchors, seen.grid, seen.patch, seen.size, min(settings.m, most))
    return (anchors.flip(1) + 0.5) * seen.patch, proposals.boxes


def _phrase(prompt: Prompt, named: range) -> Phrase:
    described = {adjective for noun, adjective in prompt.pairs if noun == named[-1]}
    indices = sorted(described | set(named))
    return Phrase(
        " ".join(prompt.words[index].text for index in indices),
        tuple(token for index in indices for token in prompt.words[index].tokens),
    )
