"""The methods that `evaluate` knows by name: every method of editing, some under other settings too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from ...locinv_core.inversion.null_text import NullTextSettings
from ...locinv_core.localization.token_optimizer import TuningSettings
from ...locinv_core.pipeline import EditOptions
from ...methods.registry import all_methods, method_named, method_names
from ...methods.types import Method
from .execution.work_items import Variant

GROUPS = ("frozen", "masked", "tuned", "instructed")


@dataclass(frozen=True)
class NamedVariant:
    """A method under its own name or another, with choices of its settings."""

    method: str
    choices: Mapping[str, Any] = field(default_factory=dict)
    prior: Literal["segment", "detection"] = "segment"
    bindings: Literal["item", "none"] = "item"


_LOCINV_AS_PUBLISHED = {"tokens": "exact", "null": "null-text", "local_blend": "off", "target_embeddings": "tuned"}

VARIATIONS: Mapping[str, NamedVariant] = {
    # Boxes for places, with the losses and thresholds that fit them.
    "locinv-box": NamedVariant("locinv", prior="detection"),
    # The image itself outside the places, bit for bit.
    "locinv-composite": NamedVariant("locinv", {"composite": True}),
    # Gradients through the UNet, and null text, as the paper has it; the target's words stay their own.
    "locinv-exact": NamedVariant("locinv", {"tokens": "exact", "null": "null-text"}),
    # And tuned words in the target, with nothing to hold the edit in its place but the maps.
    "locinv-published": NamedVariant("locinv", _LOCINV_AS_PUBLISHED),
    "locinv-published-box": NamedVariant("locinv", _LOCINV_AS_PUBLISHED, prior="detection"),
    # Adjectives left alone, whatever the edit.
    "locinv-unbound": NamedVariant("locinv", bindings="none"),
    # Only boxes near the object that changes, which is looked for.
    "learnable-regions-near": NamedVariant("learnable-regions", {"word": "auto"}),
    # The same, by each of the other editors.
    **{
        f"learnable-regions-{editor}": NamedVariant("learnable-regions", {"word": "auto", "editor": editor})
        for editor in ("inpaint", "amused", "locinv")
    },
}
"""Methods under other settings than their own, by the names that `--methods` takes."""


def known_variants() -> dict[str, NamedVariant]:
    """Every name that `--methods` takes, but for GROUPS and "all"."""
    return {**{name: NamedVariant(name) for name in method_names()}, **VARIATIONS}


_EDITORS_OF_THEIR_OWN = ("inpaint", "amused")
"""Of Learnable Regions: those that require other weights than the model's."""

_SEEING = {"clip": ("clip", "a CLIP"), "vit": ("dino", "a ViT")}
"""What methods need to look at images with: the option that names it, and what it is."""


def named_variants(
    names: Sequence[str],
    *,
    steps: int | None = None,
    guidance: float | None = None,
    weights: Mapping[str, str | None] | None = None,
    judges: Mapping[str, str | None] | None = None,
) -> tuple[Variant, ...]:
    """The variants of these names, with settings in full, so that results say what they were made with.

    A group of GROUPS stands for its methods, "all" for every method, as far as there are models for them.
    steps, guidance: for every method that has them; None leaves its own. weights: the models by what methods
    need; judges: the weights of metrics; both are part of the settings. Raises ValueError for an unknown
    name, one that comes twice, a setting out of bounds, and a CLIP, a ViT or an editor's model that a method
    needs and weights do not name.
    """
    given, judged = (
        {name: value for name, value in (some or {}).items() if value is not None} for some in (weights, judges)
    )
    chosen = [name for asked in names for name in _expanded(asked, given)]
    for name in chosen:
        if name not in known_variants():
            known = ", ".join((*known_variants(), *GROUPS, "all"))
            raise ValueError(f"methods: got {name!r}, requires some of {known}")
        if chosen.count(name) > 1:
            raise ValueError(f"methods: {name!r} comes twice, requires each once")
    if not chosen:
        raise ValueError("methods: got none, requires at least one")
    return tuple(_variant(name, {"steps": steps, "guidance": guidance}, given, judged) for name in chosen)


def resolved(method: Method, choices: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a method that these choices lead to, plain JSON that makes the same settings again."""
    made = method.settings(**choices)
    if not isinstance(made, EditOptions):
        return _plain(made)
    settings = _plain(made.settings)
    settings["steps"] = made.steps
    settings |= {name: getattr(made, name) for name in ("composite", "feather", "composite_grow")}
    if "tokens" in choices or made.recipe.tokens != "off":
        settings |= {"tokens": made.recipe.tokens, "interleaved": made.interleaved}
    if made.recipe.tokens != "off":
        settings["tuning"] = asdict(made.tuning or TuningSettings.for_solver(made.recipe.tokens))
    if "cross_replace_steps" in settings:
        settings["null"] = made.recipe.null
    if made.recipe.null == "null-text":
        settings["null_text"] = asdict(made.null_text or NullTextSettings())
    return settings


def _variant(name: str, wanted: Mapping[str, Any], weights: Mapping[str, str], judges: Mapping[str, str]) -> Variant:
    variant = known_variants()[name]
    method = method_named(variant.method)
    has = resolved(method, variant.choices)
    needs = [need for need in method.needs if need != "model"]
    for need in needs:
        if need in _SEEING and need not in weights:
            option, kind = _SEEING[need]
            raise ValueError(
                f"{option}: {name!r} requires {kind}, and none is named; requires 'embedded' or a folder,"
                " or the method left out"
            )
    if has.get("editor") in _EDITORS_OF_THEIR_OWN:
        needs.append(has["editor"])
        if has["editor"] not in weights:
            raise ValueError(f"{has['editor']}: {name!r} requires such a model, and none is named")
    asked = {key: value for key, value in wanted.items() if value is not None and key in has}
    settings = {
        "method": resolved(method, {**variant.choices, **asked}),
        "prior": variant.prior,
        "bindings": variant.bindings,
        "weights": {need: weights[need] for need in needs if need in weights},
        "judges": dict(judges),
    }
    return Variant(name, variant.method, settings)


def _expanded(name: str, weights: Mapping[str, str]) -> list[str]:
    if name not in (*GROUPS, "all"):
        return [name]
    lacking = {"inpaint", "instruct", "clip", "vit"} - weights.keys()
    return [
        method.name
        for method in all_methods().values()
        if name in ("all", method.kind) and not lacking.intersection(method.needs)
    ]


def _plain(made: Any) -> dict[str, Any]:
    """What makes these settings again, as JSON has it."""
    values = json.loads(json.dumps(asdict(made)))
    return {part.name: values[part.name] for part in fields(made) if part.init}
