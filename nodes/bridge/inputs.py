"""Inputs that several nodes have, so that they are called, bounded and explained alike everywhere."""

from __future__ import annotations

from comfy_api.latest import io

from . import types as sockets

GUIDANCE_TOOLTIP = "Classifier-free guidance scale: how strongly the edit follows its prompt. 7.5 is usual; 1 is none."
MODEL_TOOLTIP = "From Load Edit Model; the same one as on Parse Prompt."
STEPS_TOOLTIP = "DDIM steps, there and back. 50 is usual; fewer are faster and less faithful."
TARGET_TOOLTIP = "What the image should show: the source prompt with a word swapped, added or left out."
MOST_SEED = 2**63 - 1


def model_input(tooltip: str = MODEL_TOOLTIP) -> io.Input:
    """The socket of an edit model."""
    return sockets.Model.Input("model", tooltip=tooltip)


def image_input() -> io.Input:
    """The socket of the image to edit."""
    return io.Image.Input(
        "image",
        tooltip="The image to edit, one at a time, at least 64 pixels on each side. Sides that the model"
        " cannot take are padded, and the edit is cropped again.",
    )


def prompt_input() -> io.Input:
    """The socket of what the image shows."""
    return sockets.Prompt.Input("prompt", tooltip="What the image shows, from Parse Prompt.")


def target_input(tooltip: str = TARGET_TOOLTIP) -> io.Input:
    """What the image should show."""
    return io.String.Input(
        "target",
        multiline=True,
        default="a yellow fox and a red star in a meadow",
        tooltip=tooltip,
    )


def steps_input(tooltip: str = STEPS_TOOLTIP, least: int = 2) -> io.Input:
    """How many steps."""
    return io.Int.Input("steps", default=50, min=least, max=1000, tooltip=tooltip)


def scale_input(name: str, default: float, tooltip: str = GUIDANCE_TOOLTIP) -> io.Input:
    """A scale of guidance, 0 to 100."""
    return io.Float.Input(name, default=default, min=0.0, max=100.0, step=0.1, tooltip=tooltip)


def guidance_input(tooltip: str = GUIDANCE_TOOLTIP) -> io.Input:
    """The scale of classifier-free guidance."""
    return scale_input("guidance", 7.5, tooltip)


def share_input(name: str, default: float, tooltip: str) -> io.Input:
    """A share of something, 0 to 1."""
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=0.05, tooltip=tooltip)


def seed_input(tooltip: str) -> io.Input:
    """The seed of whatever is random. It stays as it is, so that a second run finds the first's results."""
    return io.Int.Input("seed", default=0, min=0, max=MOST_SEED, control_after_generate=False, tooltip=tooltip)
