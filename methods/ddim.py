"""Plain DDIM inversion (Song et al., ICLR 2021) with Prompt-to-Prompt (Hertz et al., ICLR 2023)."""

from __future__ import annotations

from ..locinv_core.recipe import EditRecipe
from .shared.inversion_methods import inversion_method

RECIPE = EditRecipe("ddim", null="none", defaults={"local_blend": "off"})
METHOD = inversion_method(RECIPE, "DDIM + P2P", "Hertz et al. 2023")
