"""The methods by name: how tokens are tuned, null text is made, and by what function targets are sampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, TypeAlias

from ..locinv_core.backbones.stable_diffusion import EditModel
from ..locinv_core.cost import CostTracker
from ..locinv_core.editing import edit as localized
from ..locinv_core.editing.prompt_to_prompt import Edit
from ..locinv_core.editing.settings import EditSettings, with_current_names
from ..locinv_core.inversion.ddim_inversion import Inversion
from ..locinv_core.localization.priors import LocalizationPrior
from ..locinv_core.options import NULL_METHODS, TOKENS, LocalBlendMode, NullMethod, Tokens
from ..locinv_core.text.prompt import Prompt
from . import diffedit, masactrl, pix2pix_zero, plug_and_play
from .diffedit import DiffEditSettings
from .masactrl import MasaCtrlSettings
from .pix2pix_zero import Pix2PixZeroSettings
from .plug_and_play import PlugAndPlaySettings

MethodSettings: TypeAlias = (
    EditSettings | PlugAndPlaySettings | MasaCtrlSettings | DiffEditSettings | Pix2PixZeroSettings
)
Objective = Literal["locinv", "dpl"]


class EditFunction(Protocol):
    """What samples the targets of an inversion; `settings` are of the kind that its method names."""

    def __call__(
        self,
        model: EditModel,
        inversion: Inversion,
        targets: Sequence[Prompt],
        settings: Any = None,
        *,
        prior: LocalizationPrior | None = None,
        tracker: CostTracker | None = None,
    ) -> Edit: ...


class CheckFunction(Protocol):
    """What raises ValueError, before there is an inversion, for settings that an `EditFunction`
    would refuse."""

    def __call__(
        self,
        model: EditModel,
        source: Prompt,
        targets: Sequence[Prompt],
        settings: Any,
        prior: LocalizationPrior | None = None,
    ) -> None: ...


@dataclass(frozen=True)
class Method:
    """One method of editing.

    `objective` is what token tuning works towards and `tokens` its solver; `null` is how guided sampling is
    made to reconstruct. `blend` is where its edits may show: LocInv's in the place of the prior, if there is
    one, and the others' anywhere. `edit` samples the targets, and takes settings of `settings_type`, which
    `check_choices` looks at beforehand (None: there is nothing to be found out).
    """

    name: str
    tokens: Tokens
    null: NullMethod
    objective: Objective = "locinv"
    blend: LocalBlendMode = "off"
    edit: EditFunction = localized.edit
    settings_type: type[MethodSettings] = EditSettings
    check_choices: CheckFunction | None = localized.check_choices

    def settings(self, **choices: Any) -> MethodSettings:
        """The settings of an edit by this method; `choices` are fields of them.

        Raises ValueError for one that the method does not have, or that is out of bounds.
        """
        if self.settings_type is EditSettings:
            choices = with_current_names(choices)
        has = [field.name for field in fields(self.settings_type)]
        for name in choices:
            if name not in has:
                raise ValueError(f"{name}: the method {self.name!r} has no such setting, only {', '.join(has)}")
        if self.settings_type is EditSettings:
            # DPL knows no places, even where the words that it tunes are told by a prior.
            attention = "tuned" if self.objective == "dpl" else "original"
            choices = {"local_blend": self.blend, "attribute_attention": attention, **choices}
        return self.settings_type(**choices)

    def check_settings(self, settings: MethodSettings) -> None:
        """Raise ValueError for settings of another method's kind."""
        if not isinstance(settings, self.settings_type):
            raise ValueError(
                f"settings: got {type(settings).__name__}, but the method {self.name!r} requires"
                f" {self.settings_type.__name__}"
            )

    def with_choices(self, tokens: Tokens | None = None, null: NullMethod | None = None) -> Method:
        """The method with its own choices replaced by those that are given.

        Raises ValueError for an unknown choice, and for any to a method that has none: those that are not
        Prompt-to-Prompt have their source on the pivots and tune no words.
        """
        if self.settings_type is not EditSettings:
            for name, choice in (("tokens", tokens), ("null", null)):
                if choice is not None:
                    raise ValueError(f"{name}: got {choice!r}, but the method {self.name!r} leaves no choice")
        if tokens is not None and tokens not in TOKENS:
            raise ValueError(f"tokens: got {tokens!r}, requires one of {', '.join(TOKENS)}")
        if null is not None and null not in NULL_METHODS:
            raise ValueError(f"null: got {null!r}, requires one of {', '.join(NULL_METHODS)}")
        return replace(self, tokens=tokens or self.tokens, null=null or self.null)


METHODS: Mapping[str, Method] = {
    method.name: method
    for method in (
        Method("locinv", "fast", "direct", blend="auto"),
        Method("dpl", "exact", "null-text", objective="dpl"),
        Method("nti", "off", "null-text"),
        Method("npi", "off", "negative-prompt"),
        Method("proxnpi", "off", "proximal"),
        Method("direct", "off", "direct"),
        Method("ddim", "off", "none"),
        Method(
            "pnp",
            "off",
            "direct",
            edit=plug_and_play.edit,
            settings_type=PlugAndPlaySettings,
            check_choices=plug_and_play.check_choices,
        ),
        Method(
            "masactrl",
            "off",
            "direct",
            edit=masactrl.edit,
            settings_type=MasaCtrlSettings,
            check_choices=masactrl.check_choices,
        ),
        Method(
            "diffedit",
            "off",
            "direct",
            edit=diffedit.edit,
            settings_type=DiffEditSettings,
            check_choices=None,
        ),
        Method(
            "pix2pix-zero",
            "off",
            "direct",
            edit=pix2pix_zero.edit,
            settings_type=Pix2PixZeroSettings,
            check_choices=pix2pix_zero.check_choices,
        ),
    )
}


def method_named(name: str) -> Method:
    """The method called `name`. Raises ValueError, listing the methods, for another name."""
    if name not in METHODS:
        raise ValueError(f"method: got {name!r}, requires one of {', '.join(METHODS)}")
    return METHODS[name]
