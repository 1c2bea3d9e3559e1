"""The last step of an edit: put the edited region over the input in pixels, so that everything outside the
region is the input, bit for bit."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def composite(source: Tensor, edited: Tensor, mask: Tensor, feather_pixels: float = 0.0) -> Tensor:
    """source + alpha·(edited − source), with alpha = `feather(mask, feather_pixels)`: (B, 3, H, W), source's
    dtype.

    source: (1 or B, 3, H, W), edited: (B, 3, H, W), mask: (H, W) in [0, 1]. Where the mask is zero the result
    is `source` bit for bit, before and after the conversion to 8 bits, and where alpha is one it is `edited`
    bit for bit. To feather outwards instead, `grow` the mask first. Raises ValueError for shapes that do not
    fit.
    """
    if source.ndim != 4 or edited.ndim != 4 or source.shape[1:] != edited.shape[1:]:
        raise ValueError(
            f"source has shape {tuple(source.shape)} and edited {tuple(edited.shape)}; "
            "both must be (B, 3, H, W), of the same size"
        )
    if source.shape[0] not in (1, edited.shape[0]):
        raise ValueError(f"source has {source.shape[0]} images and edited {edited.shape[0]}; give 1 or as many")
    if mask.shape != source.shape[-2:]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; the images need {tuple(source.shape[-2:])}")
    alpha = feather(mask, feather_pixels).to(source)
    edit = edited.to(source)
    blended = torch.lerp(source.expand_as(edit), edit, alpha)
    return torch.where(alpha == 0, source, torch.where(alpha == 1, edit, blended))


def feather(mask: Tensor, pixels: float) -> Tensor:
    """The mask with a soft edge about `pixels` wide that lies inside it: (H, W) float32, zero where the mask
    is.

    With d the distance to the nearest pixel outside, the mask is multiplied by s(min(1, d / (pixels + 1))),
    where s(t) = 3t² − 2t³. The image's border is no edge. In a connected part too thin for the whole ramp
    the ramp is shortened, so that its deepest pixels still belong to the edit alone. Raises ValueError for a
    mask that is not (H, W) in [0, 1] and for negative or non-finite `pixels`.
    """
    from scipy import ndimage

    _check(mask, pixels)
    soft = mask.detach().to(torch.float32)
    inside = (soft > 0).cpu().numpy()
    if pixels == 0 or inside.all() or not inside.any():
        return soft
    depth = ndimage.distance_transform_edt(inside)
    parts, count = ndimage.label(inside, structure=np.ones((3, 3)))
    deepest = np.concatenate([[1.0], ndimage.maximum(depth, parts, np.arange(1, count + 1))])
    t = np.minimum(1.0, depth / np.minimum(pixels + 1.0, deepest)[parts])
    ramp = t * t * (3 - 2 * t)
    return soft * torch.from_numpy(ramp.astype(np.float32)).to(soft.device)


def grow(mask: Tensor, pixels: float) -> Tensor:
    """Every pixel within `pixels` of the mask, by Euclidean distance between pixel centres: (H, W) float32, 0
    or 1.

    Whatever exceeds zero belongs to the mask. Raises ValueError as `feather`.
    """
    from scipy import ndimage

    _check(mask, pixels)
    inside = (mask.detach() > 0).cpu().numpy()
    if not inside.any():
        return torch.zeros_like(mask, dtype=torch.float32)
    grown = ndimage.distance_transform_edt(~inside) <= pixels
    return torch.from_numpy(grown.astype(np.float32)).to(mask.device)


def _check(mask: Tensor, pixels: float) -> None:
    if mask.ndim != 2:
        raise ValueError(f"mask has shape {tuple(mask.shape)}; it must be (H, W)")
    if mask.is_floating_point() and not ((mask >= 0) & (mask <= 1)).all():
        raise ValueError("mask has values outside 0 to 1")
    if not 0 <= pixels < float("inf"):
        raise ValueError(f"{pixels} pixels given for the mask's edge; it must be zero or more")
