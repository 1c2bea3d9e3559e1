"""Parse Prompt: the words of a prompt, the nouns among them, and their adjectives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from .bridge import types
from .bridge.inputs import SOURCE, model_input, text
from .bridge.parsing import nouns_from_text, pairs_from_text

if TYPE_CHECKING:
    from ..locinv_core.text.prompt import Prompt
    from .bridge.memory import ManagedModel


class ParsePrompt(io.ComfyNode):
    """Reads a prompt with the model's tokenizer."""

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
                model_input("The model that the prompt is for: each has a tokenizer of its own."),
                text(
                    "text",
                    SOURCE,
                    "What the image shows, in plain words. Name the object that you want to change.",
                    multiline=True,
                ),
                text(
                    "nouns",
                    "",
                    "The words that name objects, separated by commas, if Pinpoint finds the wrong"
                    " ones. Empty: found by grammar; a dash: none.",
                    optional=True,
                ),
                text(
                    "bindings",
                    "",
                    "Which adjective belongs to which object, as adjective:noun, separated by commas,"
                    " for example yellow:cat. Empty: found by grammar.",
                    optional=True,
                ),
            ],
            outputs=[
                types.Prompt.Output(display_name="prompt", tooltip="For DDIM Invert and LocInv."),
                io.String.Output(display_name="nouns", tooltip="The words that name objects, separated by commas."),
            ],
        )

    @classmethod
    def execute(cls, model: ManagedModel, text: str, nouns: str = "", bindings: str = "") -> io.NodeOutput:
        from ..locinv_core.text.prompt import parse_prompt
        from .bridge.payloads import noun_names
        from .bridge.progress import show_text
        from .bridge.ui_payloads import prompt_shown

        pairs = pairs_from_text(bindings) or None
        prompt = parse_prompt(text, model.value.tokenizer, nouns=nouns_from_text(nouns), bindings=pairs)
        summary = _summary(prompt)
        show_text(summary)
        shown = {"text": (summary,), "pinpoint_prompt": [prompt_shown(prompt)]}
        return io.NodeOutput(prompt, ", ".join(noun_names(prompt)), ui=shown)


NODES = [ParsePrompt]


def _summary(prompt: Prompt) -> str:
    """The nouns, the pairs and the number of tokens, in a few words."""
    words = prompt.words
    nouns = ", ".join(words[index].text for index in prompt.nouns) or "none"
    pairs = ", ".join(f"{words[adjective].text} {words[noun].text}" for noun, adjective in prompt.pairs) or "none"
    return f"objects: {nouns}; pairs: {pairs}; {prompt.length} of {len(prompt.token_ids)} tokens"
