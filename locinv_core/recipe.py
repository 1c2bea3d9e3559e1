"""A recipe: how an edit by DDIM inversion optimizes tokens, reconstructs the image and samples its target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol

from .backbones.base import Backbone
from .cost import CostTracker
from .editing import edit as localized
from .editing.prompt_to_prompt import Edit
from .editing.settings import EditSettings, with_current_names
from .inversion.ddim_inversion import Inversion
from .localization.plan import Binding, TuningPlan, plan_tuning
from .localization.priors import LocalizationPrior
from .options import NULL_METHODS, TOKENS, NullMethod, Tokens
from .text.prompt import Prompt


class EditFunction(Protocol):
    """What samples the targets of an inversion; `settings` are of the kind that its recipe names."""

    def __call__(
        self,
        model: Backbone,
        inversion: Inversion,
        targets: Sequence[Prompt],
        settings: Any = None,
        *,
        prior: LocalizationPrior | None = None,
        tracker: CostTracker | None = None,
    ) -> Edit: ...


class CheckFunction(Protocol):
    """What raises ValueError, before there is an inversion, for settings that an `EditFunction` would refuse."""

    def __call__(
        self,
        model: Backbone,
        source: Prompt,
        targets: Sequence[Prompt],
        settings: Any,
        prior: LocalizationPrior | None = None,
    ) -> None: ...


class PlanFunction(Protocol):
    """What says which tokens of an inversion are optimized, and towards what."""

    def __call__(
        self,
        model: Backbone,
        inversion: Inversion,
        prior: LocalizationPrior | None,
        bindings: Sequence[Binding],
        *,
        tracker: CostTracker | None = None,
    ) -> TuningPlan: ...


def plan_locinv(
    model: Backbone,
    inversion: Inversion,
    prior: LocalizationPrior | None,
    bindings: Sequence[Binding],
    *,
    tracker: CostTracker | None = None,
) -> TuningPlan:
    """LocInv's plan: the prior's words and the bound adjectives, towards the prior's masks."""
    assert prior is not None
    return plan_tuning(inversion.prompt, prior, model.grid(*prior.size), bindings)


def require_prior(name: str, source: Prompt, prior: LocalizationPrior | None) -> None:
    """Raise ValueError where there is no prior."""
    if prior is None:
        raise ValueError(f"prior: the method {name!r} requires a mask or a box for a word, and there is none")


@dataclass(frozen=True)
class EditRecipe:
    """How an edit by DDIM inversion is made.

    `tokens` is the solver that optimizes tokens, `plan` says which and towards what, and `check_plan`, given the
    recipe's name, raises ValueError where there could be no plan. `null` is how guided sampling is made to
    reconstruct. `edit` samples the targets with settings of `settings_type`, whose own defaults `defaults` replaces;
    `check` finds out beforehand what `edit` would refuse (None: nothing).
    """

    name: str
    tokens: Tokens = "off"
    null: NullMethod = "direct"
    plan: PlanFunction = plan_locinv
    check_plan: Callable[[str, Prompt, LocalizationPrior | None], object] = require_prior
    edit: EditFunction = localized.edit
    settings_type: type[Any] = EditSettings
    check: CheckFunction | None = localized.check_choices
    defaults: Mapping[str, Any] = field(default_factory=dict)

    def settings(self, **choices: Any) -> Any:
        """The settings of an edit by this recipe; `choices` are fields of them.

        Raises ValueError for one that the recipe does not have, or that is out of bounds.
        """
        if self.settings_type is EditSettings:
            choices = with_current_names(choices)
        has = [part.name for part in fields(self.settings_type)]
        for name in choices:
            if name not in has:
                raise ValueError(f"{name}: the method {self.name!r} has no such setting, only {', '.join(has)}")
        return self.settings_type(**{**self.defaults, **choices})

    def check_settings(self, settings: Any) -> None:
        """Raise ValueError for settings of another recipe's kind."""
        if not isinstance(settings, self.settings_type):
            raise ValueError(
                f"settings: got {type(settings).__name__}, but the method {self.name!r} requires"
                f" {self.settings_type.__name__}"
            )

    def with_choices(self, tokens: Tokens | None = None, null: NullMethod | None = None) -> EditRecipe:
        """The recipe with its own choices replaced by those that are given.

        Raises ValueError for an unknown choice, and for any to a recipe that has none: those that are not
        Prompt-to-Prompt have their source on the pivots and optimize no tokens.
        """
        for name, choice, known in (("tokens", tokens, TOKENS), ("null", null, NULL_METHODS)):
            if choice is not None and self.settings_type is not EditSettings:
                raise ValueError(f"{name}: got {choice!r}, but the method {self.name!r} leaves no choice")
            if choice is not None and choice not in known:
                raise ValueError(f"{name}: got {choice!r}, requires one of {', '.join(known)}")
        return replace(self, tokens=tokens or self.tokens, null=null or self.null)


LOCINV = EditRecipe("locinv", "fast")
"""LocInv (Tang et al. 2024), with Direct Inversion in the place of null-text inversion."""
