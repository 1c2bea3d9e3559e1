"""Masks and boxes as other nodes give them: of another size, soft, in batches and lists, as BBOX and as SEGS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from einops import rearrange

from .tensors import from_comfy_masks

if TYPE_CHECKING:
    from torch import Tensor

    from .parsing import Box

Size = tuple[int, int]
"""(H, W) in pixels."""


def resized(masks: Tensor, size: Size) -> Tensor:
    """Masks (B, H, W) at another size, interpolated bilinearly, as ComfyUI does it before it samples."""
    if tuple(masks.shape[-2:]) == size:
        return masks
    return F.interpolate(masks[:, None], size=size, mode="bilinear")[:, 0]


def mask_of_size(mask: Tensor, size: Size) -> Tensor:
    """One mask (H, W) of a MASK, of which the masks of a batch are joined, at the size of its image."""
    return resized(from_comfy_masks(mask), size).amax(dim=0)


def shaped(mask: Tensor, *, invert: bool = False, threshold: float = 0.5, grow: int = 0, blur: float = 0.0) -> Tensor:
    """A soft mask (H, W) as one of 0 and 1: inverted, cut at `threshold`, grown by `grow` pixels (shrunk, where
    that is negative), and its outline rounded by a Gaussian blur of `blur` pixels that is cut at half."""
    from scipy import ndimage

    from ...locinv_core.imaging.composite import grow as grown

    soft = 1 - mask if invert else mask
    inside = (soft >= threshold).float()
    if grow:
        inside = grown(inside, grow) if grow > 0 else 1 - grown(1 - inside, -grow)
    if blur:
        inside = torch.from_numpy(ndimage.gaussian_filter(inside.numpy(), blur, mode="nearest")) >= 0.5
    return inside.float()


def masks_of_images(masks: Sequence[Tensor], images: Sequence[Tensor]) -> list[Tensor]:
    """The mask (H, W) of each edit, of the MASKs and IMAGEs of a list of each.

    As many masks as images: image i has mask i. One mask: every image has it. One image, or none: each MASK of the
    list is one mask, of which the masks of a batch are joined. Masks are resized to their image. Raises ValueError
    for another number of masks.
    """
    sizes: list[Size] = [(image.shape[1], image.shape[2]) for image in images for _ in range(len(image))]
    batches = [from_comfy_masks(mask) for mask in masks]
    if len(sizes) < 2:
        return [(resized(batch, sizes[0]) if sizes else batch).amax(dim=0) for batch in batches]
    every = [mask for batch in batches for mask in batch]
    if len(every) not in (1, len(sizes)):
        raise ValueError(f"mask: got {len(every)} masks for {len(sizes)} images, requires 1 or as many as images")
    every = every * len(sizes) if len(every) == 1 else every
    return [resized(mask[None], size)[0] for mask, size in zip(every, sizes, strict=True)]


def boxes_of_bbox(bboxes: Any, form: str) -> list[Box]:
    """Boxes (x0, y0, x1, y1) of a BBOX: one box of four numbers, or lists of such, in lists.

    `form` is "corners" for x0, y0, x1, y1 and "size" for x, y, width, height. Raises ValueError for anything else
    and for none.
    """
    if isinstance(bboxes, torch.Tensor) or hasattr(bboxes, "tolist"):
        bboxes = bboxes.tolist()
    if not isinstance(bboxes, (list, tuple)) or not bboxes:
        raise ValueError(f"bboxes: got {bboxes!r}, requires at least one box of four numbers")
    if not all(isinstance(side, (int, float)) or getattr(side, "ndim", None) == 0 for side in bboxes):
        return [box for one in bboxes for box in boxes_of_bbox(one, form)]
    if len(bboxes) < 4 or not all(math.isfinite(float(side)) for side in bboxes[:4]):
        raise ValueError(f"bboxes: got the box {bboxes!r}, requires four numbers")
    # A fifth number is a detector's score.
    x, y, right, bottom = (float(side) for side in bboxes[:4])
    return [(x, y, x + right, y + bottom) if form == "size" else (x, y, right, bottom)]


def mask_of_segs(segs: Any, label: str = "", least: float = 0.0) -> Tensor:
    """The mask (H, W), 0 to 1, of a SEGS ((H, W), [SEG …]), joined; without a mask, a SEG's box counts.

    Only those with this label, whatever its capitals, and a confidence of `least`; every label for an empty one.
    Raises ValueError, naming the labels that there are, if none is left.
    """
    try:
        (height, width), found = segs[0][:2], list(segs[1])
        chosen = [
            seg
            for seg in found
            if (not label or str(seg.label).casefold() == label.casefold()) and _confidence(seg) >= least
        ]
    except (TypeError, AttributeError, IndexError, ValueError):
        raise ValueError(f"segs: got {type(segs).__name__}, requires SEGS as the Impact Pack makes them") from None
    if not chosen:
        there = ", ".join(sorted({f"{seg.label} {_confidence(seg):.2f}" for seg in found})) or "none at all"
        raise ValueError(f"segs: none is labelled {label or 'anything'} with {least:g} or more; there are: {there}")
    mask = torch.zeros(int(height), int(width))
    for seg in chosen:
        x0, y0, x1, y1 = (round(float(side)) for side in (seg.bbox if seg.cropped_mask is None else seg.crop_region))
        inside = torch.ones(y1 - y0, x1 - x0) if seg.cropped_mask is None else _seg_mask(seg.cropped_mask)
        if tuple(inside.shape) != (y1 - y0, x1 - x0):
            raise ValueError(f"segs: got a mask of {tuple(inside.shape)}, requires the size of {seg.crop_region}")
        part = mask[max(0, y0) : y1, max(0, x0) : x1]
        inside = inside[max(0, -y0) :, max(0, -x0) :][: part.shape[0], : part.shape[1]]
        part.copy_(torch.maximum(part, inside))
    return mask


def _seg_mask(mask: Any) -> Tensor:
    """A SEG's mask (h, w), 0 to 1, of an array or a tensor, which may have axes of length 1 around it."""
    values = torch.as_tensor(mask).detach().cpu().float()
    values = values.reshape(values.shape[-2:]) if values.shape[-1] > 1 else rearrange(values, "... h w 1 -> (... h) w")
    return (values / 255 if values.max() > 1 else values).clamp(0, 1)


def _confidence(seg: Any) -> float:
    """A SEG's confidence; 1 where it has none."""
    value = 1.0 if seg.confidence is None else seg.confidence
    return float(value.max() if hasattr(value, "max") else value)
