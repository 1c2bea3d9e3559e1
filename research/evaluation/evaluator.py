"""Doing a task: edit an item's image by a method, measure the edit and the words' maps, count the cost."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from ...locinv_core.backbones.base import Backbone
from ...locinv_core.cost import CostTracker
from ...locinv_core.editing.edit import edit as prompt_to_prompt
from ...locinv_core.imaging.io import to_pil, to_uint8
from ...locinv_core.imaging.metrics import iou_curve
from ...locinv_core.imaging.padding import Padding
from ...locinv_core.inversion.ddim_inversion import Inversion, ddim_invert
from ...locinv_core.localization.attention_maps import average_maps, maps_of_words
from ...locinv_core.localization.priors import LocalizationPrior, from_boxes, from_masks, merge
from ...locinv_core.text.prompt import parse_prompt
from ...methods.ledits_pp import LeditsSettings, check_steps
from ...methods.registry import edit_by_method, method_named, open_models
from ...methods.types import EditTask, MethodModels
from .datasets.types import Item, OpenItem
from .execution.work_items import Outcome, Task, Variant
from .metrics.suite import MetricSuite

PriorKind = Literal["segment", "detection"]


@dataclass(frozen=True)
class EvaluationRecipe:
    """The models that some variants need and the metrics to take, by name; picklable.

    metrics: names of METRICS. models: as `open_models` takes them. judges: the weights that edits are measured with,
    as `MetricSuite` takes them.
    """

    variants: tuple[Variant, ...]
    metrics: tuple[str, ...]
    models: Mapping[str, Any] = field(default_factory=dict)
    judges: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> Evaluator:
        """Open everything. Raises ValueError for an unknown method or metric, settings that a method does not
        take, steps that a model does not have, and weights that are missing or not given."""
        made = [method_named(variant.method).settings(**variant.settings["method"]) for variant in self.variants]
        models = open_models([variant.method for variant in self.variants], **self.models)
        opened = [part for part in (models.model, models.inpaint, models.instruct) if part is not None]
        suite = MetricSuite(self.metrics, device=opened[0].device if opened else "cpu", **self.judges)
        for variant in self.variants:
            if (steps := variant.settings["method"].get("steps")) is not None:
                for model in opened:
                    model.schedule.timesteps(steps)
        for settings in made:
            if isinstance(settings, LeditsSettings):
                _check_ledits_steps(models, settings)
        return Evaluator(models, suite)


class ItemPerformer:
    """Keeps what the variants of one item share."""

    _opened: OpenedItem | None = None

    def opened(self, item: Item) -> OpenedItem:
        """The item's images and what is kept beside them."""
        if self._opened is None or self._opened.item != item:
            self._opened = None  # before the next is read: its memory
            self._opened = OpenedItem(item, item.open())
        return self._opened


class Evaluator(ItemPerformer):
    """Edits and measures."""

    def __init__(self, models: MethodModels, suite: MetricSuite) -> None:
        self.models = models
        self.suite = suite

    def fingerprint(self, variant: Variant) -> str:
        """Of the model that the method edits with."""
        needs = method_named(variant.method).needs
        part = next((name for name in ("inpaint", "instruct") if name in needs), "model")
        model = getattr(self.models, part)
        if model is None:
            raise ValueError(f"method: {variant.method!r} requires a model, and none is open")
        return model.fingerprint

    def __call__(self, task: Task) -> Outcome:
        """Edit, and measure the edit as its PNG has it. Raises whatever goes wrong."""
        opened, model = self.opened(task.item), self.models.model
        settings = task.variant.settings
        torch.manual_seed(task.seed)
        recipe = method_named(task.variant.method).recipe
        shared = None if model is None or recipe is None else opened.inversion(model, settings["method"]["steps"])
        tracker, began = CostTracker(), time.perf_counter()
        made = edit_by_method(
            task.variant.method,
            self.models,
            EditTask(
                opened.files.image,
                task.item.source,
                task.item.target,
                opened.prior(settings["prior"]),
                mask=opened.files.edit_mask,
                instruction=task.item.instruction,
                bindings=() if settings["bindings"] == "none" else task.item.bindings or None,
                inversion=None if shared is None else shared.inversion,
                reconstruct=False,
            ),
            settings=settings["method"],
            seed=task.seed,
            tracker=tracker,
        )
        spent = costs(tracker.total, time.perf_counter() - began, shared)
        metrics = self.suite(
            to_uint8(made.edited).float() / 255,
            opened.files.image,
            opened.files.change,
            edit_mask=opened.files.edit_mask,
            source_text=task.item.source,
            target_text=task.item.target,
            target_image=opened.files.target_image,
        )
        words: Mapping[str, Mapping[str, Any]] = {}
        if model is not None and made.localized is not None and recipe is not None and recipe.edit is prompt_to_prompt:
            words = opened.judge_maps(model, made.localized.inversion)
        return Outcome(metrics, words, **spent, image=png(made.edited))


@dataclass(frozen=True)
class SharedInversion:
    """A DDIM inversion, what it cost, and whether it was made for the task that asked for it."""

    inversion: Inversion
    fe: float
    seconds: float
    newly_made: bool


def costs(fe: float, seconds: float, shared: SharedInversion | None) -> dict[str, Any]:
    """The costs of an `Outcome`: fe and seconds without a shared inversion, which was spent where it was new."""
    if shared is None:
        return {"fe": fe, "fe_spent": fe, "seconds": seconds, "seconds_spent": seconds}
    whole = {"fe": fe + shared.fe, "seconds": seconds + shared.seconds}
    spent = (whole["fe"], whole["seconds"]) if shared.newly_made else (fe, seconds)
    return {**whole, "fe_spent": spent[0], "seconds_spent": spent[1]}


@dataclass
class OpenedItem:
    """An item's images, its inversions by their steps, the maps of its words before any tuning, and its edits by
    `RememberingEditor`."""

    item: Item
    files: OpenItem
    edits: dict[Any, Any] = field(default_factory=dict)
    _inversions: dict[int, SharedInversion] = field(default_factory=dict)
    _plain: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the image."""
        height, width = self.files.image.shape[-2:]
        return int(height), int(width)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that have a place."""
        return tuple(obj.word for obj in self.item.objects)

    def prior(self, kind: PriorKind) -> LocalizationPrior | None:
        """The words' places: masks where there are any (segment), or boxes alone (detection)."""
        parts = [
            from_masks({obj.word: self.files.masks[obj.word]}, size=self.size)
            if kind == "segment" and (obj.mask is not None or obj.runs is not None)
            else from_boxes({obj.word: obj.box}, self.size)
            for obj in self.item.objects
        ]
        return merge(*parts) if parts else None

    def inversion(self, model: Backbone, steps: int) -> SharedInversion:
        """The image's DDIM inversion with its source prompt, made once for each number of steps."""
        if steps in self._inversions:
            return replace(self._inversions[steps], newly_made=False)
        tracker, began = CostTracker(), time.perf_counter()
        source = parse_prompt(self.item.source, model.tokenizer)
        parse_prompt(self.item.target, model.tokenizer)
        latents = model.encode(self.framing(model).pad_image(self.files.image))
        inversion = ddim_invert(model, latents, source, steps, tracker=tracker)
        made = SharedInversion(inversion, tracker.total, time.perf_counter() - began, newly_made=True)
        self._inversions[steps] = made
        return made

    def framing(self, model: Backbone) -> Padding:
        """The image in the frame that the model works at."""
        return Padding.of(*self.size, model.size_multiple)

    def judge_maps(self, model: Backbone, inversion: Inversion) -> dict[str, dict[str, Any]]:
        """How well the maps of the placed words find their objects, before and after tuning.

        word -> iou_before and iou_after, the best over thresholds, and iou_curve, 19 numbers, after.
        """
        if not self.words:
            return {}
        if inversion.steps not in self._plain:
            plain = model.encode_prompt(inversion.prompt)
            maps = average_maps(model, inversion, lambda i: plain)[0]
            self._plain[inversion.steps] = maps_of_words(maps, inversion.prompt, self.words)
        before = after = self._plain[inversion.steps]
        if inversion.token_vectors is not None:
            maps = average_maps(model, inversion, lambda i: inversion.context(model, i))[0]
            after = maps_of_words(maps, inversion.prompt, self.words)
        framing = self.framing(model)

        def curve(word_map: Tensor, word: str) -> list[float]:
            return iou_curve(framing.map_to_pixels(word_map), self.files.masks[word]).tolist()

        found = {}
        for word in self.words:
            untuned, tuned = curve(before[word], word), curve(after[word], word)
            found[word] = {"iou_before": max(untuned), "iou_after": max(tuned), "iou_curve": tuned}
        return found


def png(image: Tensor) -> bytes:
    """An image (1, 3, H, W) in [0, 1] as the bytes of a PNG."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="PNG")
    return buffer.getvalue()


def _check_ledits_steps(models: MethodModels, settings: LeditsSettings) -> None:
    """Raise ValueError where LEDITS++'s schedule, which is longer than its steps, has more than the model."""
    assert models.model is not None
    try:
        check_steps(models.model, settings)
    except ValueError as error:
        raise ValueError(
            f"steps: got {settings.steps}, for which the schedule of 'ledits++' is too long ({error}); requires fewer"
        ) from error
