"""Prompt-to-Prompt Edit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..locinv_core.options import LOCAL_BLENDS, TARGET_EMBEDDINGS
from .bridge import types
from .bridge.inputs import choice, guidance_input, number, share_input, switch, target_input, text, whole
from .bridge.outputs import edit_output, edit_outputs
from .bridge.parsing import factors_from_text, ranges_from_text

if TYPE_CHECKING:
    from ..locinv_core.localization.priors import LocalizationPrior
    from .bridge.payloads import InvertedImage


class PromptToPromptEdit(io.ComfyNode):
    """Edits an inverted image towards a target prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPromptToPromptEdit",
            display_name="Prompt-to-Prompt Edit",
            category="Pinpoint/edit",
            description="Samples the target prompt with the source's attention maps, so that only what the"
            " two prompts say differently changes.",
            inputs=[
                types.Inversion.Input(
                    "inversion", tooltip="From LocInv, Null-Text Inversion, Optimize Tokens or DDIM Invert."
                ),
                target_input(),
                types.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="The mask or box of the edited object. With it, everything outside stays as it was.",
                ),
                guidance_input(),
                share_input(
                    "cross_replace_steps",
                    0.8,
                    "The share of the steps in which cross-attention maps are the source's. More keeps the shape,"
                    " less lets it change.",
                ),
                share_input(
                    "self_replace_steps",
                    0.4,
                    "The share of the steps in which self-attention, and so the layout, is the source's. Less lets"
                    " the shape change more.",
                ),
                choice(
                    "local_blend",
                    LOCAL_BLENDS,
                    "Where the edit may show: inside the prior, there and where the new word's attention map is"
                    " high, where the words' maps are high, or anywhere (off). 'auto' takes the prior if everything"
                    " that changes has one.",
                    "auto",
                ),
                choice(
                    "target_embeddings",
                    TARGET_EMBEDDINGS,
                    "What the words that both prompts share keep of their optimized embeddings: nothing (best"
                    " images), all, or attention's keys alone.",
                    "original",
                ),
                switch(
                    "composite",
                    False,
                    "Put the edit over the image, so that every pixel outside the edited object's"
                    " prior is the image's own, bit for bit.",
                ),
                number(
                    "feather",
                    2.0,
                    (0.0, 64.0, 0.5),
                    "Only for 'composite': how wide the soft edge inside the prior is, in pixels.",
                ),
                share_input("blend_start", 0.2, "The share of the steps that pass before blending begins."),
                share_input(
                    "blend_threshold",
                    0.3,
                    "For blends by 'map': a cell belongs to a word where its attention map exceeds this share of its"
                    " maximum.",
                ),
                whole(
                    "blend_grow",
                    1,
                    (0, 16),
                    "By how many cells of the attention grid the blended region grows on every side.",
                ),
                text(
                    "equalizer",
                    "",
                    "Words to strengthen or weaken, as word=factor, separated by commas, for example fox=1.5.",
                    optional=True,
                ),
                text(
                    "word_ranges",
                    "",
                    "cross_replace_steps of single words, as word=start-end in shares of the steps, for example"
                    " fox=0-0.5.",
                    optional=True,
                ),
                number(
                    "composite_grow",
                    0.0,
                    (0.0, 256.0, 1.0),
                    "Only for 'composite': by how many pixels the edited region grows on every side. An object that"
                    " changes its shape needs some, or the old one's rim stays around it.",
                    optional=True,
                ),
            ],
            outputs=edit_outputs(),
        )

    @classmethod
    def execute(
        cls,
        inversion: InvertedImage,
        target: str,
        cross_replace_steps: float,
        composite: bool,
        feather: float,
        prior: LocalizationPrior | None = None,
        equalizer: str = "",
        word_ranges: str = "",
        composite_grow: float = 0.0,
        **settings: Any,
    ) -> io.NodeOutput:
        import torch

        from ..locinv_core.editing.edit import edit
        from ..locinv_core.editing.edited_objects import edited_mask
        from ..locinv_core.editing.settings import ALL_WORDS, EditSettings
        from ..locinv_core.imaging.composite import composite as composed
        from ..locinv_core.text.prompt import parse_prompt
        from .bridge.payloads import edited_by

        by_word: dict[str, Any] = {ALL_WORDS: cross_replace_steps, **ranges_from_text(word_ranges)}
        chosen = EditSettings(cross_replace_steps=by_word, equalizer=factors_from_text(equalizer), **settings)
        if not composite:
            return edit_output(edited_by(edit, inversion, target, chosen, prior))
        if prior is None:
            raise ValueError("composite: it keeps what is outside the prior, requires a prior for the edited word")
        prompts = inversion.inversion.prompt, parse_prompt(target, inversion.model.value.tokenizer)
        with torch.inference_mode(False):
            mask = edited_mask(*prompts, prior, reweighted=chosen.equalizer, grown=composite_grow)
        result = edited_by(edit, inversion, target, chosen, prior)
        with torch.inference_mode(False):
            edited = composed(inversion.image, result.edited, mask, feather)
        return edit_output(replace(result, edited=edited, mask=mask))


NODES = [PromptToPromptEdit]
