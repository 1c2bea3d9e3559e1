"""Who does an ablation's tasks: words tuned under other losses and their maps judged, regions learned under other
settings and their best edit scored."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ....locinv_core.backbones.loading import load_edit_model, resolve_device
from ....locinv_core.backbones.stable_diffusion import EditModel
from ....locinv_core.cost import CostTracker
from ....locinv_core.imaging.io import to_uint8
from ....locinv_core.inversion.ddim_inversion import Inversion
from ....locinv_core.localization.algorithm1 import LocInvSettings, locinv
from ....locinv_core.localization.losses import LocInvObjective, LossPreset, LossTerm
from ....locinv_core.localization.plan import TuningPlan, plan_tuning
from ....locinv_core.localization.token_optimizer import TuningSettings
from ....locinv_core.text.prompt import parse_prompt
from ....methods.dpl import plan_dpl
from ....methods.shared.object_names import changed_objects, with_article
from ....region_core.editors.base import Editor, WrappedEditor
from ....region_core.editors.registry import load_editor
from ....region_core.encoders.clip import ClipEncoder, load_clip
from ....region_core.encoders.vit import VisionFeatures, load_vit
from ....region_core.losses import LossWeights
from ....region_core.pipeline import NONE, RegionNetworks, RegionRequest, edit_region
from ....region_core.search.plans import plan_named
from ..datasets.types import Item
from ..evaluator import ItemPerformer, OpenedItem, costs, png
from ..execution.work_items import Outcome, Task, Variant
from ..metrics.pixels import limited_psnr


@dataclass(frozen=True)
class MapsRecipe:
    """How `MapsPerformer` is opened: the model as `load_edit_model` takes it, and the steps of DDIM."""

    model: str = "embedded"
    device: str = "auto"
    dtype: str = "auto"
    steps: int = 50

    def open(self) -> MapsPerformer:
        """Open the model. Raises ValueError where there is none such, and for steps that it cannot do."""
        model = load_edit_model(self.model, device=self.device, dtype=self.dtype)
        model.schedule.timesteps(self.steps)
        return MapsPerformer(model)


class MapsPerformer(ItemPerformer):
    """Tunes an item's words as a variant says and judges their maps; nothing is edited."""

    def __init__(self, model: EditModel) -> None:
        self.model = model

    def fingerprint(self, variant: Variant) -> str:
        return self.model.fingerprint

    def __call__(self, task: Task) -> Outcome:
        """Tune along the pivots, and read the maps there."""
        opened, settings = self.opened(task.item), task.variant.settings
        torch.manual_seed(task.seed)
        shared = opened.inversion(self.model, settings["steps"])
        tracker, began = CostTracker(), time.perf_counter()
        tuned = self._tuned(opened, shared.inversion, settings, tracker)
        spent = costs(tracker.total, time.perf_counter() - began, shared)
        return Outcome(words=opened.judge_maps(self.model, tuned), **spent)

    def _tuned(
        self, opened: OpenedItem, inversion: Inversion, settings: Mapping[str, Any], tracker: CostTracker
    ) -> Inversion:
        if settings["objective"] == "none":
            return inversion
        prior = opened.prior(settings.get("prior", "segment"))
        if prior is None:
            raise ValueError(f"item {opened.item.id!r} has no place, requires one for a word")
        prior = prior.padded(opened.framing(self.model))
        plan: TuningPlan
        if settings["objective"] == "dpl":
            plan = plan_dpl(self.model, inversion, prior, tracker=tracker)
        else:
            plan = plan_tuning(inversion.prompt, prior, self.model.grid(*prior.size))
            assert isinstance(plan.objective, LocInvObjective)
            preset = LossPreset(LossTerm(*settings["similarity"]), LossTerm(*settings["overlap"]))
            plan = replace(plan, objective=replace(plan.objective, preset=preset))
        alone = LocInvSettings(null_method="none", tokens=TuningSettings.for_solver(settings["solver"]))
        return locinv(self.model, inversion, plan, alone, tracker=tracker)


@dataclass(frozen=True)
class RegionsRecipe:
    """How `RegionsPerformer` is opened: as `load_editor`, `load_clip` and `load_vit` take it."""

    editor: str = "blended"
    model: str = "embedded"
    clip: str = "embedded"
    vit: str = "embedded"
    device: str = "auto"
    dtype: str = "auto"
    settings: Mapping[str, Any] = field(default_factory=dict)

    def open(self) -> RegionsPerformer:
        """Open the networks. Raises ValueError for what cannot be had."""
        device = resolve_device(self.device)
        guide, vision = load_clip(self.clip, device), load_vit(self.vit, device)
        editor = load_editor(self.editor, self.model, device=self.device, dtype=self.dtype, **self.settings)
        return RegionsPerformer(editor, guide, vision)


class RegionsPerformer(ItemPerformer):
    """Learns where to edit an item as a variant says; a box that two variants edit alike is edited once."""

    def __init__(self, editor: Editor, clip: ClipEncoder, vision: VisionFeatures) -> None:
        self.editor, self.clip, self.vision = editor, clip, vision

    def fingerprint(self, variant: Variant) -> str:
        """The editor's model's; for one that has none, the editor's name and its model's."""
        model = getattr(self.editor, "model", None)
        if isinstance(model, EditModel):
            return model.fingerprint
        return " ".join([self.editor.name, *([] if model is None else [str(model.name)])])

    def __call__(self, task: Task) -> Outcome:
        """Propose, learn, choose; the scores are of the edit that is chosen (Learnable Regions Eq. 7)."""
        opened, settings = self.opened(task.item), dict(task.variant.settings)
        image, target = opened.files.image, opened.files.target_image
        torch.manual_seed(task.seed)
        caption, prompt = self._texts(task.item)
        settings |= {"plan": plan_named(settings["plan"]), "weights": LossWeights(*settings["losses"])}
        request = RegionRequest.from_options(caption, prompt, **settings, word=NONE, seed=task.seed)
        editor = RememberingEditor(self.editor, opened.edits)
        networks = RegionNetworks(editor, None, self.vision, self.clip)
        tracker, began = CostTracker(), time.perf_counter()
        chosen = edit_region(image, networks, request, tracker=tracker).edit.chosen
        seconds = time.perf_counter() - began
        metrics: dict[str, float | None] = {
            "s_t2i": chosen.s_t2i,
            "s_i2i": chosen.s_i2i,
            "region_score": chosen.score,
            "box_iou": _box_iou(chosen.box, opened.files.edit_mask),
        }
        if target is not None:
            metrics["psnr_target"] = limited_psnr(to_uint8(chosen.image).float() / 255, target)
        return Outcome(
            metrics,
            fe=tracker.total + editor.remembered,
            fe_spent=tracker.total,
            seconds=seconds + editor.remembered_seconds,
            seconds_spent=seconds,
            image=png(chosen.image),
        )

    def _texts(self, item: Item) -> tuple[str, str]:
        """T_ROI and T as the method has them: the objects that change ("a cat and an owl"), as the two
        texts name them, or the texts where none does."""
        model = getattr(self.editor, "model", None)
        if not isinstance(model, EditModel):
            return item.source, item.target
        source, target = (parse_prompt(text, model.tokenizer) for text in (item.source, item.target))
        before, after = (" and ".join(map(with_article, objects)) for objects in changed_objects(source, target))
        return before or item.source, after or item.target


class RememberingEditor(WrappedEditor):
    """An editor of one image that makes the same edit once.

    made: the edits so far. remembered, remembered_seconds: what the edits cost that were asked for again.
    """

    def __init__(self, editor: Editor, made: dict[Any, tuple[Tensor, float, float]] | None = None) -> None:
        super().__init__(editor)
        self.remembered = self.remembered_seconds = 0.0
        self._made = {} if made is None else made

    def edit(
        self,
        image: Tensor,
        masks: Tensor,
        prompt: str,
        seed: int,
        *,
        steps: int | None = None,
        tracker: CostTracker | None = None,
    ) -> Tensor:
        """As `Editor.edit`; `image` is the same in every call."""
        tracker = tracker or CostTracker()
        keys = [(_digest(mask), prompt, seed, steps) for mask in masks]
        missing = [k for k, key in enumerate(keys) if key not in self._made]
        for made in (self._made[key] for key in keys if key in self._made):
            self.remembered += made[1]
            self.remembered_seconds += made[2]
        if missing:
            before, began = tracker.total, time.perf_counter()
            edited = self.editor.edit(image, masks[missing], prompt, seed, steps=steps, tracker=tracker)
            cost = (tracker.total - before) / len(missing)
            seconds = (time.perf_counter() - began) / len(missing)
            for k, picture in zip(missing, edited, strict=True):
                self._made[keys[k]] = picture, cost, seconds
        return torch.stack([self._made[key][0] for key in keys])


def _digest(mask: Tensor) -> bytes:
    return hashlib.sha256((mask > 0.5).cpu().numpy().tobytes()).digest()


def _box_iou(box: tuple[float, float, float, float], place: Tensor) -> float | None:
    """Overlap of a box with where the edit is, (H, W); None where that is nowhere."""
    inside = place > 0.5
    if not bool(inside.any()):
        return None
    x0, y0, x1, y1 = (round(side) for side in box)
    boxed = torch.zeros_like(inside)
    boxed[y0:y1, x0:x1] = True
    return float((boxed & inside).sum() / (boxed | inside).sum())
