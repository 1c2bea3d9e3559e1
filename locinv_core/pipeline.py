"""The whole way from an image to its edit: encode, invert, tune, reconstruct, edit, composite.

Each stage is a function of its own module; this strings them together as a method says, and keeps the books.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from ..methods.dpl import dpl_groups, plan_dpl
from ..methods.presets import METHODS, Method, MethodSettings
from .backbones.stable_diffusion import EditModel
from .cost import REPORT_STAGE, CostTracker
from .editing.edited_objects import edited_mask
from .editing.prompt_to_prompt import Edit
from .guidance import check_guidance
from .imaging.composite import composite
from .imaging.metrics import best_iou, finite, mse, psnr, ssim
from .imaging.padding import Padding
from .inversion.ddim_inversion import Inversion, ddim_invert
from .inversion.null_text import NullTextSettings, reconstruct_by
from .localization.algorithm1 import LocInvSettings, locinv
from .localization.attention_maps import maps_before_and_after
from .localization.plan import (
    Binding,
    TuningPlan,
    bindings_of_edit,
    plan_tuning,
    word_name,
)
from .localization.priors import LocalizationPrior
from .localization.token_optimizer import TuningSettings
from .text.prompt import Prompt, parse_prompt
from .text.word_alignment import align


@dataclass(frozen=True)
class EditRequest:
    """What to change, and how. Only the image and the two texts have no default.

    `bindings` None binds what the edit itself shows to be an attribute edit; () binds nothing.
    `settings` None takes the method's, `tuning` None the defaults of its solver.
    `feather` and `composite_grow` are in pixels, for `composite_pixels`: the edit is put over the image in
    the edited place, grown so far on every side, for objects that change their shape.
    """

    image: Tensor
    """(1, 3, H, W) in [0, 1]; any size that is not too small."""
    source: str
    target: str
    prior: LocalizationPrior | None = None
    method: Method = METHODS["locinv"]
    bindings: Sequence[Binding] | None = None
    steps: int = 50
    settings: MethodSettings | None = None
    tuning: TuningSettings | None = None
    null_text: NullTextSettings = field(default_factory=NullTextSettings)
    interleaved: bool = True
    composite_pixels: bool = False
    feather: float = 2.0
    composite_grow: float = 0.0

    @property
    def edit_settings(self) -> MethodSettings:
        """The settings of the method's sampling: those given, or the method's."""
        return self.method.settings() if self.settings is None else self.settings


@dataclass(frozen=True)
class LocalizedEdit:
    """An edit and what it is judged by; images are (1, 3, H, W), float32 in [0, 1], of the input's size."""

    edited: Tensor
    reconstruction: Tensor
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
    """psnr, ssim and mse outside the union of the priors; None without a prior, or if that covers all."""


@dataclass(frozen=True)
class CheckedRequest:
    """A request whose texts are read and whose prior is in the frame that the model works at."""

    source: Prompt
    target: Prompt
    framing: Padding
    prior: LocalizationPrior | None
    bindings: tuple[Binding, ...]


def check_edit_request(model: EditModel, request: EditRequest, *, inversion: Inversion | None = None) -> CheckedRequest:
    """Raise ValueError for whatever can be wrong with a request, before any pass; see `localized_edit`."""
    method, prior = request.method, request.prior
    model.schedule.timesteps(request.steps)
    method.check_settings(request.edit_settings)
    check_guidance(request.edit_settings.guidance)
    if request.image.ndim != 4 or tuple(request.image.shape[:2]) != (1, 3):
        raise ValueError(f"image: got the shape {tuple(request.image.shape)}, requires one image (1, 3, H, W)")
    source = parse_prompt(request.source, model.tokenizer)
    target = parse_prompt(request.target, model.tokenizer)
    height, width = request.image.shape[-2:]
    framing = Padding.of(height, width, model.size_multiple)
    if prior is not None:
        prior = prior.padded(framing)
        prior.check_against(source)
    alignment = align(source, target)
    bindings = tuple(bindings_of_edit(source, alignment, prior) if request.bindings is None else request.bindings)
    for adjective, noun in bindings:
        source.find(adjective), source.find(noun)
    tunes = method.tokens != "off" and (inversion is None or inversion.token_vectors is None)
    if tunes and method.objective == "locinv" and prior is None:
        raise ValueError(
            f"prior: the method {method.name!r} tunes words towards their places, requires a mask or a box for one"
        )
    if tunes and method.objective == "dpl":
        dpl_groups(source, prior)
    if method.check_choices is not None:
        method.check_choices(model, source, [target], request.edit_settings, prior)
    if request.composite_pixels and prior is None:
        raise ValueError("composite: it keeps what is outside the prior, requires a mask or a box for a word")
    for name in ("feather", "composite_grow"):
        if not 0 <= (pixels := getattr(request, name)) < math.inf:
            raise ValueError(f"{name}: got {pixels}, requires a number of pixels, 0 or more")
    return CheckedRequest(source, target, framing, prior, bindings)


def localized_edit(
    model: EditModel, request: EditRequest, *, inversion: Inversion | None = None, tracker: CostTracker | None = None
) -> LocalizedEdit:
    """Invert the image, tune, reconstruct and edit, as the request's method says.

    An `inversion` given brings the stages that it holds; those that the method requires beside them are run.
    Everything that can be wrong with the request is found out before any UNet pass (ValueError).
    """
    tracker = tracker or CostTracker()
    method = request.method
    checked = check_edit_request(model, request, inversion=inversion)
    source, target, framing, prior = checked.source, checked.target, checked.framing, checked.prior
    bindings = checked.bindings
    with tracker.stage("encode"):
        latents = model.encode(framing.pad_image(request.image))
    if inversion is None:
        inversion = ddim_invert(model, latents, source, request.steps, tracker=tracker)
    else:
        _check_inversion(inversion, model, latents, source, request.steps)
    inversion = _prepared(model, inversion, method, request, prior, bindings, tracker)

    result = method.edit(model, inversion, [target], request.edit_settings, prior=prior, tracker=tracker)
    with tracker.stage("decode"):
        edited, reconstruction = (framing.crop(model.decode(z)).cpu() for z in (result.latents, result.source_latents))
    if request.composite_pixels and request.prior is not None:
        reweighted = getattr(request.edit_settings, "equalizer", ())
        place = edited_mask(source, target, request.prior, reweighted=reweighted, grown=request.composite_grow)
        edited = composite(request.image, edited, place, request.feather)
    return LocalizedEdit(edited, reconstruction, inversion, result, bindings)


def judge(
    model: EditModel, request: EditRequest, outcome: LocalizedEdit, *, tracker: CostTracker | None = None
) -> Quality:
    """The report's figures; passes made for them are booked under `report`."""
    tracker = tracker or CostTracker()
    prior = request.prior
    source = outcome.inversion.prompt
    placed = () if prior is None else prior.words
    words = [*placed, *(name for i in source.nouns if (name := word_name(source, i)).lower() not in placed)]
    height, width = request.image.shape[-2:]
    framing = Padding.of(height, width, model.size_multiple)
    with tracker.stage(REPORT_STAGE):
        before, after = (
            {word: values if framing.is_trivial else framing.map_to_pixels(values) for word, values in maps.items()}
            for maps in maps_before_and_after(model, outcome.inversion, words, tracker=tracker)
        )
    background = None
    iou: list[dict[str, float]] = [{}, {}]
    if prior is not None:
        iou = [{word: best_iou(maps[word], prior.mask(word)) for word in placed} for maps in (before, after)]
        outside = 1 - prior.union()
        if bool(outside.any()):
            pair = (request.image, outcome.edited, outside)
            background = {"psnr": finite(psnr(*pair)), "ssim": finite(ssim(*pair)), "mse": mse(*pair)}
    return Quality(iou[0], iou[1], before, after, finite(psnr(request.image, outcome.reconstruction)), background)


def _prepared(
    model: EditModel,
    inversion: Inversion,
    method: Method,
    request: EditRequest,
    prior: LocalizationPrior | None,
    bindings: tuple[Binding, ...],
    tracker: CostTracker,
) -> Inversion:
    """The inversion with tokens and null text as the method requires them."""
    guidance = request.edit_settings.guidance
    solver = method.tokens
    if solver == "off" or inversion.token_vectors is not None:
        if inversion.null_method == method.null and inversion.guidance in (None, guidance):
            return inversion
        return reconstruct_by(method.null, model, inversion, guidance, request.null_text, tracker=tracker)
    plan: TuningPlan
    if method.objective == "dpl" or prior is None:
        plan = plan_dpl(model, inversion, prior, tracker=tracker)
    else:
        plan = plan_tuning(inversion.prompt, prior, model.grid(*prior.size), bindings)
    return locinv(
        model,
        inversion,
        plan,
        LocInvSettings(
            guidance=guidance,
            null_method=method.null,
            interleaved=request.interleaved,
            tokens=request.tuning or TuningSettings.for_solver(solver),
            null_text=request.null_text,
        ),
        tracker=tracker,
    )


def _check_inversion(inversion: Inversion, model: EditModel, latents: Tensor, source: Prompt, steps: int) -> None:
    inversion.check_model(model)
    if inversion.prompt.token_ids != source.token_ids:
        raise ValueError(f"inversion: it was made with the source {inversion.prompt.text!r}, requires {source.text!r}")
    if inversion.steps != steps:
        raise ValueError(f"inversion: it has {inversion.steps} steps, requires {steps}")
    inversion.check_image(latents, model.latent_factor)
