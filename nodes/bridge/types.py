"""The types of Pinpoint's own sockets; images, masks, latents and texts travel as ComfyUI's."""

from __future__ import annotations

from comfy_api.latest import io

Model = io.Custom("PINPOINT_MODEL")
"""A `ManagedModel`."""

InstructModel = io.Custom("PINPOINT_INSTRUCT_MODEL")
"""A `ManagedModel` whose UNet reads an image beside the latents."""

Prompt = io.Custom("PINPOINT_PROMPT")
"""A `locinv_core.prompts.Prompt`."""

Prior = io.Custom("PINPOINT_PRIOR")
"""A `locinv_core.priors.LocalizationPrior` at the image's size."""

Inversion = io.Custom("PINPOINT_INVERSION")
"""An `InvertedPicture`."""

Maps = io.Custom("PINPOINT_MAPS")
"""A `WordMaps`."""

Vision = io.Custom("PINPOINT_VIT")
"""A `Managed[VisionFeatures]`."""

ClipEncoder = io.Custom("PINPOINT_CLIP")
"""A `Managed[Guide]`."""

Editor = io.Custom("PINPOINT_EDITOR")
"""A `ManagedEditor`."""

Proposals = io.Custom("PINPOINT_PROPOSALS")
"""A `ProposedRegions`."""

Regions = io.Custom("PINPOINT_REGIONS")
"""A `JudgedRegions`."""

BoundingBox = io.Custom("BOUNDING_BOX")
"""ComfyUI's own: a dictionary of x, y, width and height in pixels. Older versions pass it on as any type."""
