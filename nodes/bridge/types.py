"""The types of Pinpoint's own sockets; images, masks, latents and texts travel as ComfyUI's."""

from __future__ import annotations

from comfy_api.latest import io

Model = io.Custom("PINPOINT_MODEL")
"""A `memory.ManagedModel`."""
InstructModel = io.Custom("PINPOINT_INSTRUCT_MODEL")
"""A `memory.ManagedModel` whose UNet reads an image beside the latents."""
Prompt = io.Custom("PINPOINT_PROMPT")
"""A `locinv_core.text.prompt.Prompt`."""
Prior = io.Custom("PINPOINT_PRIOR")
"""A `locinv_core.localization.priors.LocalizationPrior` at the image's size."""
Inversion = io.Custom("PINPOINT_INVERSION")
"""A `payloads.InvertedImage`."""
Maps = io.Custom("PINPOINT_MAPS")
"""A `payloads.WordMaps`."""
Vision = io.Custom("PINPOINT_VIT")
"""A `memory.Managed` of a ViT."""
ClipEncoder = io.Custom("PINPOINT_CLIP")
"""A `memory.Managed` of a CLIP."""
Editor = io.Custom("PINPOINT_EDITOR")
"""A `memory.ManagedEditor`."""
Proposals = io.Custom("PINPOINT_PROPOSALS")
"""A `payloads.ProposedRegions`."""
Regions = io.Custom("PINPOINT_REGIONS")
"""A `payloads.JudgedRegions`."""
BoundingBox = io.Custom("BOUNDING_BOX")
"""ComfyUI's own: a dictionary of x, y, width and height in pixels. Older versions pass it on as any type."""
