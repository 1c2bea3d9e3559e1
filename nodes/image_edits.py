"""Imagic and LEDITS++, a node each: methods that start from the image itself, and not from an inversion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING

from comfy_api.latest import io

from .bridge import types
from .bridge.inputs import (
    EDIT_MODEL,
    guidance_input,
    image_input,
    model_input,
    number,
    seed_input,
    share_input,
    source_input,
    steps_input,
    target_input,
)
from .bridge.outputs import image_output, latent_output
from .bridge.tensors import from_comfy_image, from_comfy_mask, to_comfy_image

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.backbones.stable_diffusion import EditModel
    from ..locinv_core.localization.priors import LocalizationPrior
    from ..methods.types import MethodOutcome
    from .bridge.memory import ManagedModel
    from .bridge.progress import NodeTracker

CATEGORY = "Pinpoint/edit"
TUNING_BYTES = 16
"""Of a weight that Adam tunes: its copy in float32, its gradient and Adam's two moments."""


class ImagicEdit(io.ComfyNode):
    """Imagic: tunes a copy of the model to the image, then goes towards the target."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointImagicEdit",
            display_name="Imagic Edit",
            category=CATEGORY,
            description="Tunes the target's embedding and a copy of the UNet until they draw the image, and"
            " draws what lies between it and the target: for another pose or shape of the same object."
            " Takes long; the model itself stays as it is.",
            inputs=[
                model_input(EDIT_MODEL),
                image_input(),
                target_input("What the image should show. What it shows now is not asked for."),
                steps_input("DDIM steps of the drawing at the end.", least=1),
                guidance_input(),
                io.Float.Input(
                    "interpolation",
                    default=0.7,
                    min=0.0,
                    max=2.0,
                    step=0.05,
                    tooltip="0 draws the image itself, 1 the target. 0.6 to 0.8 are usual.",
                ),
                io.Int.Input(
                    "embedding_steps",
                    default=1000,
                    min=0,
                    max=100000,
                    tooltip="Adam's steps on the target's embedding, until it stands for the image. Each"
                    " costs three UNet passes.",
                ),
                _rate_input("embedding_rate", 2e-3, 1e-4, "Adam's learning rate on the embedding."),
                io.Int.Input(
                    "tuning_steps",
                    default=1500,
                    min=0,
                    max=100000,
                    tooltip="Adam's steps on the copy of the UNet, until it draws the image from that"
                    " embedding. Each costs three UNet passes.",
                ),
                _rate_input("tuning_rate", 5e-7, 1e-8, "Adam's learning rate on the copy of the UNet."),
                seed_input("Every noise that is drawn."),
            ],
            outputs=[image_output(), latent_output()],
        )

    @classmethod
    def execute(
        cls,
        model: ManagedModel,
        image: Tensor,
        target: str,
        steps: int,
        guidance: float,
        interpolation: float,
        embedding_steps: int,
        embedding_rate: float,
        tuning_steps: int,
        tuning_rate: float,
        seed: int,
    ) -> io.NodeOutput:
        from ..methods.imagic import EMBEDDING_STAGE, METHOD, TUNING_STAGE, ImagicSettings
        from ..methods.types import EditTask, MethodModels

        task = EditTask(from_comfy_image(image), source="", target=target)
        settings = ImagicSettings(
            steps=steps,
            guidance=guidance,
            interpolation=interpolation,
            embedding_steps=embedding_steps,
            embedding_rate=embedding_rate,
            tuning_steps=tuning_steps,
            tuning_rate=tuning_rate,
        )
        models = MethodModels(model=model.value)
        METHOD.check(models, task, settings)
        outcome = edited_from(
            model,
            task.image,
            partial(METHOD.edit, models, task, settings, seed),
            {EMBEDDING_STAGE: embedding_steps, TUNING_STAGE: tuning_steps, "edit": steps},
            memory=TUNING_BYTES * sum(weight.numel() for weight in model.value.unet.parameters()),
        )
        return io.NodeOutput(to_comfy_image(outcome.edited), latent_of(outcome, model.value))


class LeditsEdit(io.ComfyNode):
    """LEDITS++: concepts taken away and added, each where it belongs, on an exact inversion."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLeditsEdit",
            display_name="LEDITS++ Edit",
            category=CATEGORY,
            description="Takes away the objects that the source alone names and adds those that the target"
            " alone names, each where the model finds it, on an inversion that is exact.",
            inputs=[
                model_input(EDIT_MODEL),
                image_input(),
                source_input(),
                target_input(),
                types.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="Where the source's objects are: the edit stays in the place of those that it changes.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="White where the image may change, of its size; goes before the prior. The"
                    " masks of a batch are joined.",
                ),
                steps_input("Steps, there and back. 50 is usual; fewer are faster.", least=1),
                share_input(
                    "skip",
                    0.15,
                    "How many more steps the schedule has, as a share of the steps: the noisiest, which are"
                    " left out. More keeps more of the image.",
                ),
                number("guidance", 5.0, (0.0, 100.0, 0.1), "How strongly objects are taken away and added."),
                share_input(
                    "threshold",
                    0.9,
                    "An object acts on the part of the image above this quantile. More keeps it to a smaller place.",
                ),
                seed_input("The noises of the inversion."),
            ],
            outputs=[
                image_output(),
                io.Image.Output(display_name="reconstruction", tooltip="The image through the model's VAE."),
                io.Mask.Output(
                    display_name="mask",
                    tooltip="Where the edit acted, as the share of the steps in which it did.",
                ),
                latent_output(),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ManagedModel,
        image: Tensor,
        source: str,
        target: str,
        steps: int,
        skip: float,
        guidance: float,
        threshold: float,
        seed: int,
        prior: LocalizationPrior | None = None,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        from ..methods.ledits_pp import METHOD, LeditsSettings
        from ..methods.types import EditTask, MethodModels

        inside = None if mask is None else (from_comfy_mask(mask) >= 0.5).float()
        task = EditTask(from_comfy_image(image), source, target, prior, inside)
        within_mask = prior is not None or mask is not None
        settings = LeditsSettings(steps, skip, guidance, threshold, within_mask)
        models = MethodModels(model=model.value)
        METHOD.check(models, task, settings)
        work = partial(METHOD.edit, models, task, settings, seed)
        outcome = edited_from(model, task.image, work, {"inversion": steps, "edit": steps})
        assert outcome.reconstruction is not None and outcome.mask is not None
        return io.NodeOutput(
            to_comfy_image(outcome.edited),
            to_comfy_image(outcome.reconstruction),
            outcome.mask[None],
            latent_of(outcome, model.value),
        )


def edited_from(
    model: ManagedModel,
    picture: Tensor,
    work: Callable[[NodeTracker], MethodOutcome],
    stages: Mapping[str, int],
    memory: int = 0,
) -> MethodOutcome:
    """What `work` makes of an image (1, 3, H, W) while ComfyUI has the model ready; its cost is shown.

    stages: the steps of each stage that the bar goes through. memory: as `ManagedModel.ready` takes it.
    """
    from .bridge.previews import latent_preview
    from .bridge.progress import node_tracker

    with model.ready(memory) as ready:
        tracker = node_tracker(*stages, preview=latent_preview(ready, picture), steps=stages)
        outcome = work(tracker)
    tracker.show_cost()
    return outcome


def latent_of(outcome: MethodOutcome, model: EditModel) -> dict[str, Tensor]:
    """The LATENT of an edit, as ComfyUI's VAE has it."""
    assert outcome.latents is not None
    return {"samples": outcome.latents / model.vae.config.scaling_factor}


def _rate_input(name: str, default: float, step: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, max=1.0, step=step, round=False, tooltip=tooltip)


NODES = [ImagicEdit, LeditsEdit]
