"""Cross-Attention Maps, Compare, Edit Metrics: what an edit changed, as images and in numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from comfy_api.latest import io, ui

from .bridge import types
from .bridge.inputs import number, text
from .bridge.parsing import words_from_text
from .bridge.tensors import from_comfy_images, to_comfy_image

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localization.priors import LocalizationPrior
    from .bridge.payloads import InvertedImage, WordMaps

CATEGORY = "Pinpoint/see"


class CrossAttentionMaps(io.ComfyNode):
    """Shows cross-attention maps per token."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointCrossAttentionMaps",
            display_name="Cross-Attention Maps",
            category=CATEGORY,
            description="Shows the cross-attention map of each word, over the image: before and after optimization"
            " for an inversion, the target's words for an edit.",
            is_output_node=True,
            inputs=[
                io.MultiType.Input(
                    "source",
                    types=[types.Inversion, types.Maps],
                    tooltip="An inversion, whose maps are then computed with a few passes, or the maps of an edit.",
                ),
                types.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="Outlines its masks, and tells how well each word's map fits its own.",
                ),
                text(
                    "words",
                    "",
                    "The words to show, separated by commas. Empty: the prior's words and all other"
                    " objects of an inversion, all words of an edit.",
                    optional=True,
                ),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="All the maps in one image."),
                io.Mask.Output(display_name="masks", tooltip="A mask a word: its attention as a share of its maximum."),
                types.Maps.Output(display_name="maps", tooltip="The maps themselves."),
            ],
        )

    @classmethod
    def execute(
        cls, source: InvertedImage | WordMaps, prior: LocalizationPrior | None = None, words: str = ""
    ) -> io.NodeOutput:
        from ..locinv_core.imaging.visualize import attention_image
        from .bridge.payloads import WordMaps, read_maps
        from .bridge.progress import node_tracker
        from .bridge.ui_payloads import maps_shown

        names = words_from_text(words)
        if isinstance(source, WordMaps):
            found = source.only(names)
        else:
            tracker = node_tracker("maps")
            found = read_maps(source, names, prior, tracker)
            tracker.show_cost()
        masks = found.masks_of(prior)
        sheet = attention_image(found.image, found.maps, before=found.before or None, masks=masks)
        shown = {"pinpoint_maps": [maps_shown(found, masks, cls)]}
        return io.NodeOutput(to_comfy_image(sheet), found.shares(), found, ui=shown)


class Compare(io.ComfyNode):
    """Shows two images and what differs."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointCompare",
            display_name="Compare Before and After",
            category=CATEGORY,
            description="Shows the image before and after, and where they differ.",
            is_output_node=True,
            inputs=[
                io.Image.Input("before", tooltip="The image before the edit."),
                io.Image.Input("after", tooltip="The edited image, of the same size; or a batch of them."),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Outlined in the images: the prior, or where the edit could change.",
                ),
                number("gain", 2.0, (1.0, 20.0, 0.5), "How much the difference is brightened."),
            ],
            outputs=[io.Image.Output(display_name="difference", tooltip="The absolute difference, brightened.")],
        )

    @classmethod
    def execute(cls, before: Tensor, after: Tensor, gain: float, mask: Tensor | None = None) -> io.NodeOutput:
        from .bridge.masks import mask_of_size
        from .bridge.ui_payloads import compare_shown

        first, second = _pair(before, after)
        difference = ((first - second).abs() * gain).clamp(0, 1)
        outline = None if mask is None else mask_of_size(mask, (first.shape[-2], first.shape[-1]))
        shown = {"pinpoint_compare": [compare_shown(first, second, outline, gain, cls)]}
        return io.NodeOutput(to_comfy_image(difference), ui=shown)


class EditMetrics(io.ComfyNode):
    """Measures what an edit changed and what it left alone."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointEditMetrics",
            display_name="Edit Metrics",
            category=CATEGORY,
            description="Measures how much the image changed outside the mask (it should not) and inside, and"
            " how near it came to the true edit, where that is known.",
            is_output_node=True,
            inputs=[
                io.Image.Input("before", tooltip="The image before the edit."),
                io.Image.Input("after", tooltip="The edited image, of the same size."),
                io.Mask.Input("mask", optional=True, tooltip="Where the edited object is: the rest is background."),
                io.Image.Input(
                    "truth", optional=True, tooltip="Ground truth: the true edited image, where it is known."
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="All the numbers, a line each."),
                io.Float.Output(
                    display_name="background_psnr",
                    tooltip="Of the background, of the whole image without a mask; in dB, infinite if unchanged.",
                ),
                io.Float.Output(
                    display_name="background_ssim",
                    tooltip="Of the background, of the whole image without a mask; 1 if unchanged.",
                ),
                io.Float.Output(
                    display_name="truth_psnr", tooltip="PSNR to ground truth, in dB; -1 if it is not given."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, before: Tensor, after: Tensor, mask: Tensor | None = None, truth: Tensor | None = None
    ) -> io.NodeOutput:
        from ..locinv_core.imaging.metrics import mse, psnr, ssim
        from .bridge.masks import mask_of_size

        first, second = _pair(before, after)
        inside = None if mask is None else (mask_of_size(mask, (first.shape[-2], first.shape[-1])) > 0.5).float()
        if inside is not None and bool(inside.all()):
            raise ValueError("mask: it covers the whole image and leaves no background; requires a smaller one")
        outside = None if inside is None else 1 - inside
        numbers = psnr(first, second, outside), ssim(first, second, outside)
        measured = "image" if outside is None else "background"
        lines = [f"{measured}: PSNR {_decibels(numbers[0])}, SSIM {numbers[1]:.4f}"]
        if inside is not None and bool(inside.any()):
            lines.append(f"inside the mask: root mean square change {math.sqrt(mse(first, second, inside)):.3f}")
        to_truth = -1.0
        if truth is not None:
            to_truth = psnr(*_pair(truth, after, "truth"))
            lines.append(f"to ground truth: PSNR {_decibels(to_truth)}")
        report = "\n".join(lines)
        return io.NodeOutput(report, *numbers, to_truth, ui=ui.PreviewText(report))


NODES = [CrossAttentionMaps, Compare, EditMetrics]


def _pair(before: Tensor, after: Tensor, name: str = "before") -> tuple[Tensor, Tensor]:
    """Two images or batches (B, 3, H, W) of one size and number; one image goes with a batch."""
    first, second = from_comfy_images(before, name), from_comfy_images(after, "after")
    if first.shape[-2:] != second.shape[-2:]:
        sizes = [f"{image.shape[-1]}x{image.shape[-2]}" for image in (first, second)]
        raise ValueError(f"after: it is {sizes[1]} pixels, requires the {sizes[0]} of {name!r}")
    count = max(len(first), len(second))
    if {len(first), len(second)} - {1, count}:
        raise ValueError(f"after: got {len(second)} images, requires 1 or the {len(first)} of {name!r}")
    return first.expand(count, -1, -1, -1), second.expand(count, -1, -1, -1)


def _decibels(value: float) -> str:
    return "infinite (unchanged)" if math.isinf(value) else f"{value:.2f} dB"
