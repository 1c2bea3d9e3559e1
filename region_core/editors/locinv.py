"""LocInv as an editor: the object that a prompt changes is edited inside a mask, in the shape that it has.

The image is inverted, the word's tokens are optimized until its cross-attention stays inside the mask, and
Prompt-to-Prompt edits: the new object has the pose of the old one. Ours: neither paper has this.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from ...locinv_core.backbones.base import Backbone
from ...locinv_core.backbones.loading import load_edit_model
from ...locinv_core.cost import CostTracker
from ...locinv_core.editing.settings import DEFAULT_CROSS_REPLACE, EditSettings
from ...locinv_core.guidance import check_guidance
from ...locinv_core.imaging.padding import Padding
from ...locinv_core.inversion.ddim_inversion import Inversion, ddim_invert
from ...locinv_core.localization.priors import LocalizationPrior, prior_word
from ...locinv_core.pipeline import EditRequest, localized_edit
from ...locinv_core.text.edit_target import changed_noun, word_to_edit
from ...locinv_core.text.prompt import parse_prompt
from .base import Editor
from .registry import RegionEditor


@dataclass(frozen=True)
class Variant:
    """An edit with the guidance scale 1 + pull·(w − 1) in place of w, whose attention follows the source's in
    `follow` times as many steps."""

    pull: float = 1.0
    follow: float = 1.0

    def settings(self, guidance: float) -> EditSettings:
        """The settings of an edit at this guidance scale."""
        own = EditSettings(guidance=guidance)
        return replace(
            own,
            guidance=guidance if guidance < 1 else 1 + self.pull * (guidance - 1),
            cross_replace_steps=self.follow * DEFAULT_CROSS_REPLACE,
            self_replace_steps=self.follow * own.self_replace_steps,
        )


VARIANTS = (Variant(), Variant(pull=0.5), Variant(pull=0.2), Variant(pull=0.3, follow=0.5))
"""The editor's own settings; nearer and still nearer to the source; and freer in shape, but near it."""


@dataclass(frozen=True)
class _Inverted:
    """An image's inversion, and the same with the words tuned to masks, by mask, word and prompt."""

    plain: Inversion
    tuned: dict[tuple[bytes, str, str], Inversion] = field(default_factory=dict)


@dataclass(frozen=True)
class LocInvEditor(Editor):
    """LocInv, with a mask for one word of `source`, which says what the image shows.

    word: None takes the one noun that the prompt changes. An image is inverted once for each number of
    steps; a mask then costs 3 passes a step and a query pass, and another variant in it 3 passes a step. Nothing
    is drawn at random: seeds 0 to 3 are variants with the settings of `VARIANTS`, and then they repeat.
    The seam is softened over `feather` pixels inside the mask. More steps than 20 cost more and have gained
    nothing on the embedded world.
    """

    model: Backbone
    source: str
    word: str | None = None
    guidance: float = 7.5
    steps: int = 20
    feather: float = 2.0
    name = "locinv"
    prompt_mode = "image"
    variants = len(VARIANTS)
    _inverted: dict[int, tuple[Tensor, _Inverted]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_guidance(self.guidance)
        self.model.schedule.timesteps(self.steps)
        source = parse_prompt(self.source, self.model.tokenizer)
        if self.word is not None:
            source.find(self.word)

    @property
    def reader(self) -> Backbone:
        return self.model

    def check_prompt(self, prompt: str, name: str = "prompt") -> None:
        """Raise ValueError for a prompt that the model would cut, and as `word_of` does."""
        parse_prompt(prompt, self.model.tokenizer, name=name)
        self.word_of(prompt)

    def word_of(self, prompt: str) -> str:
        """The word of the source that a mask is for, in an edit to `prompt`.

        Raises ValueError where no word was given and the prompt changes no noun, or several, and where it
        changes other objects than the word.
        """
        source, target = (parse_prompt(text, self.model.tokenizer) for text in (self.source, prompt))
        if self.word is not None:
            return word_to_edit(source, target, self.word)
        word = changed_noun(source, target)
        if word is None:
            raise ValueError(
                f"prompt: got {prompt!r}, requires one that changes one noun of {self.source!r}; or a word"
            )
        return word

    def cost(self, steps: int | None = None) -> float:
        """NFE of an edit, the inversion apart, in an image of the native size."""
        side = self.model.native_size // self.model.latent_factor
        queries = self.model.share(self.model.map_layers[-1], side, side)
        return (self.steps if steps is None else steps) * (3 + queries)

    def edit_inside(
        self, image: Tensor, masks: Tensor, prompt: str, seed: int, steps: int, tracker: CostTracker
    ) -> Tensor:
        word = prior_word(self.word_of(prompt))
        known = self._inversion(image, steps, tracker)
        settings = VARIANTS[seed % self.variants].settings(self.guidance)
        edited: list[Tensor] = []

        def progress(stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
            # An edit's steps go by twice: its tokens are optimized, then it is sampled.
            passed = 2 * len(edited) + (stage == "edit")
            tracker.report(passed * steps + step, 2 * steps * len(masks), preview_latents)

        for mask in masks[:, 0].cpu().float():
            key = mask.bool().numpy().tobytes(), word, prompt
            prior = LocalizationPrior({word: mask}, {word: "detection"})
            own = CostTracker(progress)
            made = localized_edit(
                self.model,
                EditRequest(image, self.source, prompt, prior, steps=steps, settings=settings),
                inversion=known.tuned.get(key, known.plain),
                latents=known.plain.pivot(steps),
                reconstruct=False,
                tracker=own,
            )
            tracker.count_forward(1, sum(own.forward_equivalents.values()))
            known.tuned[key] = made.inversion
            edited.append(made.edited)
        return torch.cat(edited)

    def _inversion(self, image: Tensor, steps: int, tracker: CostTracker) -> _Inverted:
        """The image's inversion with so many steps, made once."""
        picture = image.cpu()  # it comes from another device where edits were kept
        known = self._inverted.get(steps)
        if known is not None and torch.equal(known[0], picture):
            return known[1]
        framing = Padding.of(image.shape[-2], image.shape[-1], self.model.size_multiple)
        source = parse_prompt(self.source, self.model.tokenizer)
        latents = self.model.encode(framing.pad_image(image))
        inverted = _Inverted(ddim_invert(self.model, latents, source, steps, tracker=tracker))
        self._inverted[steps] = picture, inverted
        return inverted


EDITOR = RegionEditor("locinv", "LocInv", "model", load_edit_model, LocInvEditor)
