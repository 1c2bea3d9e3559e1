"""What every method of editing takes and gives: the task, the models that there are, the outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from ..locinv_core.backbones.base import Backbone
from ..locinv_core.backbones.stable_diffusion import EditModel
from ..locinv_core.cost import CostTracker
from ..locinv_core.inversion.ddim_inversion import Inversion
from ..locinv_core.localization.plan import Binding
from ..locinv_core.localization.priors import LocalizationPrior
from ..locinv_core.pipeline import LocalizedEdit
from ..locinv_core.recipe import EditRecipe
from ..locinv_core.text.prompt import Prompt, parse_prompt
from ..region_core.editors.amused import AmusedModel
from ..region_core.encoders.clip import ClipEncoder
from ..region_core.encoders.vit import VisionFeatures
from .shared.flat_settings import edit_options, made_settings

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
    """Masks and boxes of the source's words."""
    mask: Tensor | None = None
    """(H, W) of 0 and 1, where the edit may show; None: the prior's masks of the objects that it changes."""
    instruction: str | None = None
    """The edit as an order; None: one is made of the two prompts."""
    bindings: Sequence[Binding] | None = None
    inversion: Inversion | None = None
    """Of the image with the source prompt, where one was made before; for methods that invert by DDIM."""
    to_find: tuple[str, ...] = ()
    """Words of the source whose masks will be found before the edit: checks pass over what depends on those."""
    reconstruct: bool = True
    """Whether the reconstruction is used."""
    remarks: tuple[str, ...] = ()
    """How the input was understood, for the report."""


@dataclass(frozen=True)
class MethodModels:
    """The models that there are; `registry.open_models` opens what some methods need."""

    model: Backbone | None = None
    inpaint: EditModel | None = None
    instruct: EditModel | None = None
    clip: ClipEncoder | None = None
    vit: VisionFeatures | None = None
    amused: AmusedModel | None = None

    @property
    def editing(self) -> Backbone:
        """The diffusion model that edits."""
        model = self.inpaint or self.instruct or self.model
        assert model is not None
        return model


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
    """Of the methods with a recipe: what `pipeline.judge` takes."""


class EditFunction(Protocol):
    """What runs a method; `settings` are those that its `settings` has made."""

    def __call__(
        self, models: MethodModels, task: EditTask, settings: Any, seed: int, tracker: CostTracker
    ) -> MethodOutcome: ...


class CheckFunction(Protocol):
    """What raises ValueError, before any pass, for a task or settings that a method would refuse."""

    def __call__(self, models: MethodModels, task: EditTask, settings: Any) -> Any: ...


@dataclass(frozen=True)
class Method:
    """A method of editing: METHOD in the file that is named after it.

    name: that of `--method`. label: its title. paper: authors and year. needs: what it cannot do without; serves:
    models that it can use beside those. settings_type: the fields of its settings, for nodes and docs. recipe: of the
    methods that edit a DDIM inversion.
    """

    name: str
    label: str
    paper: str
    kind: Kind
    needs: tuple[Need, ...]
    settings_type: type[Any]
    edit: EditFunction
    check_task: CheckFunction | None = None
    recipe: EditRecipe | None = None
    serves: tuple[Need, ...] = ()

    def settings(self, **choices: Any) -> Any:
        """The settings of these choices by name: `settings_type`, or of a recipe its `EditOptions`.

        Raises ValueError for one that the method lacks, or that is out of bounds.
        """
        if self.recipe is not None:
            return edit_options(self.recipe, choices)
        return made_settings(self.settings_type, self.name, choices)

    def check(self, models: MethodModels, task: EditTask, settings: Any = None) -> None:
        """Raise ValueError, before any pass, for what the method lacks and, given its settings, for what it would
        refuse."""
        for need in self.needs:
            if need == "prior" and self.recipe is not None:
                continue  # Its own check knows whether this edit needs one.
            there: Any = None if need in ("prior", "mask") else getattr(models, need)
            if need in ("prior", "mask"):
                there = task.prior if task.prior is not None else task.to_find or None
            if need == "mask" and task.mask is not None:
                there = task.mask
            if there is None:
                raise ValueError(f"{need}: the method {self.name!r} requires {WANTS[need]}, and there is none")
        if task.image.ndim != 4 or tuple(task.image.shape[:2]) != (1, 3):
            raise ValueError(f"image: got the shape {tuple(task.image.shape)}, requires (1, 3, H, W)")
        if task.mask is not None:
            check_mask(task.mask, task.image)
        if settings is not None and self.check_task is not None:
            self.check_task(models, task, settings)


def check_mask(mask: Tensor, image: Tensor) -> None:
    """Raise ValueError unless `mask` is (H, W) of 0 and 1 at the image's size, and not empty."""
    if mask.shape != image.shape[-2:]:
        raise ValueError(f"mask: got the shape {tuple(mask.shape)}, requires the image's {tuple(image.shape[-2:])}")
    if not bool(((mask == 0) | (mask == 1)).all()):
        raise ValueError("mask: got values other than 0 and 1")
    if not bool(mask.any()):
        raise ValueError("mask: it is empty, requires at least one pixel")


def prompts_of(model: Backbone, task: EditTask) -> tuple[Prompt, Prompt]:
    """The source and the target as the model reads them. Raises ValueError as `parse_prompt`."""
    return parse_prompt(task.source, model.tokenizer), parse_prompt(task.target, model.tokenizer)


def on_cpu(image: Tensor) -> Tensor:
    """float32 on the CPU."""
    return image.detach().to("cpu", torch.float32)
