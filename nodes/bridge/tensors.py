"""Between ComfyUI's tensors and the core's: IMAGE (B, H, W, C) and MASK (B, H, W) to (B, 3, H, W) and (H, W).

What comes in on a socket belongs to whoever made it, and was made in inference mode: everything is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def images_of(image: Tensor, name: str = "image") -> Tensor:
    """The images (B, 3, H, W), float32 in [0, 1], of an IMAGE (B, H, W, C).

    One channel is repeated, transparency is laid over white, values are kept in [0, 1]. Raises ValueError for
    another shape, values that are not finite, and images with a side under 64 pixels.
    """
    from ...locinv_core.imaging.io import MINIMUM_SIDE

    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or not len(image):
        raise ValueError(f"{name}: got the shape {tuple(image.shape)}, requires (B, H, W, C) of 1, 3 or 4 channels")
    with torch.inference_mode(False), torch.no_grad():
        pixels = image.detach().clone().float().cpu()
        if not bool(torch.isfinite(pixels).all()):
            raise ValueError(f"{name}: it has values that are not numbers (NaN or infinity), requires 0 to 1")
        pixels = pixels.clamp(0, 1).permute(0, 3, 1, 2)
        if pixels.shape[1] == 4:
            pixels = pixels[:, :3] * pixels[:, 3:] + (1 - pixels[:, 3:])
        height, width = pixels.shape[-2:]
        if min(height, width) < MINIMUM_SIDE:
            raise ValueError(f"{name}: it is {width}x{height} pixels, requires at least {MINIMUM_SIDE} on each side")
        return pixels.expand(-1, 3, -1, -1).contiguous()


def one_image(image: Tensor, name: str = "image") -> Tensor:
    """The image (1, 3, H, W) of an IMAGE that holds one. Raises ValueError for a batch, and as above."""
    images = images_of(image, name)
    if len(images) > 1:
        raise ValueError(
            f"{name}: got a batch of {len(images)} images, requires one; put Rebatch Images with batch size"
            " 1 before this node, and everything after it runs once for each image"
        )
    return images


def image_of(images: Tensor) -> Tensor:
    """The IMAGE (B, H, W, 3) of images (B, 3, H, W) in [0, 1]."""
    return images.detach().permute(0, 2, 3, 1).contiguous().float().cpu()


def mask_of(mask: Tensor, name: str = "mask") -> Tensor:
    """One mask (H, W), float32, of a MASK (B, H, W) or (H, W); the masks of a batch are joined.

    Raises ValueError for another shape and for values outside 0 to 1.
    """
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise ValueError(f"{name}: got the shape {tuple(mask.shape)}, requires (B, H, W)")
    with torch.inference_mode(False), torch.no_grad():
        values = mask.detach().clone().float().cpu()
        if not bool(((values >= 0) & (values <= 1)).all()):
            raise ValueError(f"{name}: it has values outside 0 to 1")
        return values.amax(dim=0) if values.ndim == 3 else values
