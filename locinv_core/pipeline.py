"""The whole way from an image to its edit: encode, invert, optimize tokens, reconstruct, edit, composite.

Each stage is a function of its own module; this runs them as a recipe says, and records what they cost.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from .backbones.base import Backbone
from .cost import REPORT_STAGE, CostTracker
from .editing.edited_objects import edited_mask
from .editing.prompt_to_prompt import Edit
from .guidance import check_guidance
from .imaging.composite import composite
from .imaging.metrics import best_iou, finite, outside_figures, psnr
from .imaging.padding import Padding
from .inversion.ddim_inversion import Inversion, ddim_invert
from .inversion.null_text import NullTextSettings, reconstruct_by
from .localization.algorithm1 import LocInvSettings, locinv
from .localization.attention_maps import maps_before_and_after
from .localization.plan import Binding, bindings_of_edit, word_name
from .localization.priors import LocalizationPrior
from .localization.token_optimizer import TuningSettings
from .recipe import LOCINV, EditRecipe
from .text.prompt import Prompt, parse_prompt
from .text.word_alignment import align


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """How to edit, whatever the image. `settings` None takes the recipe's, `tuning` None those of its solver.

    `feather` and `composite_grow` are in pixels, for `composite`: the edit is put over the image inside the edited
    mask, grown so far on every side, for objects that change their shape.
    """

    recipe: EditRecipe = LOCINV
    steps: int = 50
    settings: Any = None
    tuning: TuningSettings | None = None
    null_text: NullTextSettings = field(default_factory=NullTextSettings)
    interleaved: bool = True
    composite: bool = False
    feather: float = 2.0
    composite_grow: float = 0.0

    @property
    def edit_settings(self) -> Any:
        """The settings of the recipe's sampling: those given, or the recipe's."""
        return self.recipe.settings() if self.settings is None else self.settings


@dataclass(frozen=True)
class EditRequest(EditOptions):
    """What to change, and how. Only the image and the two texts have no default.

    `image` is (1, 3, H, W) in [0, 1], of any size that is not too small. `bindings` None binds what the edit itself
    shows to be an attribute edit; () binds nothing.
    """

    image: Tensor
    source: str
    target: str
    prior: LocalizationPrior | None = None
    bindings: Sequence[Binding] | None = None


@dataclass(frozen=True)
class LocalizedEdit:
    """An edit and what it is judged by; images are (1, 3, H, W), float32 in [0, 1], of the input's size."""

    request: EditRequest
    edited: Tensor
    reconstruction: Tensor | None
    """None where it was not asked for."""
    inversion: Inversion
    edit: Edit
    bindings: tuple[Binding, ...]


@dataclass(frozen=True)
class Quality:
    """Figures of an edit for its report. Maps, (rows, columns), are of the prior's words and of other nouns;
    the IoU, best over thresholds, of the prior's words alone."""

    iou_before: Mapping[str, float]
    iou_after: Mapping[str, float]
    maps_before: Mapping[str, Tensor]
    maps_after: Mapping[str, Tensor]
    reconstruction_psnr: float | None
    background: Mapping[str, float | None] | None
    """psnr, ssim and mse outside the union of the prior's masks; None without a prior, or if that covers all."""


@dataclass(frozen=True)
class CheckedRequest:
    """A request whose texts are read and whose prior is padded as the image is."""

    source: Prompt
    target: Prompt
    padding: Padding
    prior: LocalizationPrior | None
    bindings: tuple[Binding, ...]


def check_edit_request(
    model: Backbone, request: EditRequest, *, inversion: Inversion | None = None, to_find: Sequence[str] = ()
) -> CheckedRequest:
    """Raise ValueError for whatever can be wrong with a request, before any pass; see `localized_edit`.

    to_find: words of the source whose masks are still to be found; what depends on a mask is then left out.
    """
    recipe, prior, settings = request.recipe, request.prior, request.edit_settings
    model.schedule.timesteps(request.steps)
    recipe.check_settings(settings)
    check_guidance(settings.guidance)
    if request.image.ndim != 4 or tuple(request.image.shape[:2]) != (1, 3):
        raise ValueError(f"image: got the shape {tuple(request.image.shape)}, requires one image (1, 3, H, W)")
    source = parse_prompt(request.source, model.tokenizer)
    target = parse_prompt(request.target, model.tokenizer)
    padding = Padding.of(request.image.shape[-2], request.image.shape[-1], model.size_multiple)
    if prior is not None:
        prior = prior.padded(padding)
        prior.check_against(source)
    for word in to_find:
        source.locate(word)
    alignment = align(source, target)
    bindings = tuple(bindings_of_edit(source, alignment, prior) if request.bindings is None else request.bindings)
    for adjective, noun in bindings:
        source.find(adjective), source.find(noun)
    if not to_find:
        if recipe.tokens != "off" and (inversion is None or inversion.token_vectors is None):
            recipe.check_plan(recipe.name, source, prior)
        if recipe.check is not None:
            recipe.check(model, source, [target], settings, prior)
    if request.composite and prior is None and not to_find:
        raise ValueError("composite: it keeps what is outside the prior, requires a mask or a box for a word")
    for name in ("feather", "composite_grow"):
        if not 0 <= (pixels := getattr(request, name)) < math.inf:
            raise ValueError(f"{name}: got {pixels}, requires a number of pixels, 0 or more")
    return CheckedRequest(source, target, padding, prior, bindings)


def localized_edit(
    model: Backbone,
    request: EditRequest,
    *,
    inversion: Inversion | None = None,
    latents: Tensor | None = None,
    reconstruct: bool = True,
    tracker: CostTracker | None = None,
) -> LocalizedEdit:
    """Invert the image, optimize tokens, reconstruct and edit, as the request's recipe says.

    An `inversion` given brings the stages that it holds; those that the recipe requires beside them are run.
    latents: the padded image, (1, C, h, w), where it is encoded already. reconstruct: whether the reconstruction is
    decoded. Everything that can be wrong with the request is found out before any UNet pass (ValueError).
    """
    tracker = tracker or CostTracker()
    checked = check_edit_request(model, request, inversion=inversion)
    source, padding, prior = checked.source, checked.padding, checked.prior
    if latents is None:
        with tracker.stage("encode"):
            latents = model.encode(padding.pad_image(request.image))
    if inversion is None:
        inversion = ddim_invert(model, latents, source, request.steps, tracker=tracker)
    else:
        _check_inversion(inversion, model, latents, source, request.steps)
    inversion = _prepared(model, inversion, request, checked, tracker)

    settings = request.edit_settings
    result = request.recipe.edit(model, inversion, [checked.target], settings, prior=prior, tracker=tracker)
    with tracker.stage("decode"):
        edited = padding.crop(model.decode(result.latents)).cpu()
        reconstruction = padding.crop(model.decode(result.source_latents)).cpu() if reconstruct else None
    if request.composite and request.prior is not None:
        reweighted = getattr(settings, "equalizer", ())
        mask = edited_mask(source, checked.target, request.prior, reweighted=reweighted, grown=request.composite_grow)
        edited = composite(request.image, edited, mask, request.feather)
    return LocalizedEdit(request, edited, reconstruction, inversion, result, checked.bindings)


def judge(model: Backbone, outcome: LocalizedEdit, *, tracker: CostTracker | None = None) -> Quality:
    """The report's figures; passes made for them are counted under `report`."""
    tracker = tracker or CostTracker()
    image, prior, source = outcome.request.image, outcome.request.prior, outcome.inversion.prompt
    placed = () if prior is None else prior.words
    words = [*placed, *(name for i in source.nouns if (name := word_name(source, i)).lower() not in placed)]
    padding = Padding.of(image.shape[-2], image.shape[-1], model.size_multiple)
    with tracker.stage(REPORT_STAGE):
        before, after = (
            {word: values if padding.is_trivial else padding.map_to_pixels(values) for word, values in maps.items()}
            for maps in maps_before_and_after(model, outcome.inversion, words, tracker=tracker)
        )
    iou: list[dict[str, float]] = [{}, {}]
    if prior is not None:
        iou = [{word: best_iou(maps[word], prior.mask(word)) for word in placed} for maps in (before, after)]
    reconstruction = outcome.reconstruction
    return Quality(
        iou[0],
        iou[1],
        before,
        after,
        None if reconstruction is None else finite(psnr(image, reconstruction)),
        None if prior is None else outside_figures(image, outcome.edited, prior.union()),
    )


def _prepared(
    model: Backbone, inversion: Inversion, request: EditRequest, checked: CheckedRequest, tracker: CostTracker
) -> Inversion:
    """The inversion with tokens and null text as the recipe requires them."""
    recipe, guidance = request.recipe, request.edit_settings.guidance
    if recipe.tokens == "off" or inversion.token_vectors is not None:
        if inversion.null_method == recipe.null and inversion.guidance in (None, guidance):
            return inversion
        return reconstruct_by(recipe.null, model, inversion, guidance, request.null_text, tracker=tracker)
    plan = recipe.plan(model, inversion, checked.prior, checked.bindings, tracker=tracker)
    return locinv(
        model,
        inversion,
        plan,
        LocInvSettings(
            guidance=guidance,
            null_method=recipe.null,
            interleaved=request.interleaved,
            tokens=request.tuning or TuningSettings.for_solver(recipe.tokens),
            null_text=request.null_text,
        ),
        tracker=tracker,
    )


def _check_inversion(inversion: Inversion, model: Backbone, latents: Tensor, source: Prompt, steps: int) -> None:
    inversion.check_model(model)
    if inversion.prompt.token_ids != source.token_ids:
        raise ValueError(f"inversion: it was made with the source {inversion.prompt.text!r}, requires {source.text!r}")
    if inversion.steps != steps:
        raise ValueError(f"inversion: it has {inversion.steps} steps, requires {steps}")
    inversion.check_image(latents, model.latent_factor)
