"""The registry of methods: one file each in this folder, which says what it is in its `METHOD`.

A file's name is the method's, with _ for - and _pp for ++. Names are found without importing anything.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import methods

if TYPE_CHECKING:
    from pathlib import Path

    from ..locinv_core.cost import CostTracker
    from ..locinv_core.recipe import EditRecipe
    from .types import EditTask, Method, MethodModels, MethodOutcome

    Name = str | Path

_SHARED = frozenset({"registry", "shared", "types"})
"""The modules of this folder that are no methods."""


def method_names() -> tuple[str, ...]:
    """The names of all methods: those of their files. Nothing is imported."""
    modules = {found.name for found in pkgutil.iter_modules(methods.__path__)} - _SHARED
    return tuple(sorted(name.replace("_pp", "++").replace("_", "-") for name in modules))


def method_named(name: str) -> Method:
    """The method called `name`. Raises ValueError, listing all methods, for another name."""
    if name not in method_names():
        raise ValueError(f"method: got {name!r}, requires one of {', '.join(method_names())}")
    module = name.replace("++", "_pp").replace("-", "_")
    method: Method = import_module(f"{methods.__name__}.{module}").METHOD
    return method


def recipe_named(name: str) -> EditRecipe:
    """The recipe of the method called `name`. Raises ValueError for one that edits no DDIM inversion."""
    recipe = method_named(name).recipe
    if recipe is None:
        raise ValueError(f"method: got {name!r}, requires one that edits a DDIM inversion")
    return recipe


def all_methods() -> dict[str, Method]:
    """Every method by its name."""
    return {name: method_named(name) for name in method_names()}


def method_table() -> str:
    """The methods as a table in Markdown: name, title, paper, kind, and what each needs."""
    rows = [("method", "", "paper", "kind", "needs"), ("---",) * 5]
    rows += [(f"`{m.name}`", m.label, m.paper, m.kind, ", ".join(m.needs)) for m in all_methods().values()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def edit_by_method(
    name: str,
    models: MethodModels,
    task: EditTask,
    *,
    settings: Mapping[str, Any] | None = None,
    seed: int = 0,
    tracker: CostTracker | None = None,
) -> MethodOutcome:
    """Edit an image by the method called `name`.

    settings: the method's choices by name, plain JSON; None takes its defaults. The tracker counts every UNet pass
    and reports every step. Raises ValueError, before any pass, for an unknown method, for what the method lacks (a
    mask, an 8-channel UNet …), and for settings or a task that it cannot take.
    """
    from ..locinv_core.cost import CostTracker

    method = method_named(name)
    made = method.settings(**(settings or {}))
    method.check(models, task)
    return method.edit(models, task, made, seed, tracker or CostTracker())


def open_models(
    names: Iterable[str],
    *,
    model: Name = "embedded",
    inpaint: Name | None = None,
    instruct: Name | None = None,
    amused: Name | None = None,
    clip: Name = "embedded",
    vit: Name = "embedded",
    device: str = "auto",
    dtype: str = "auto",
) -> MethodModels:
    """Open what the methods called `names` need, and nothing else.

    model: as `load_edit_model` takes it. inpaint, instruct, amused: diffusers folders; those of `inpaint` and
    `amused` serve as editors of learnable-regions too. clip, vit: "embedded", a folder, or a hub name.
    Raises ValueError, before any weights are read, for an unknown method and for a model that one lacks.
    """
    from ..locinv_core.backbones.loading import load_edit_model, resolve_device
    from ..region_core.editors.amused import load_amused_model
    from ..region_core.editors.inpaint import load_inpaint_model
    from ..region_core.encoders.clip import load_clip
    from ..region_core.encoders.hub import weights_place
    from ..region_core.encoders.vit import load_vit
    from .instruct_pix2pix import load_instruct_model
    from .types import WANTS, MethodModels

    chosen = [method_named(name) for name in names]
    named: dict[str, Name | None] = {
        **{"inpaint": inpaint, "instruct": instruct, "amused": amused},
        **{"model": model, "clip": clip, "vit": vit},
    }
    for method in chosen:
        for need in method.needs:
            if need in named and named[need] is None:
                raise ValueError(f"{need}: the method {method.name!r} requires {WANTS[need]}, and none is named")
    needs = {need for method in chosen for need in (*method.needs, *method.serves)}
    weights = {need: name for need, name in named.items() if need in needs and name is not None}
    for part in ("clip", "vit"):
        if part in weights:
            weights_place(weights[part], part)
    on: dict[str, Any] = {"device": device, "dtype": dtype}
    # The folders that may turn out to be of another kind come first: their configs are read at once.
    opened: dict[str, Any] = {
        need: load(weights[need], **on)
        for need, load in (
            ("inpaint", load_inpaint_model),
            ("instruct", load_instruct_model),
            ("amused", load_amused_model),
            ("model", load_edit_model),
        )
        if need in weights
    }
    for part, load in (("clip", load_clip), ("vit", load_vit)):
        if part in weights:
            opened[part] = load(weights[part], resolve_device(device))
    return MethodModels(**opened)
