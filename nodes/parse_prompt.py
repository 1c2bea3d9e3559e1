"""Parse Prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .bridge import types as sockets
from .bridge.parsing import nouns_from_text, pairs_from_text
from .bridge.ui_payloads import prompt_shown

if TYPE_CHECKING:
    from ..locinv_core.text.prompt import Prompt
    from .bridge.managed_model import ManagedModel


class ParsePrompt(io.ComfyNode):
    """Reads a prompt as the model does."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointParsePrompt",
            display_name="Parse Prompt",
            category="Pinpoint/prompt",
            description="Reads what the image shows: its words, which of them name objects, and which"
            " adjective belongs to which object.",
            is_output_node=True,
            inputs=[
                sockets.Model.Input(
                    "model", tooltip="The model that the prompt is for: each reads words in its own way."
                ),
                io.String.Input(
                    "text",
                    multiline=True,
                    default="a yellow cat and a red star in a meadow",
                    tooltip="What the image shows, in plain words. Name the object that you want to change.",
                ),
                io.String.Input(
                    "nouns",
                    default="",
                    optional=True,
                    tooltip="The words that name objects, separated by commas, if Pinpoint finds the wrong"
                    " ones. Empty: found by grammar; a dash: none.",
                ),
                io.String.Input(
                    "bindings",
                    default="",
                    optional=True,
                    tooltip="Which adjective belongs to which object, as adjective:noun, separated by commas,"
                    " for example yellow:cat. Empty: found by grammar.",
                ),
            ],
            outputs=[
                sockets.Prompt.Output(display_name="prompt", tooltip="For DDIM Invert and LocInv."),
                io.String.Output(display_name="nouns", tooltip="The words that name objects, separated by commas."),
            ],
        )

    @classmethod
    def execute(cls, model: ManagedModel, text: str, nouns: str = "", bindings: str = "") -> io.NodeOutput:
        from ..locinv_core.text.prompt import parse_prompt
        from .bridge.inverted_image import noun_names
        from .bridge.progress import show_text

        prompt = parse_prompt(
            text,
            model.model.tokenizer,
            nouns=nouns_from_text(nouns),
            bindings=pairs_from_text(bindings) or None,
        )
        named = ", ".join(noun_names(prompt))
        text_line = described(prompt)
        show_text(text_line)
        shown = {"text": (text_line,), "pinpoint_prompt": [prompt_shown(prompt)]}
        return io.NodeOutput(prompt, named, ui=shown)


def described(prompt: Prompt) -> str:
    """The nouns, the pairs and the number of tokens, in a few words."""
    words = prompt.words
    nouns = ", ".join(words[index].text for index in prompt.nouns) or "none"
    pairs = ", ".join(f"{words[adjective].text} {words[noun].text}" for noun, adjective in prompt.pairs) or "none"
    return f"objects: {nouns}; pairs: {pairs}; {prompt.length} of {len(prompt.token_ids)} tokens"
