"""Propose Anchors: where an edit with no mask could go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from ..region_core.options import ANCHORS, SIZES, Anchors, Sizes
from .bridge import types as sockets
from .bridge.inputs import seed_input
from .bridge.tensors import image_of, one_image
from .networks import CATEGORY

if TYPE_CHECKING:
    from torch import Tensor

    from ..region_core.encoders.vit import VisionFeatures
    from .bridge.managed_networks import Managed

DEFAULT_DISTANCE = 2.0
DEFAULT_SMOOTHING = 1


class ProposeAnchors(io.ComfyNode):
    """Draws boxes around what stands out."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointProposeAnchors",
            display_name="Propose Anchors",
            category=CATEGORY,
            description="Finds the points that stand out in an image and draws boxes of growing size around each.",
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The image to edit, one at a time."),
                sockets.Vision.Input("vit", tooltip="From Load ViT."),
                io.Combo.Input(
                    "anchors",
                    options=list(ANCHORS),
                    default="dino",
                    tooltip="'dino' takes the points that the ViT attends to most; 'random' any, to compare.",
                ),
                io.Int.Input("k", default=8, min=1, max=64, tooltip="How many anchors."),
                io.Int.Input("m", default=7, min=1, max=32, tooltip="How many boxes around each of them."),
                io.Float.Input(
                    "min_distance",
                    default=DEFAULT_DISTANCE,
                    min=0.0,
                    max=64.0,
                    step=0.5,
                    tooltip="How many of the ViT's patches lie between any two anchors at least. 0 as"
                    " published, where all may lie on one object.",
                ),
                io.Combo.Input(
                    "sizes",
                    options=list(SIZES),
                    default="learned",
                    tooltip="'learned': squares of growing size to choose from; 'random': one box of any size"
                    " an anchor, to compare.",
                ),
                seed_input("Draws what is random."),
                io.Int.Input(
                    "smoothing",
                    default=DEFAULT_SMOOTHING,
                    min=1,
                    max=63,
                    step=2,
                    optional=True,
                    tooltip="Side of the square of patches that attention is averaged over, so that anchors"
                    " lie in the middle of objects. 1 as published.",
                ),
            ],
            outputs=[
                sockets.Proposals.Output(display_name="proposals", tooltip="For Learn Regions or Score Regions."),
                io.Image.Output(display_name="image", tooltip="All anchors and boxes on the image."),
                io.Mask.Output(display_name="attention", tooltip="What the ViT attends to, as a share of its maximum."),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        vit: Managed[VisionFeatures],
        anchors: Anchors,
        k: int,
        m: int,
        min_distance: float,
        sizes: Sizes,
        seed: int,
        smoothing: int = DEFAULT_SMOOTHING,
    ) -> io.NodeOutput:
        from dataclasses import replace

        from ..region_core.proposal_image import proposal_picture
        from ..region_core.proposing import propose_regions
        from .bridge.region_drawing import attention_mask, drawn
        from .bridge.region_results import ProposedRegions

        picture = one_image(image)
        with vit.ready() as vision:
            seen = vision.look(picture)
            seen = replace(seen, attention=seen.attention.cpu(), features=seen.features.cpu())
            proposals = propose_regions(
                seen,
                anchors=anchors,
                k=k,
                m=m,
                min_distance=min_distance,
                smoothing=smoothing,
                sizes=sizes,
                seed=seed,
            )
            shown = image_of(drawn(proposal_picture(picture, proposals)))
            mask = attention_mask(seen.attention, seen.patch, seen.size)
        return io.NodeOutput(ProposedRegions(picture, seen, proposals), shown, mask, ui=ui.PreviewImage(shown, cls=cls))
