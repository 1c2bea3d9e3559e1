"""The methods by name: a choice of how tokens are tuned, null text is made and edits are blended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from .edit_settings import Blend, EditSettings
from .inversion import NULL_METHODS, NullMethod
from .tokens import SOLVERS

Tokens = Literal["off", "exact", "fast"]
Objective = Literal["locinv", "dpl"]


@dataclass(frozen=True)
class Method:
    """One method of editing.

    `objective` is what token tuning works towards and `tokens` its solver; `null` is how guided sampling is
    made to reconstruct. `blend` is where its edits may show: LocInv's in the place of the prior, if there is
    one, and the others' anywhere.
    """

    name: str
    tokens: Tokens
    null: NullMethod
    objective: Objective = "locinv"
    blend: Blend = "off"

    def settings(self, **choices: Any) -> EditSettings:
        """The settings of an edit by this method; `choices` are fields of them."""
        return EditSettings(**{"blend": self.blend, **choices})

    def with_choices(self, tokens: Tokens | None = None, null: NullMethod | None = None) -> Method:
        """The method with its own choices replaced by those that are given."""
        if tokens is not None and tokens not in ("off", *SOLVERS):
            raise ValueError(f"tokens: got {tokens!r}, wants one of off, {', '.join(SOLVERS)}")
        if null is not None and null not in NULL_METHODS:
            raise ValueError(f"null: got {null!r}, wants one of {', '.join(NULL_METHODS)}")
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
    )
}


def method_named(name: str) -> Method:
    """The method called `name`. Raises ValueError, listing the methods, for another name."""
    if name not in METHODS:
        raise ValueError(f"method: got {name!r}, wants one of {', '.join(METHODS)}")
    return METHODS[name]
