"""Learnable Regions (Lin et al., CVPR 2024) as a method: no mask is given, a box is learned."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ..locinv_core.cost import CostTracker
from ..locinv_core.setting import HIGHEST_GUIDANCE, check_between
from ..region_core.editors.base import Editor, check_strength
from ..region_core.editors.blended import REGION_WINDOW
from ..region_core.editors.crop import check_window
from ..region_core.editors.registry import editor_named
from ..region_core.options import Estimator
from ..region_core.pipeline import AUTO, NONE, RegionNetworks, RegionRequest, edit_region
from ..region_core.proposals import box_masks, pixel_box
from ..region_core.search.plans import plan_named
from .shared.object_names import changed_objects, with_article
from .types import WANTS, EditTask, Method, MethodModels, MethodOutcome, on_cpu, prompts_of


@dataclass(frozen=True)
class RegionSettings:
    """Of Learnable Regions: how boxes are proposed and learned, and what edits in them.

    caption and prompt None are the objects that change, as the source and the target name them; where their
    place is looked for (word), and for the editor 'locinv', the whole texts. Of the editor, None leaves its
    own default. window is of 'blended' alone, as `BlendedEditor` has it; the other editors see the mask.
    Raises ValueError for a value out of bounds, and for a strength of 'locinv', which has none.
    """

    editor: str = "blended"
    caption: str | None = None
    prompt: str | None = None
    word: str = NONE
    """As `RegionRequest` has it; the default tries all boxes, as published."""
    k: int = 8
    m: int = 7
    min_distance: float | None = None
    smoothing: int | None = None
    epochs: int = 5
    lr: float = 3e-3
    estimator: Estimator = "expected"
    temperature: float = 1.0
    plan: str = "preview"
    finalists: int | None = None
    steps: int | None = None
    strength: float | None = None
    guidance: float | None = None
    window: float | None = REGION_WINDOW

    def __post_init__(self) -> None:
        check_window(self.window)
        editor = editor_named(self.editor)
        self.request("", "", 0)
        if self.strength is not None:
            if "strength" not in editor.settings:
                raise ValueError(f"strength: got {self.strength}, but the editor {self.editor!r} has none")
            check_strength(self.strength)
        if self.guidance is not None:
            check_between("guidance", self.guidance, 0, HIGHEST_GUIDANCE)
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps: got {self.steps!r}, requires a whole number, 1 or more")

    def request(self, caption: str, prompt: str, seed: int) -> RegionRequest:
        """What `edit_region` is asked for."""
        options = {one.name: getattr(self, one.name) for one in fields(self)}
        options |= {"plan": plan_named(self.plan).with_final_count(self.finalists), "seed": seed}
        return RegionRequest.from_options(**{**options, "caption": caption, "prompt": prompt})


def edit_task(
    models: MethodModels, task: EditTask, settings: RegionSettings, seed: int, tracker: CostTracker
) -> MethodOutcome:
    """Learnable Regions: the edit that CLIP likes best, in the box that was learned; no mask is read."""
    assert models.clip is not None and models.vit is not None and models.model is not None
    source, target = prompts_of(models.model, task)
    whole = editor_named(settings.editor).kind.prompt_mode == "image" or settings.word != NONE
    before, after = ((), ()) if whole else changed_objects(source, target)
    caption = settings.caption or _named(before) or task.source
    prompt = settings.prompt or _named(after) or task.target
    for text, name in ((caption, "caption"), (prompt, "prompt")):
        models.clip.token_ids(text, name)
    editor = _region_editor(models, settings, caption)
    networks = RegionNetworks(editor, models.model, models.vit, models.clip)
    found = edit_region(task.image, networks, settings.request(caption, prompt, seed), tracker=tracker)
    chosen = found.edit
    size = task.image.shape[-2], task.image.shape[-1]
    return MethodOutcome(
        on_cpu(chosen.image),
        mask=box_masks([pixel_box(chosen.chosen.box, size)], size)[0, 0],
        details={
            "editor": editor.name,
            "caption": caption,
            "prompt": prompt,
            "edit_prompt": found.edit_prompt,
            "word": None if found.located is None else found.located.word,
            "box": list(chosen.chosen.box),
            "score": chosen.chosen.score,
        },
    )


def _region_editor(models: MethodModels, settings: RegionSettings, caption: str) -> Editor:
    editor = editor_named(settings.editor)
    model = getattr(models, editor.needs)
    if model is None:
        raise ValueError(
            f"{editor.needs}: the editor {editor.name!r} requires {WANTS[editor.needs]}, and there is none"
        )
    word = None if settings.word in (AUTO, NONE) else settings.word
    names = ("steps", "strength", "guidance", "window")
    choices = {"source": caption, "word": word, **{name: getattr(settings, name) for name in names}}
    return editor.using(model, **{name: choices[name] for name in choices if name in editor.settings})


def _named(objects: tuple[str, ...]) -> str:
    """ "a red cat and an owl"; empty for none."""
    return " and ".join(with_article(name) for name in objects)


METHOD = Method(
    "learnable-regions",
    "Learnable Regions",
    "Lin et al. 2024",
    "frozen",
    ("model", "clip", "vit"),
    RegionSettings,
    edit_task,
    serves=("inpaint", "amused"),
)
