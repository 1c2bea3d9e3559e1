"""An image on its way to latents and back, for methods that do not start from its DDIM inversion."""

from __future__ import annotations

from torch import Tensor

from ...locinv_core.backbones.base import Backbone
from ...locinv_core.cost import CostTracker
from ...locinv_core.imaging.padding import Padding
from ..types import EditTask, on_cpu


def padding_of(model: Backbone, task: EditTask) -> Padding:
    """How the task's image is padded for the model."""
    return Padding.of(task.image.shape[-2], task.image.shape[-1], model.size_multiple)


def encoded(model: Backbone, task: EditTask, tracker: CostTracker) -> Tensor:
    """z_0 (1, C, h, w) of the task's padded image."""
    with tracker.stage("encode"):
        return model.encode(padding_of(model, task).pad_image(task.image))


def decoded(model: Backbone, latents: Tensor, task: EditTask, tracker: CostTracker) -> Tensor:
    """The image (1, 3, H, W) of z_0, cropped to the task's size, on the CPU."""
    with tracker.stage("decode"):
        return on_cpu(padding_of(model, task).crop(model.decode(latents)))
