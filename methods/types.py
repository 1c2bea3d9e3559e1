"""What every method of editing takes and gives: the task, the models that there are, the outcome."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ..locinv_core.backbones.stable_diffusion import EditModel
from ..locinv_core.cost import CostTracker
from ..locinv_core.editing.edited_objects import edited_mask, edited_objects
from ..locinv_core.imaging.padding import Padding
from ..locinv_core.inversion.ddim_inversion import Inversion
from ..locinv_core.localization.plan import Binding
from ..locinv_core.localization.priors import LocalizationPrior
from ..locinv_core.pipeline import EditRequest, LocalizedEdit
from ..locinv_core.text.prompt import Prompt, parse_prompt
from ..locinv_core.text.word_alignment import align
from ..region_core.editors.amused import AmusedModel
from ..region_core.encoders.clip import ClipEncoder
from ..region_core.encoders.vit import VisionFeatures

Need = Literal["model", "inpaint", "instruct", "amused", "clip", "vit", "prior", "mask"]
"""What a method cannot do without: one of the models, or something of the task."""

Kind = Literal["frozen", "masked", "tuned", "instructed"]
"""`frozen`: edits by an inversion or a region with a model as it is. `masked`: edits inside a given mask.
`tuned`: tunes a copy of the model to the image. `instructed`: a model trained to follow instructions."""

WANTS: Mapping[Need, str] = {
    "model": "a text-to-image model",
    "inpaint": "an inpainting model (a diffusers folder whose UNet reads a mask: 9 channels)",
    "instruct": "an InstructPix2Pix model (a diffusers folder whose UNet reads an image: 8 channels)",
    "amused": "an aMUSEd model",
    "clip": "a CLIP",
    "vit": "a ViT",
    "prior": "a mask or a box for a word",
    "mask": "a mask, or a mask or a box for a word",
}


@dataclass(frozen=True)
class EditTask:
    """One edit of one image, whatever the method; a method reads what it needs of it."""

    image: Tensor
    """(1, 3, H, W) in [0, 1]."""
    source: str
    target: str
    prior: LocalizationPrior | None = None
    """Places of the source's words."""
    mask: Tensor | None = None
    """(H, W) of 0 and 1, where the edit may show; None: the places of the objects that it changes."""
    instruction: str | None = None
    """The edit as an order; None: one is made of the two prompts."""
    bindings: Sequence[Binding] | None = None
    inversion: Inversion | None = None
    """Of the image with the source prompt, where one was made before; for methods that invert by DDIM."""


@dataclass(frozen=True)
class MethodModels:
    """The models that there are; `method_models.open_models` opens what some methods need."""

    model: EditModel | None = None
    inpaint: EditModel | None = None
    instruct: EditModel | None = None
    clip: ClipEncoder | None = None
    vit: VisionFeatures | None = None
    amused: AmusedModel | None = None


@dataclass(frozen=True, eq=False)
class MethodOutcome:
    """What a method has made; images are (1, 3, H, W), float32 in [0, 1], on the CPU."""

    edited: Tensor
    reconstruction: Tensor | None = None
    """The image as the method gives it back without an edit; None where it does not."""
    mask: Tensor | None = None
    """(H, W) float32: where the method could edit, or the share of the steps in which it did."""
    latents: Tensor | None = None
    """(1, C, h, w) float32 on the CPU: the edit of the padded image, as the model has it; None where the
    method gives none."""
    source_maps: Mapping[str, Tensor] = field(default_factory=dict)
    """Word → (rows, columns): where the source's words look in a method that has a source branch."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What a report says beside this; plain JSON."""
    localized: LocalizedEdit | None = None
    """For the methods of `locinv_core.presets`, with the request, what `localized_edit.judge` takes."""
    request: EditRequest | None = None


class EditFunction(Protocol):
    """What runs a method; `settings` are those that its `settings` has made."""

    def __call__(
        self, models: MethodModels, task: EditTask, settings: Any, seed: int, tracker: CostTracker
    ) -> MethodOutcome: ...


@dataclass(frozen=True)
class AnyMethod:
    """A method by name. `settings(**choices)` makes its settings; ValueError for one that it lacks."""

    name: str
    label: str
    kind: Kind
    needs: tuple[Need, ...]
    settings: Callable[..., Any]
    edit: EditFunction

    def check(self, models: MethodModels, task: EditTask) -> None:
        """Raise ValueError naming what the method lacks, of the models or of the task."""
        for need in self.needs:
            if need == "mask":
                there: Any = task.mask if task.mask is not None else task.prior
            else:
                there = task.prior if need == "prior" else getattr(models, need)
            if there is None:
                raise ValueError(f"{need}: the method {self.name!r} requires {WANTS[need]}, and there is none")
        if task.image.ndim != 4 or tuple(task.image.shape[:2]) != (1, 3):
            raise ValueError(f"image: got the shape {tuple(task.image.shape)}, requires (1, 3, H, W)")
        if task.mask is not None:
            check_mask(task.mask, task.image)


def check_mask(mask: Tensor, image: Tensor) -> None:
    """Raise ValueError unless `mask` is (H, W) of 0 and 1 at the image's size, and not empty."""
    if mask.shape != image.shape[-2:]:
        raise ValueError(f"mask: got the shape {tuple(mask.shape)}, requires the image's {tuple(image.shape[-2:])}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("mask: got values other than 0 and 1")
    if not bool(mask.any()):
        raise ValueError("mask: it is empty, requires at least one pixel")


def prompts_of(model: EditModel, task: EditTask) -> tuple[Prompt, Prompt]:
    """The source and the target as the model reads them. Raises ValueError as `parse_prompt`."""
    return parse_prompt(task.source, model.tokenizer), parse_prompt(task.target, model.tokenizer)


def edit_mask(task: EditTask, source: Prompt, target: Prompt) -> Tensor:
    """(H, W) float32: where the edit may show, of the task's mask or its prior.

    Raises ValueError for neither, and for either at another size than the image's.
    """
    if task.mask is not None:
        check_mask(task.mask, task.image)
        return task.mask.float().cpu()
    if task.prior is None:
        raise ValueError(f"mask: got none, requires {WANTS['mask']}")
    own_size = Padding.of(task.image.shape[-2], task.image.shape[-1], 1)
    place = edited_mask(source, target, task.prior.padded(own_size)).float().cpu()
    check_mask(place, task.image)
    return place


def changed_objects(source: Prompt, target: Prompt) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What the edit changes, by name ("red cat"), in the source and in the target; none where it only adds
    or removes."""
    from .edit_directions import object_name

    objects = edited_objects(source, target, align(source, target))
    return (
        tuple(dict.fromkeys(object_name(source, i) for i in objects.source)),
        tuple(dict.fromkeys(object_name(target, j) for j in objects.target)),
    )


def made_settings(kind: type[Any], name: str, choices: Mapping[str, Any]) -> Any:
    """`kind(**choices)`, a list (JSON's) for a tuple. Raises ValueError for a field that there is not."""
    has = list(kind.__dataclass_fields__)
    for choice in choices:
        if choice not in has:
            raise ValueError(f"{choice}: the method {name!r} has no such setting, only {', '.join(has)}")
    return kind(**{key: as_tuple(value) for key, value in choices.items()})


def as_tuple(value: Any) -> Any:
    """A list as a tuple, all the way down; anything else as it is."""
    return tuple(as_tuple(part) for part in value) if isinstance(value, list) else value


def on_cpu(picture: Tensor) -> Tensor:
    """float32 on the CPU."""
    return picture.detach().to("cpu", torch.float32)
