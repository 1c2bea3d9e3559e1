"""Direct Inversion (Ju et al., ICLR 2024) with Prompt-to-Prompt: the source branch replays the inverted latents."""

from __future__ import annotations

from ..locinv_core.recipe import EditRecipe
from .shared.inversion_methods import inversion_method

RECIPE = EditRecipe("direct", null="direct", defaults={"local_blend": "off"})
METHOD = inversion_method(RECIPE, "Direct Inversion", "Ju et al. 2024")
