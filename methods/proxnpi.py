"""ProxEdit (Han et al., WACV 2024) with Prompt-to-Prompt: negative-prompt inversion with proximal guidance."""

from __future__ import annotations

from ..locinv_core.recipe import EditRecipe
from .shared.inversion_methods import inversion_method

RECIPE = EditRecipe("proxnpi", null="proximal", defaults={"local_blend": "off"})
METHOD = inversion_method(RECIPE, "ProxNPI", "Han et al. 2024")
