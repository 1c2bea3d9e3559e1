"""Propose Anchors: boxes that an edit without a mask could go to (Learnable Regions Eq. 1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io, ui

from ..region_core.options import ANCHORS, SIZES
from .bridge import types
from .bridge.inputs import choice, number, seed_input, whole
from .bridge.tensors import attention_mask, from_comfy_image, to_comfy_image

if TYPE_CHECKING:
    from torch import Tensor

    from ..region_core.encoders.vit import VisionFeatures
    from .bridge.memory import Managed


class ProposeAnchors(io.ComfyNode):
    """Proposes boxes around salient anchors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointProposeAnchors",
            display_name="Propose Anchors",
            category="Pinpoint/regions",
            description="Finds the salient points of an image and proposes boxes of growing size around each.",
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The image to edit, one at a time."),
                types.Vision.Input("vit", tooltip="From Load ViT."),
                choice(
                    "anchors",
                    ANCHORS,
                    "'dino' takes the patches of the ViT's highest attention; 'random' any, to compare.",
                    "dino",
                ),
                whole("k", 8, (1, 64), "How many anchors."),
                whole("m", 7, (1, 32), "How many boxes around each of them."),
                number(
                    "min_distance",
                    2.0,
                    (0.0, 64.0, 0.5),
                    "How many of the ViT's patches lie between any two anchors at least. 0 as"
                    " published, where all may lie on one object.",
                ),
                choice(
                    "sizes",
                    SIZES,
                    "'learned': squares of growing size to choose from; 'random': one box of any size"
                    " an anchor, to compare.",
                    "learned",
                ),
                seed_input("Draws what is random."),
                whole(
                    "smoothing",
                    1,
                    (1, 63),
                    "Side of the square of patches that attention is averaged over, so that anchors"
                    " lie in the middle of objects. 1 as published.",
                    step=2,
                    optional=True,
                ),
            ],
            outputs=[
                types.Proposals.Output(display_name="proposals", tooltip="For Learn Regions or Score Regions."),
                io.Image.Output(display_name="image", tooltip="All anchors and boxes on the image."),
                io.Mask.Output(display_name="attention", tooltip="The ViT's attention, as a share of its maximum."),
            ],
        )

    @classmethod
    def execute(cls, image: Tensor, vit: Managed[VisionFeatures], **options: Any) -> io.NodeOutput:
        from dataclasses import replace

        from ..region_core.anchors import ProposalSettings, propose_regions
        from ..region_core.visualize import proposals_image
        from .bridge.payloads import ProposedRegions

        source = from_comfy_image(image)
        with vit.ready() as vision:
            seen = vision.look(source)
            seen = replace(seen, attention=seen.attention.cpu(), features=seen.features.cpu())
            proposals = propose_regions(seen, ProposalSettings(**options))
            shown = to_comfy_image(proposals_image(source, proposals))
            mask = attention_mask(seen.attention, seen.patch, seen.size)
        return io.NodeOutput(ProposedRegions(source, seen, proposals), shown, mask, ui=ui.PreviewImage(shown, cls=cls))


NODES = [ProposeAnchors]
