"""Prompt-to-Prompt Edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from ..locinv_core.edit_settings import BLENDS, CARRIES, Blend, Carry, EditSettings
from . import sockets
from .inversion import guidance_input
from .tensors import image_of
from .text_inputs import factors_from_text, ranges_from_text

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.priors import LocalizationPrior
    from ..locinv_core.prompts import Prompt
    from .inverted_picture import InvertedPicture


def _share(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.05, tooltip=tooltip)


class PromptToPromptEdit(io.ComfyNode):
    """Edits an inverted picture towards a target prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPromptToPromptEdit",
            display_name="Prompt-to-Prompt Edit",
            category="Pinpoint/edit",
            description="Samples the target prompt while it attends as the source does, so that only what the"
            " two prompts say differently changes.",
            inputs=[
                sockets.Inversion.Input(
                    "inversion", tooltip="From LocInv, Null-Text Inversion, Optimize Tokens or DDIM Invert."
                ),
                io.String.Input(
                    "target",
                    multiline=True,
                    default="a yellow fox and a red star in a meadow",
                    tooltip="What the picture should show: the source prompt with a word swapped, added or"
                    " left out.",
                ),
                sockets.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="Where the edited thing is. With it, everything outside stays as it was.",
                ),
                guidance_input(),
                _share(
                    "cross_replace",
                    0.8,
                    "The share of the steps in which words attend as in the source. More keeps the shape,"
                    " less lets it change.",
                ),
                _share(
                    "self_replace",
                    0.4,
                    "The share of the steps in which the picture's layout is the source's. Less lets the"
                    " shape change more.",
                ),
                io.Combo.Input(
                    "blend",
                    options=list(BLENDS),
                    default="auto",
                    tooltip="Where the edit may show: in the prior's place, there and where the new word"
                    " looks, where the words look, or anywhere (off). 'auto' takes the prior if everything"
                    " that changes has one.",
                ),
                io.Combo.Input(
                    "carry",
                    options=list(CARRIES),
                    default="original",
                    tooltip="What the words that both prompts share keep of their tuning: nothing (best"
                    " pictures), all, or attention's keys alone.",
                ),
                io.Boolean.Input(
                    "composite",
                    default=False,
                    tooltip="Put the edit over the picture, so that every pixel outside the edited thing's"
                    " prior is the picture's own, bit for bit.",
                ),
                io.Float.Input(
                    "feather",
                    default=2.0,
                    min=0.0,
                    max=64.0,
                    step=0.5,
                    tooltip="Only for 'composite': how wide the soft edge inside the prior is, in pixels.",
                ),
                _share("blend_start", 0.2, "The share of the steps that pass before blending begins."),
                _share(
                    "blend_threshold",
                    0.3,
                    "A word looks where its attention exceeds this share of its maximum; for blends by"
                    " 'map'.",
                ),
                io.Int.Input(
                    "blend_grow",
                    default=1,
                    min=0,
                    max=16,
                    tooltip="By how many cells of the attention grid the blended place grows on every side.",
                ),
                io.String.Input(
                    "reweight",
                    default="",
                    optional=True,
                    tooltip="Words to strengthen or weaken, as word=factor, separated by commas, for example"
                    " fox=1.5.",
                ),
                io.String.Input(
                    "word_ranges",
                    default="",
                    optional=True,
                    tooltip="Words that attend as in the source only in a part of the steps, as"
                    " word=start-end, for example fox=0-0.5.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The edited picture."),
                io.Image.Output(
                    display_name="reconstruction",
                    tooltip="What the source prompt gives: how good the inversion is.",
                ),
                io.Mask.Output(display_name="mask", tooltip="Where the edit could change the picture."),
                io.Latent.Output(
                    display_name="latent",
                    tooltip="The edit's latents, as this model's own VAE in ComfyUI has them.",
                ),
                sockets.Maps.Output(
                    display_name="maps", tooltip="Where the target's words look, for Cross-Attention Maps."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        inversion: InvertedPicture,
        target: str,
        guidance: float,
        cross_replace: float,
        self_replace: float,
        blend: Blend,
        carry: Carry,
        composite: bool,
        feather: float,
        blend_start: float,
        blend_threshold: float,
        blend_grow: int,
        prior: LocalizationPrior | None = None,
        reweight: str = "",
        word_ranges: str = "",
    ) -> io.NodeOutput:
        from ..locinv_core.composite import composite as composed
        from ..locinv_core.prompt_to_prompt import edit
        from ..locinv_core.prompts import parse_prompt
        from .inverted_picture import WordMaps
        from .progress import node_run

        settings = EditSettings(
            guidance=guidance,
            cross_replace=cross_replace,
            self_replace=self_replace,
            blend=blend,
            carry=carry,
            blend_start=blend_start,
            blend_threshold=blend_threshold,
            blend_grow=blend_grow,
            reweight=factors_from_text(reweight),
            word_ranges=ranges_from_text(word_ranges),
        )
        if composite and prior is None:
            raise ValueError(
                "composite: it keeps what is outside the prior, wants a prior for the edited word"
            )
        source, framing = inversion.inversion.prompt, inversion.framing
        prompt = parse_prompt(target, inversion.model.model.tokenizer)
        framed = None if prior is None else inversion.framed(prior)
        run = node_run("edit", preview=inversion.preview())
        with inversion.model.ready() as model:
            result = edit(model, inversion.inversion, [prompt], settings, prior=framed, run=run)
            edited, reconstruction = (
                framing.crop(model.decode(z)).cpu() for z in (result.latents, result.source_latents)
            )
            latent = (result.latents / model.vae.config.scaling_factor).cpu()
            where = _on_pixels(result.blend_masks, inversion)
            if composite and prior is not None:
                where = edited_place(source, prompt, prior)
                edited = composed(inversion.image, edited, where, feather)
            maps = {word: inversion.on_picture(values) for word, values in result.target_maps[0].items()}
        run.show_cost()
        return io.NodeOutput(
            image_of(edited),
            image_of(reconstruction),
            where[None],
            {"samples": latent},
            WordMaps(edited, maps, {}),
        )


def edited_place(source: Prompt, target: Prompt, prior: LocalizationPrior) -> Tensor:
    """Where the things are that the edit touches, (H, W): their priors, or all if one of them has none."""
    from ..locinv_core.alignment import align
    from ..locinv_core.local_blend import edited_things

    things = edited_things(source, target, align(source, target), prior=prior)
    words = prior.words if things.unplaced or not things.placed else things.placed
    return torch.stack([prior.mask(word) for word in words]).amax(dim=0)


def _on_pixels(masks: Tensor | None, inversion: InvertedPicture) -> Tensor:
    """(H, W): the first of the masks (n, h, w) of latent cells on the picture; all of it without masks."""
    framing = inversion.framing
    if masks is None:
        return torch.ones(framing.height, framing.width)
    size = framing.padded_height, framing.padded_width
    full = torch.nn.functional.interpolate(masks[:1, None].float().cpu(), size=size, mode="nearest")
    return framing.crop(full)[0, 0].clone()
