"""Negative-prompt Inversion (Miyake et al. 2023) with Prompt-to-Prompt: the source prompt in place of the empty one."""

from __future__ import annotations

from ..locinv_core.recipe import EditRecipe
from .shared.inversion_methods import inversion_method

RECIPE = EditRecipe("npi", null="negative-prompt", defaults={"local_blend": "off"})
METHOD = inversion_method(RECIPE, "NPI", "Miyake et al. 2023")
