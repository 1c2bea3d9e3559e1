"""Outputs that several nodes have, so that they are called and explained alike everywhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from . import types
from .tensors import latent_of_image, to_comfy_image, to_comfy_mask

if TYPE_CHECKING:
    from ...locinv_core.localization.priors import LocalizationPrior
    from .payloads import EditedImage


def model_output() -> io.Output:
    """The socket of an edit model that was opened."""
    return types.Model.Output(display_name="model", tooltip="For Parse Prompt and DDIM Invert.")


def inversion_output() -> io.Output:
    """The socket of an inversion."""
    return types.Inversion.Output(
        display_name="inversion", tooltip="For Optimize Tokens, Null-Text Inversion and Prompt-to-Prompt Edit."
    )


def prior_outputs(*, several: bool = False) -> list[io.Output]:
    """A prior, and all its masks joined; `several`: a list of each."""
    tooltips = "For Optimize Tokens, LocInv and Prompt-to-Prompt Edit.", "The prior's masks of all words, joined."
    return [
        types.Prior.Output(display_name="prior", tooltip=tooltips[0], is_output_list=several),
        io.Mask.Output(display_name="mask", tooltip=tooltips[1], is_output_list=several),
    ]


def image_output() -> io.Output:
    """The edited image."""
    return io.Image.Output(display_name="image", tooltip="The edited image.")


def latent_output() -> io.Output:
    """The edit's latents."""
    return io.Latent.Output(
        display_name="latent", tooltip="The edit's latents, as this model's own VAE in ComfyUI has them."
    )


def edit_outputs() -> list[io.Output]:
    """What `edit_output` gives."""
    return [
        image_output(),
        io.Image.Output(
            display_name="reconstruction", tooltip="What the source prompt gives: how good the inversion is."
        ),
        io.Mask.Output(display_name="mask", tooltip="Where the edit could change the image."),
        io.Latent.Output(
            display_name="latent",
            tooltip="The edit's latents, as this model's own VAE in ComfyUI has them, with the mask as noise mask: a"
            " KSampler goes on inside the mask alone. Sides are those of the image, rounded up to the VAE's cells.",
        ),
        types.Maps.Output(
            display_name="maps", tooltip="Cross-attention maps of the target's words, for Cross-Attention Maps."
        ),
        io.String.Output(display_name="cost", tooltip="What the edit cost: NFE and seconds."),
    ]


def prior_output(prior: LocalizationPrior, *more: Any, ui: Any = None) -> io.NodeOutput:
    """A prior as `prior_outputs`, and what a node has beside them."""
    return io.NodeOutput(prior, to_comfy_mask(prior.union()), *more, ui=ui)


def edit_output(edit: EditedImage) -> io.NodeOutput:
    """An edit as a node's outputs, and its cost under the node."""
    from .payloads import WordMaps

    edit.tracker.show_cost()
    return io.NodeOutput(
        to_comfy_image(edit.edited),
        to_comfy_image(edit.reconstruction),
        to_comfy_mask(edit.mask),
        latent_of_image(edit.latents, edit.mask, edit.cell),
        WordMaps(edit.edited, edit.maps, {}),
        edit.tracker.cost,
        ui=ui.PreviewText(edit.tracker.cost),
    )
