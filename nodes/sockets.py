"""The types of Pinpoint's own sockets; pictures, masks, latents and texts travel as ComfyUI's."""

from __future__ import annotations

from comfy_api.latest import io

Model = io.Custom("PINPOINT_MODEL")
"""A `ManagedModel`."""

Prompt = io.Custom("PINPOINT_PROMPT")
"""A `locinv_core.prompts.Prompt`."""

Prior = io.Custom("PINPOINT_PRIOR")
"""A `locinv_core.priors.LocalizationPrior` at the picture's size."""

Inversion = io.Custom("PINPOINT_INVERSION")
"""An `InvertedPicture`."""

Maps = io.Custom("PINPOINT_MAPS")
"""A `WordMaps`."""
