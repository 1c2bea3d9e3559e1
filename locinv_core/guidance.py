"""Classifier-free guidance (LocInv Eq. 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .setting import HIGHEST_GUIDANCE, check_between

if TYPE_CHECKING:
    from torch import Tensor


def guided_noise(conditional: Tensor, unconditional: Tensor | None, scale: float) -> Tensor:
    """ε = ε_uncond + scale·(ε_cond − ε_uncond) (LocInv Eq. 3); ε_cond itself where there is no ε_uncond."""
    if unconditional is None:
        return conditional
    return unconditional + scale * (conditional - unconditional)


def check_guidance(guidance: float) -> None:
    """Raise ValueError unless the guidance scale is a number from 0 to 100."""
    check_between("guidance", guidance, 0, HIGHEST_GUIDANCE)
