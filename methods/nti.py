"""Null-text Inversion (Mokady et al., CVPR 2023) with Prompt-to-Prompt: the empty prompt is optimized at each step."""

from __future__ import annotations

from ..locinv_core.recipe import EditRecipe
from .shared.inversion_methods import inversion_method

RECIPE = EditRecipe("nti", null="null-text", defaults={"local_blend": "off"})
METHOD = inversion_method(RECIPE, "NTI + P2P", "Mokady et al. 2023")
