"""What every edit node does around its method: reads the target, samples it, gives out what came of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from comfy_api.latest import io

from . import types as sockets
from .tensors import image_of

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.localization.priors import LocalizationPrior
    from ...locinv_core.text.prompt import Prompt
    from ...methods.presets import EditFunction, MethodSettings
    from .inverted_image import InvertedImage
    from .progress import NodeRun

CATEGORY = "Pinpoint/edit"


def image_output() -> io.Output:
    """The edited image."""
    return io.Image.Output(display_name="image", tooltip="The edited image.")


def latent_output() -> io.Output:
    """The edit's latents."""
    return io.Latent.Output(
        display_name="latent", tooltip="The edit's latents, as this model's own VAE in ComfyUI has them."
    )


def edit_outputs() -> list[io.Output]:
    """What `EditedPicture.output` gives."""
    return [
        image_output(),
        io.Image.Output(
            display_name="reconstruction", tooltip="What the source prompt gives: how good the inversion is."
        ),
        io.Mask.Output(display_name="mask", tooltip="Where the edit could change the image."),
        latent_output(),
        sockets.Maps.Output(display_name="maps", tooltip="Where the target's words look, for Cross-Attention Maps."),
    ]


@dataclass(frozen=True)
class EditedImage:
    """An edit on the image's own size, on the CPU."""

    target: Prompt
    edited: Tensor
    """(1, 3, H, W) in [0, 1]."""
    reconstruction: Tensor
    """(1, 3, H, W) in [0, 1]."""
    mask: Tensor
    """(H, W): where the edit could change the image."""
    latents: Tensor
    """(1, C, h, w), as ComfyUI's VAE has them."""
    maps: Mapping[str, Tensor]
    """(H, W) by word of the target."""
    tracker: NodeRun
    """What it cost."""

    def output(self) -> io.NodeOutput:
        """The node's outputs, and its cost under it."""
        from .inverted_image import WordMaps

        self.tracker.show_cost()
        return io.NodeOutput(
            image_of(self.edited),
            image_of(self.reconstruction),
            self.mask[None],
            {"samples": self.latents},
            WordMaps(self.edited, self.maps, {}),
        )


def edited_by(
    edit: EditFunction,
    inverted: InvertedImage,
    target: str,
    settings: MethodSettings,
    prior: LocalizationPrior | None = None,
) -> EditedImage:
    """Sample the target from the inverted image by a method's `edit`, with its settings.

    Raises ValueError for a target that does not fit the model and a prior that does not fit the image.
    """
    from ...locinv_core.text.prompt import parse_prompt
    from .progress import node_run

    framing = inverted.framing
    prompt = parse_prompt(target, inverted.model.model.tokenizer)
    framed = None if prior is None else inverted.framed(prior)
    tracker = node_run("edit", preview=inverted.preview())
    with inverted.model.ready() as model:
        result = edit(model, inverted.inversion, [prompt], settings, prior=framed, tracker=tracker)
        edited, reconstruction = (framing.crop(model.decode(z)).cpu() for z in (result.latents, result.source_latents))
        if result.blend_masks is None:
            mask = torch.ones(framing.height, framing.width)
        else:
            mask = framing.mask_to_pixels(result.blend_masks[0].cpu()).clone()
        latents = (result.latents / model.vae.config.scaling_factor).cpu()
        maps = {word: inverted.on_image(values) for word, values in result.target_maps[0].items()}
    return EditedImage(prompt, edited, reconstruction, mask, latents, maps, tracker)
