"""Between ComfyUI's tensors and the core's: IMAGE (B, H, W, C) and MASK (B, H, W) to (B, 3, H, W) and (H, W).

What comes in on a socket belongs to whoever made it, and was made in inference mode: everything is copied.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from einops import rearrange, repeat

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor


def from_comfy_images(image: Tensor, name: str = "image") -> Tensor:
    """The images (B, 3, H, W), float32 in [0, 1], of an IMAGE (B, H, W, C).

    One channel is repeated, transparency is laid over white, values are kept in [0, 1]. Raises ValueError for
    another shape, values that are not finite, and images with a side under 64 pixels.
    """
    from ...locinv_core.imaging.io import MINIMUM_SIDE

    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or not len(image):
        raise ValueError(f"{name}: got the shape {tuple(image.shape)}, requires (B, H, W, C) of 1, 3 or 4 channels")
    pixels = _copied(image)
    if not bool(torch.isfinite(pixels).all()):
        raise ValueError(f"{name}: it has values that are not numbers (NaN or infinity), requires 0 to 1")
    height, width = pixels.shape[1:3]
    if min(height, width) < MINIMUM_SIDE:
        raise ValueError(f"{name}: it is {width}x{height} pixels, requires at least {MINIMUM_SIDE} on each side")
    with torch.inference_mode(False), torch.no_grad():
        pixels = rearrange(pixels.clamp(0, 1), "b h w c -> b c h w")
        if pixels.shape[1] == 4:
            pixels = pixels[:, :3] * pixels[:, 3:] + (1 - pixels[:, 3:])
        return pixels.expand(-1, 3, -1, -1).contiguous()


def from_comfy_image(image: Tensor, name: str = "image") -> Tensor:
    """The image (1, 3, H, W) of an IMAGE that holds one. Raises ValueError for a batch, and as above."""
    images = from_comfy_images(image, name)
    if len(images) > 1:
        raise ValueError(
            f"{name}: got a batch of {len(images)} images, requires one; put Rebatch Images with batch size"
            " 1 before this node, and everything after it runs once for each image; wire the images to Prior from Mask,"
            " too, and each has its own mask"
        )
    return images


def to_comfy_image(images: Tensor | Image.Image) -> Tensor:
    """The IMAGE (B, H, W, 3) of images (B, 3, H, W) in [0, 1], or of a Pillow image."""
    return rearrange(as_tensor(images).detach(), "b c h w -> b h w c").contiguous().float().cpu()


def as_tensor(image: Tensor | Image.Image) -> Tensor:
    """A Pillow image as an image (1, 3, H, W) in [0, 1]; a tensor as it is."""
    if isinstance(image, torch.Tensor):
        return image
    import numpy as np

    pixels = torch.from_numpy(np.asarray(image.convert("RGB")).copy())
    return rearrange(pixels, "h w c -> 1 c h w").float() / 255


def from_comfy_masks(mask: Tensor, name: str = "mask") -> Tensor:
    """The masks (B, H, W), float32 in [0, 1], of a MASK (B, H, W) or (H, W).

    Values beyond 0 and 1, as resizing and blending leave them, are cut off. Raises ValueError for another shape and
    for values that are not numbers.
    """
    if mask.ndim not in (2, 3) or 0 in mask.shape:
        raise ValueError(f"{name}: got the shape {tuple(mask.shape)}, requires (B, H, W)")
    values = _copied(mask)
    if not bool(torch.isfinite(values).all()):
        finite = values[torch.isfinite(values)]
        found = f"the others are {finite.min():g} to {finite.max():g}" if len(finite) else "all of them"
        raise ValueError(f"{name}: it has values that are not numbers (NaN or infinity), {found}; requires 0 to 1")
    with torch.inference_mode(False), torch.no_grad():
        return (values if values.ndim == 3 else values[None]).clamp(0, 1)


def from_comfy_mask(mask: Tensor, name: str = "mask") -> Tensor:
    """One mask (H, W), float32 in [0, 1], of a MASK (B, H, W) or (H, W); the masks of a batch are joined.

    Raises ValueError as `from_comfy_masks`.
    """
    masks = from_comfy_masks(mask, name)
    with torch.inference_mode(False), torch.no_grad():
        return masks.amax(dim=0)


def to_comfy_mask(mask: Tensor) -> Tensor:
    """The MASK (1, H, W) of a mask (H, W)."""
    return mask[None]


def latent_of_image(latents: Tensor, mask: Tensor, cell: int) -> dict[str, Tensor]:
    """The LATENT of an image of its mask's size (H, W): the latents (1, C, h, w) of the padded image without the cells
    that lie in the padding alone, and the mask as noise mask (1, 1, H', W').

    cell: pixels that a cell of the latents is wide. Where the image's sides are no multiple of it, the last cells reach
    beyond the image, and the noise mask is 0 there.
    """
    height, width = mask.shape
    rows, columns = -(-height // cell), -(-width // cell)
    with torch.inference_mode(False), torch.no_grad():
        noise_mask = torch.zeros(1, 1, rows * cell, columns * cell)
        noise_mask[0, 0, :height, :width] = mask
        return {"samples": latents[..., :rows, :columns].clone(), "noise_mask": noise_mask}


def attention_mask(attention: Tensor, patch: int, size: tuple[int, int]) -> Tensor:
    """The MASK (1, H, W) of what a ViT attends to, (h, w) patches, as a share of its maximum.

    The last patches may reach beyond the image of `size` (H, W).
    """
    share = attention.float().cpu() / attention.max().clamp_min(1e-12).cpu()
    pixels = repeat(share, "h w -> 1 (h y) (w x)", y=patch, x=patch)
    return pixels[:, : size[0], : size[1]].contiguous()


def _copied(values: Tensor) -> Tensor:
    """A copy in float32 on the CPU, which gradients may pass."""
    with torch.inference_mode(False), torch.no_grad():
        return values.detach().clone().float().cpu()
