"""Pinpoint: change the object you name in an image and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes.extension import PinpointExtension

WEB_DIRECTORY = "./web"
"""Where ComfyUI finds the browser side and the nodes' help pages."""


async def comfy_entrypoint() -> PinpointExtension:
    """What ComfyUI calls to get the nodes; nothing is imported before it asks."""
    from .nodes.extension import PinpointExtension

    return PinpointExtension()
