"""Doing an ablation's tasks: words tuned under other losses and their maps judged, and regions learned under
other settings and their best edit scored."""

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
from ....region_core.anchors import ProposalSettings, propose_regions
from ....region_core.editors.base import Editor, WrappedEditor
from ....region_core.editors.registry import load_editor
from ....region_core.encoders.clip import ClipEncoder, load_clip
from ....region_core.encoders.vit import PatchFeatures, VisionFeatures, load_vit
from ....region_core.losses import LossWeights
from ....region_core.scorer import choose
from ....region_core.search.budget import BudgetedSearch
from ....region_core.search.plans import plan_named
from ....region_core.trainer import LearningSettings, RegionTask, learn_regions
from ..datasets.types import Item
from ..evaluator import OpenedItem, png
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


class MapsPerformer:
    """Tunes an item's words as a variant says and judges their maps; nothing is edited."""

    def __init__(self, model: EditModel) -> None:
        self.model = model
        self._opened: OpenedItem | None = None

    def fingerprint(self, variant: Variant) -> str:
        """The model's."""
        return self.model.fingerprint

    def __call__(self, task: Task) -> Outcome:
        """Tune along the pivots, and read the maps there."""
        if self._opened is None or self._opened.item != task.item:
            self._opened = OpenedItem(task.item, task.item.open())
        opened, settings = self._opened, task.variant.settings
        torch.manual_seed(task.seed)
        shared = opened.inversion(self.model, settings["steps"])
        tracker = CostTracker()
        began = time.perf_counter()
        tuned = self._tuned(opened, shared.inversion, settings, tracker)
        seconds = time.perf_counter() - began
        return Outcome(
            words=opened.judge_maps(self.model, tuned),
            fe=tracker.total + shared.fe,
            fe_spent=tracker.total + (shared.fe if shared.newly_made else 0.0),
            seconds=seconds + shared.seconds,
            seconds_spent=seconds + (shared.seconds if shared.newly_made else 0.0),
        )

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
    """How `RegionsPerformer` is opened.

    editor, model, device, dtype and settings as `load_editor` takes them; clip and vit as `load_clip` and
    `load_vit` do.
    """

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


class RegionsPerformer:
    """Learns where to edit an item as a variant says; a box that two variants edit alike is edited once."""

    def __init__(self, editor: Editor, clip: ClipEncoder, vision: VisionFeatures) -> None:
        self.editor = editor
        self.clip = clip
        self.vision = vision
        self._opened: tuple[Item, OpenedItem, PatchFeatures, RememberingEditor] | None = None

    def fingerprint(self, variant: Variant) -> str:
        """The editor's model's; for one that has none, the editor's name and its model's."""
        model = getattr(self.editor, "model", None)
        if isinstance(model, EditModel):
            return model.fingerprint
        return " ".join([self.editor.name, *([] if model is None else [str(model.name)])])

    def __call__(self, task: Task) -> Outcome:
        """Propose, learn, choose; the scores are of the edit that is chosen (Eq. 7)."""
        item, opened, features, editor = self._open(task.item)
        settings = task.variant.settings
        image = opened.files.image
        torch.manual_seed(task.seed)
        caption, prompt = self._texts(item)
        editor.remembered = editor.remembered_seconds = 0.0
        tracker = CostTracker()
        began = time.perf_counter()
        asked = {name: settings[name] for name in ("anchors", "sizes", "k", "m")}
        proposals = propose_regions(features, ProposalSettings(**asked, seed=task.seed))
        scores = learn_regions(
            RegionTask(image, caption, prompt),
            proposals,
            features,
            editor,
            self.clip,
            LearningSettings(settings["epochs"], seed=task.seed, weights=LossWeights(*settings["losses"])),
            search=BudgetedSearch(plan_named(settings["plan"])),
            tracker=tracker,
        )
        chosen = choose(scores, self.clip, tracker=tracker).chosen
        seconds = time.perf_counter() - began
        metrics: dict[str, float | None] = {
            "s_t2i": chosen.s_t2i,
            "s_i2i": chosen.s_i2i,
            "region_score": chosen.score,
            "box_iou": _box_iou(chosen.box, opened.files.edit_mask),
        }
        if opened.files.target_image is not None:
            saved = to_uint8(chosen.image).float() / 255
            metrics["psnr_target"] = limited_psnr(saved, opened.files.target_image)
        return Outcome(
            metrics,
            fe=tracker.total + editor.remembered,
            fe_spent=tracker.total,
            seconds=seconds + editor.remembered_seconds,
            seconds_spent=seconds,
            image=png(chosen.image),
        )

    def _open(self, item: Item) -> tuple[Item, OpenedItem, PatchFeatures, RememberingEditor]:
        if self._opened is None or self._opened[0] != item:
            opened = OpenedItem(item, item.open())
            features = self.vision.look(opened.files.image)
            self._opened = item, opened, features, RememberingEditor(self.editor)
        return self._opened

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

    remembered, remembered_seconds: what the edits cost that were asked for and made before; whoever asks sets
    them to 0.
    """

    def __init__(self, editor: Editor) -> None:
        super().__init__(editor)
        self.remembered = 0.0
        self.remembered_seconds = 0.0
        self._made: dict[tuple[Any, ...], tuple[Tensor, float, float]] = {}

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
