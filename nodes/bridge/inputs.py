"""Inputs that several nodes have, so that they are called, bounded and explained alike everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from comfy_api.latest import io

from ...locinv_core.options import NULL_METHODS
from . import types

GUIDANCE = "Classifier-free guidance scale: how strongly the edit follows its prompt. 7.5 is usual; 1 is none."
SOURCE = "a yellow cat and a red star in a meadow"
TARGET = "a yellow fox and a red star in a meadow"
EDIT_MODEL = "From Load Edit Model, or from your MODEL, CLIP and VAE."
MOST_SEED = 2**63 - 1


def number(name: str, default: float, bounds: tuple[float, float, float], tooltip: str, **more: Any) -> io.Input:
    """A number; `bounds` are the least, the most, and the widget's step."""
    low, high, step = bounds
    return io.Float.Input(name, default=default, min=low, max=high, step=step, tooltip=tooltip, **more)


def whole(name: str, default: int, bounds: tuple[int, int], tooltip: str, **more: Any) -> io.Input:
    """A whole number; `bounds` are the least and the most."""
    low, high = bounds
    return io.Int.Input(name, default=default, min=low, max=high, tooltip=tooltip, **more)


def text(name: str, default: str, tooltip: str, **more: Any) -> io.Input:
    """A line of text; with `multiline`, several."""
    return io.String.Input(name, default=default, tooltip=tooltip, **more)


def choice(name: str, options: Sequence[str], tooltip: str, default: str | None = None) -> io.Input:
    """One of several names."""
    return io.Combo.Input(name, options=list(options), default=default, tooltip=tooltip)


def switch(name: str, default: bool, tooltip: str, **more: Any) -> io.Input:
    """Yes or no."""
    return io.Boolean.Input(name, default=default, tooltip=tooltip, **more)


def advanced(made: io.Input) -> io.Input:
    """The same input, among the advanced ones where the browser tells them apart."""
    # Of ComfyUI 0.3.64 no input takes `advanced`; what stands here it sends to the browser all the same.
    made.extra_dict = {**(made.extra_dict or {}), "advanced": True}
    return made


def model_input(tooltip: str = "From Load Edit Model; the same one as on Parse Prompt.") -> io.Input:
    """The socket of an edit model."""
    return types.Model.Input("model", tooltip=tooltip)


def image_input() -> io.Input:
    """The socket of the image to edit."""
    return io.Image.Input(
        "image",
        tooltip="The image to edit, one at a time, at least 64 pixels on each side. Sides that the model"
        " cannot take are padded, and the edit is cropped again.",
    )


def prompt_input() -> io.Input:
    """The socket of what the image shows."""
    return types.Prompt.Input("prompt", tooltip="What the image shows, from Parse Prompt.")


def source_input(tooltip: str = "What the image shows.") -> io.Input:
    """The source prompt as text."""
    return text("source", SOURCE, tooltip, multiline=True)


def target_input(
    tooltip: str = "What the image should show: the source prompt with a word swapped, added or left out.",
) -> io.Input:
    """The target prompt as text."""
    return text("target", TARGET, tooltip, multiline=True)


def steps_input(
    tooltip: str = "DDIM steps, there and back. 50 is usual; fewer are faster and less faithful.",
    default: int = 50,
    least: int = 2,
) -> io.Input:
    """How many steps."""
    return whole("steps", default, (least, 1000), tooltip)


def guidance_input(tooltip: str = GUIDANCE) -> io.Input:
    """The scale of classifier-free guidance."""
    return number("guidance", 7.5, (0, 100, 0.1), tooltip)


def share_input(name: str, default: float, tooltip: str) -> io.Input:
    """A share of something, 0 to 1."""
    return number(name, default, (0, 1, 0.05), tooltip)


def seed_input(tooltip: str) -> io.Input:
    """The seed of whatever is random. It stays as it is, so that a second run finds the first's results."""
    return whole("seed", 0, (0, MOST_SEED), tooltip, control_after_generate=False)


def null_input(name: str) -> io.Input:
    """How guided sampling is made to reconstruct."""
    return choice(
        name,
        NULL_METHODS,
        "How guided sampling is made to give the image back. 'direct' (Direct Inversion) costs nothing and is"
        " exact; 'null-text' optimizes the empty prompt, slowly; 'negative-prompt' and 'proximal' put the prompt"
        " itself in its place; 'none' is plain DDIM.",
        "direct",
    )
