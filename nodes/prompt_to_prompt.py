"""Prompt-to-Prompt Edit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from ..locinv_core.editing.settings import ALL_WORDS, EditSettings
from ..locinv_core.options import LOCAL_BLENDS, TARGET_EMBEDDINGS, LocalBlendMode, TargetEmbeddings
from .bridge import types as sockets
from .bridge.edited_image import CATEGORY, edit_outputs, edited_by
from .bridge.inputs import guidance_input, share_input, target_input
from .bridge.parsing import factors_from_text, ranges_from_text

if TYPE_CHECKING:
    from ..locinv_core.localization.priors import LocalizationPrior
    from .bridge.inverted_image import InvertedImage


class PromptToPromptEdit(io.ComfyNode):
    """Edits an inverted image towards a target prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPromptToPromptEdit",
            display_name="Prompt-to-Prompt Edit",
            category=CATEGORY,
            description="Samples the target prompt while it attends as the source does, so that only what the"
            " two prompts say differently changes.",
            inputs=[
                sockets.Inversion.Input(
                    "inversion", tooltip="From LocInv, Null-Text Inversion, Optimize Tokens or DDIM Invert."
                ),
                target_input(),
                sockets.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="Where the edited object is. With it, everything outside stays as it was.",
                ),
                guidance_input(),
                share_input(
                    "cross_replace_steps",
                    0.8,
                    "The share of the steps in which words attend as in the source. More keeps the shape,"
                    " less lets it change.",
                ),
                share_input(
                    "self_replace_steps",
                    0.4,
                    "The share of the steps in which the image's layout is the source's. Less lets the"
                    " shape change more.",
                ),
                io.Combo.Input(
                    "local_blend",
                    options=list(LOCAL_BLENDS),
                    default="auto",
                    tooltip="Where the edit may show: in the prior's place, there and where the new word"
                    " looks, where the words look, or anywhere (off). 'auto' takes the prior if everything"
                    " that changes has one.",
                ),
                io.Combo.Input(
                    "target_embeddings",
                    options=list(TARGET_EMBEDDINGS),
                    default="original",
                    tooltip="What the words that both prompts share keep of their tuning: nothing (best"
                    " images), all, or attention's keys alone.",
                ),
                io.Boolean.Input(
                    "composite",
                    default=False,
                    tooltip="Put the edit over the image, so that every pixel outside the edited object's"
                    " prior is the image's own, bit for bit.",
                ),
                io.Float.Input(
                    "feather",
                    default=2.0,
                    min=0.0,
                    max=64.0,
                    step=0.5,
                    tooltip="Only for 'composite': how wide the soft edge inside the prior is, in pixels.",
                ),
                share_input("blend_start", 0.2, "The share of the steps that pass before blending begins."),
                share_input(
                    "blend_threshold",
                    0.3,
                    "A word looks where its attention exceeds this share of its maximum; for blends by 'map'.",
                ),
                io.Int.Input(
                    "blend_grow",
                    default=1,
                    min=0,
                    max=16,
                    tooltip="By how many cells of the attention grid the blended place grows on every side.",
                ),
                io.String.Input(
                    "equalizer",
                    default="",
                    optional=True,
                    tooltip="Words to strengthen or weaken, as word=factor, separated by commas, for example fox=1.5.",
                ),
                io.String.Input(
                    "word_ranges",
                    default="",
                    optional=True,
                    tooltip="Words that attend as in the source only in a part of the steps, as"
                    " word=start-end, for example fox=0-0.5.",
                ),
                io.Float.Input(
                    "composite_grow",
                    default=0.0,
                    min=0.0,
                    max=256.0,
                    step=1.0,
                    optional=True,
                    tooltip="Only for 'composite': by how many pixels the place of the edit grows on every"
                    " side. An object that changes its shape needs some, or the old one's rim stays around it.",
                ),
            ],
            outputs=edit_outputs(),
        )

    @classmethod
    def execute(
        cls,
        inversion: InvertedImage,
        target: str,
        guidance: float,
        cross_replace_steps: float,
        self_replace_steps: float,
        local_blend: LocalBlendMode,
        target_embeddings: TargetEmbeddings,
        composite: bool,
        feather: float,
        blend_start: float,
        blend_threshold: float,
        blend_grow: int,
        prior: LocalizationPrior | None = None,
        equalizer: str = "",
        word_ranges: str = "",
        composite_grow: float = 0.0,
    ) -> io.NodeOutput:
        from ..locinv_core.editing.local_blend import edited_place
        from ..locinv_core.editing.prompt_to_prompt import edit
        from ..locinv_core.imaging.composite import composite as composed
        from ..locinv_core.text.prompt import parse_prompt

        settings = EditSettings(
            guidance=guidance,
            cross_replace_steps={ALL_WORDS: cross_replace_steps, **ranges_from_text(word_ranges)},
            self_replace_steps=self_replace_steps,
            local_blend=local_blend,
            target_embeddings=target_embeddings,
            blend_start=blend_start,
            blend_threshold=blend_threshold,
            blend_grow=blend_grow,
            equalizer=factors_from_text(equalizer),
        )
        place = None
        if composite:
            if prior is None:
                raise ValueError("composite: it keeps what is outside the prior, requires a prior for the edited word")
            asked = parse_prompt(target, inversion.model.model.tokenizer)
            with torch.inference_mode(False):
                place = edited_place(
                    inversion.inversion.prompt,
                    asked,
                    prior,
                    reweighted=settings.equalizer,
                    grown=composite_grow,
                )
        result = edited_by(edit, inversion, target, settings, prior)
        if place is not None:
            with torch.inference_mode(False):
                edited = composed(inversion.image, result.edited, place, feather)
            result = replace(result, edited=edited, mask=place)
        return result.output()
