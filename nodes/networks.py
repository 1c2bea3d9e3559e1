"""Load ViT and Load CLIP: the networks by which places are found and edits are judged."""

from __future__ import annotations

from pathlib import Path

import folder_paths
from comfy_api.latest import io

from .bridge import types as sockets

CATEGORY = "Pinpoint/regions"
_NAME_TOOLTIP = (
    "'embedded' comes with Pinpoint and knows only the drawn scenes of its samples. Else a folder of"
    " transformers' layout inside ComfyUI's models folder, or a Hugging Face name, such as {}."
)


class LoadViT(io.ComfyNode):
    """Opens a self-supervised ViT."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadViT",
            display_name="Load ViT",
            category=CATEGORY,
            description="Opens a DINO or DINOv2, whose attention shows what stands out in an image.",
            inputs=[io.String.Input("name", default="embedded", tooltip=_NAME_TOOLTIP.format("facebook/dino-vitb16"))],
            outputs=[sockets.Vision.Output(display_name="vit", tooltip="For Propose Anchors and Find Word.")],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        from ..region_core.encoders.vit import load_vit
        from .bridge.managed_networks import Managed, patcher_of

        vision = load_vit(place_of(name, "name"))
        return io.NodeOutput(Managed(vision, (patcher_of(vision.model),)))


class LoadCLIP(io.ComfyNode):
    """Opens a CLIP with both of its encoders."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLoadCLIP",
            display_name="Load CLIP to Judge Edits",
            category=CATEGORY,
            description="Opens a CLIP with both of its encoders, which says how well an image fits a text."
            " A CLIP of ComfyUI's own loaders has only the one for texts.",
            inputs=[
                io.String.Input(
                    "name", default="embedded", tooltip=_NAME_TOOLTIP.format("openai/clip-vit-base-patch16")
                )
            ],
            outputs=[
                sockets.ClipEncoder.Output(
                    display_name="clip", tooltip="For Learn Regions, Score Regions and Find Word."
                )
            ],
        )

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        from ..region_core.encoders.clip import load_clip
        from .bridge.managed_networks import Managed, patcher_of

        guide = load_clip(place_of(name, "name"))
        return io.NodeOutput(Managed(guide, (patcher_of(guide.model),)))


def place_of(name: str, field: str) -> str:
    """What the core's loaders call it: a folder inside ComfyUI's models folder by its path, else the name.

    Raises ValueError, naming the field, for an empty name.
    """
    if not name.strip():
        raise ValueError(f"{field}: it is empty, requires 'embedded', a folder in models, or a Hugging Face name")
    folder = Path(folder_paths.models_dir, name.strip())
    return str(folder) if folder.is_dir() else name.strip()
