"""The methods that Prompt-to-Prompt is compared with, a node each: they edit the same inversions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .bridge import types
from .bridge.inputs import guidance_input, number, seed_input, share_input, target_input
from .bridge.outputs import edit_output, edit_outputs
from .bridge.parsing import sentence_pairs_from_text, sentences_from_text, words_from_text
from .bridge.payloads import edited_by

if TYPE_CHECKING:
    from .bridge.payloads import InvertedImage

CATEGORY = "Pinpoint/edit"


def _inversion_input() -> io.Input:
    return types.Inversion.Input(
        "inversion",
        tooltip="From DDIM Invert. No null text is needed: this method holds to the inverted latents.",
    )


def _layers_input(name: str, tooltip: str) -> io.Input:
    return io.String.Input(
        name,
        default="",
        optional=True,
        tooltip=f"{tooltip} Names separated by commas; a block's name, as up_blocks.2, stands for all of its"
        " layers. Empty: as published, wherever this UNet has such layers.",
    )


class PlugAndPlayEdit(io.ComfyNode):
    """Plug-and-Play: features and self-attention of the source are injected."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPlugAndPlayEdit",
            display_name="Plug-and-Play Edit",
            category=CATEGORY,
            description="Samples the target prompt with the image's own features and self-attention put"
            " into it: the layout stays, the looks follow the prompt.",
            inputs=[
                _inversion_input(),
                target_input(),
                guidance_input(),
                share_input(
                    "feature_share",
                    0.8,
                    "The share of the steps in which the image's features are put in. More keeps its"
                    " shapes, less lets them change.",
                ),
                share_input(
                    "attention_share",
                    0.5,
                    "The share of the steps in which self-attention is the image's. More keeps its layout.",
                ),
                _layers_input("feature_layers", "Residual layers whose features are put in."),
                _layers_input("attention_layers", "Self-attention layers that attend as in the image."),
            ],
            outputs=edit_outputs(),
        )

    @classmethod
    def execute(
        cls,
        inversion: InvertedImage,
        target: str,
        guidance: float,
        feature_share: float,
        attention_share: float,
        feature_layers: str = "",
        attention_layers: str = "",
    ) -> io.NodeOutput:
        from ..methods.pnp import PlugAndPlaySettings, edit

        settings = PlugAndPlaySettings(
            guidance=guidance,
            feature_share=feature_share,
            attention_share=attention_share,
            feature_layers=tuple(words_from_text(feature_layers)) or None,
            attention_layers=tuple(words_from_text(attention_layers)) or None,
        )
        return edit_output(edited_by(edit, inversion, target, settings))


class MasaCtrlEdit(io.ComfyNode):
    """MasaCtrl: the target is laid out by its prompt and filled with what the image shows."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointMasaCtrlEdit",
            display_name="MasaCtrl Edit",
            category=CATEGORY,
            description="Samples the target prompt and fills it with the image's own content: for another"
            " pose or action of the same object.",
            inputs=[
                _inversion_input(),
                target_input(),
                guidance_input(),
                share_input(
                    "start",
                    0.08,
                    "The share of the steps that the prompt alone lays out. More changes the layout further.",
                ),
                io.Int.Input(
                    "start_layer",
                    default=-1,
                    min=-1,
                    max=1000,
                    tooltip="The first self-attention layer that reads the image, counted from 0 in the"
                    " order in which they run. -1: as deep in this UNet as the published 10 of 16.",
                ),
            ],
            outputs=edit_outputs(),
        )

    @classmethod
    def execute(
        cls, inversion: InvertedImage, target: str, guidance: float, start: float, start_layer: int
    ) -> io.NodeOutput:
        from ..methods.masactrl import MasaCtrlSettings, edit

        layer = None if start_layer == -1 else start_layer
        settings = MasaCtrlSettings(guidance=guidance, start=start, start_layer=layer)
        return edit_output(edited_by(edit, inversion, target, settings))


class DiffEdit(io.ComfyNode):
    """DiffEdit: finds its own mask, and edits inside it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointDiffEdit",
            display_name="DiffEdit",
            category=CATEGORY,
            description="Edits where the two prompts disagree about the image: finds the mask by itself,"
            " and leaves everything outside it as it is.",
            inputs=[
                _inversion_input(),
                target_input(),
                guidance_input(),
                share_input("encode_share", 0.8, "How far back towards noise the edit begins. More changes more."),
                share_input("threshold", 0.5, "How strongly the prompts must disagree. Less makes the mask larger."),
                io.Float.Input(
                    "ceiling",
                    default=3.0,
                    min=0.1,
                    max=1000.0,
                    step=0.1,
                    tooltip="Disagreement above this many times the image's mean counts no more; the"
                    " threshold is a share of it.",
                ),
                io.Int.Input(
                    "noises",
                    default=10,
                    min=1,
                    max=1000,
                    tooltip="Over how many noises the disagreement is averaged. More makes the mask calmer,"
                    " and takes longer.",
                ),
                share_input("noise_share", 0.5, "How noisy the image is when the mask is sought."),
                seed_input("The noises that the mask is sought with."),
            ],
            outputs=edit_outputs(),
        )

    @classmethod
    def execute(
        cls,
        inversion: InvertedImage,
        target: str,
        guidance: float,
        encode_share: float,
        threshold: float,
        ceiling: float,
        noises: int,
        noise_share: float,
        seed: int,
    ) -> io.NodeOutput:
        from ..methods.diffedit import DiffEditSettings, edit

        settings = DiffEditSettings(
            guidance=guidance,
            encode_share=encode_share,
            threshold=threshold,
            ceiling=ceiling,
            noises=noises,
            noise_share=noise_share,
            seed=seed,
        )
        return edit_output(edited_by(edit, inversion, target, settings))


class Pix2PixZeroEdit(io.ComfyNode):
    """pix2pix-zero: an edit direction, held to the image's layout by guidance."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointPix2PixZeroEdit",
            display_name="pix2pix-zero Edit",
            category=CATEGORY,
            description="Moves the source prompt along the direction from the old object to the new one, while"
            " the latents are held to where the image's words look.",
            inputs=[
                _inversion_input(),
                target_input(),
                number(
                    "guidance", 5.0, (0.0, 100.0, 0.1), "Guidance scale, away from what the image shows. 1: not guided."
                ),
                io.Float.Input(
                    "attention_rate",
                    default=0.1,
                    min=0.0,
                    max=1000.0,
                    step=0.01,
                    tooltip="How strongly words are held to where they look in the image. 0 holds nothing,"
                    " and is faster.",
                ),
                io.String.Input(
                    "pairs",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="The direction: a line 'old sentence -> new sentence' for each pair, for example"
                    " a cat -> a fox. Empty: made of the templates and what the prompts change.",
                ),
                io.String.Input(
                    "templates",
                    multiline=True,
                    default="",
                    optional=True,
                    tooltip="Without pairs: a sentence a line, with {} where an object's name goes. Empty: ten"
                    " plain ones.",
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
        attention_rate: float,
        pairs: str = "",
        templates: str = "",
    ) -> io.NodeOutput:
        from ..methods.pix2pix_zero import TEMPLATES, Pix2PixZeroSettings, edit

        settings = Pix2PixZeroSettings(
            guidance=guidance,
            attention_rate=attention_rate,
            pairs=sentence_pairs_from_text(pairs),
            templates=sentences_from_text(templates) or TEMPLATES,
        )
        return edit_output(edited_by(edit, inversion, target, settings))


NODES = [PlugAndPlayEdit, MasaCtrlEdit, DiffEdit, Pix2PixZeroEdit]
