"""Localization priors: for each word the mask of its object (LocInv's S), from masks, mask files or boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..imaging.mask_files import read_mask
from ..imaging.mask_values import inside_by_values
from ..imaging.padding import Padding
from ..text.prompt import Prompt, Word

Kind = Literal["segment", "detection"]
Size = tuple[int, int]
Box = tuple[float, float, float, float]

_OVERSHOOT = 0.25
"""How far values of a mask may leave 0 to 1, as bicubic resizing makes them."""


@dataclass(frozen=True)
class LocalizationPrior:
    """A mask for each of some words.

    masks: word -> (H, W) float32, 0 or 1, at image resolution. Words are lower case; "cat#2" is the second cat.
    kinds: word -> "segment" (a mask that follows the object's outline) or "detection" (a box around it).
    remarks: how mask files were understood that could be read in two ways.
    Raises ValueError for no word, an empty mask, values other than 0 and 1, and masks of different sizes.
    """

    masks: Mapping[str, Tensor]
    kinds: Mapping[str, Kind]
    remarks: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.masks:
            raise ValueError("prior has no word: give at least one mask or box")
        if set(self.masks) != set(self.kinds):
            raise ValueError(
                f"prior has masks for {sorted(self.masks)} and kinds for {sorted(self.kinds)}: require the same words"
            )
        first = next(iter(self.masks))
        for word, mask in self.masks.items():
            if word != prior_word(word):
                raise ValueError(f"prior word {word!r} must be written {prior_word(word)!r}")
            if self.kinds[word] not in ("segment", "detection"):
                raise ValueError(f"prior kind of {word!r} is {self.kinds[word]!r}: require 'segment' or 'detection'")
            if mask.ndim != 2 or mask.dtype != torch.float32 or not bool(((mask == 0) | (mask == 1)).all()):
                raise ValueError(
                    f"prior mask of {word!r}: require (H, W) float32 of 0 and 1, got {tuple(mask.shape)} {mask.dtype}"
                )
            if mask.shape != self.masks[first].shape:
                sizes = f"{_size_text(self.masks[first].shape)} for {first!r}, {_size_text(mask.shape)} for {word!r}"
                raise ValueError(f"prior masks differ in size: {sizes}")
            if not bool(mask.any()):
                raise ValueError(f"prior mask of {word!r} is empty: require at least one pixel inside")

    @property
    def size(self) -> Size:
        """(H, W) in pixels."""
        height, width = next(iter(self.masks.values())).shape
        return int(height), int(width)

    @property
    def words(self) -> tuple[str, ...]:
        """The words that have a mask, in the order in which they were given."""
        return tuple(self.masks)

    @property
    def kind(self) -> Kind:
        """The preset whose losses fit every word: "segment" if all masks are, else "detection"."""
        return "segment" if all(kind == "segment" for kind in self.kinds.values()) else "detection"

    def mask(self, word: str) -> Tensor:
        """(H, W) mask of `word`. Raises ValueError, saying which words there are, for another word."""
        key = prior_word(word)
        if key not in self.masks:
            raise ValueError(f"prior has no mask for {word!r}; it has masks for: {', '.join(self.masks)}")
        return self.masks[key]

    def resample(self, word: str, size: Size) -> Tensor:
        """(h, w) float32 in [0, 1]: the part of each grid cell's area that the mask of `word` covers.

        Exact also where cells cut through pixels, so the mean of the grid is the mean of the mask.
        """
        mask = self.mask(word)
        height, width = size
        if height < 1 or width < 1:
            raise ValueError(f"prior cannot be resampled to {height}×{width}: require at least 1×1")
        rows, columns = _area_weights(mask.shape[0], height), _area_weights(mask.shape[1], width)
        return (rows @ mask.double().cpu() @ columns.T).clamp(0, 1).to(mask)

    def padded(self, padding: Padding) -> LocalizationPrior:
        """The prior on the padded image. Raises ValueError unless its masks have the image's own size."""
        if self.size != (padding.height, padding.width):
            size = f"{padding.width}x{padding.height}"
            raise ValueError(f"prior: its masks have {self.size[1]}x{self.size[0]} pixels, requires the image's {size}")
        return replace(self, masks={word: padding.pad_mask(mask) for word, mask in self.masks.items()})

    def union(self) -> Tensor:
        """(H, W) float32 0/1: where any word's mask is."""
        return torch.stack(list(self.masks.values())).amax(dim=0)

    def check_against(self, prompt: Prompt) -> dict[str, Word]:
        """The prompt's word for each word of the prior. Raises ValueError, naming its words, if it lacks one."""
        try:
            return {word: prompt.find(word) for word in self.masks}
        except ValueError as error:
            raise ValueError(f"prior: {error}") from None


def image_size(image: Tensor) -> Size:
    """(H, W) of one image (1, 3, H, W). Raises ValueError for another shape."""
    if image.ndim != 4 or tuple(image.shape[:2]) != (1, 3):
        raise ValueError(f"image: got the shape {tuple(image.shape)}, requires one image (1, 3, H, W)")
    return int(image.shape[-2]), int(image.shape[-1])


def prior_word(word: str) -> str:
    """The form in which a prior keeps a word: lower case, single spaces, no "#1". Raises ValueError for none."""
    key = " ".join(word.lower().split()).removesuffix("#1").strip()
    if not key:
        raise ValueError(f"prior word is empty: got {word!r}, require a word of the prompt")
    return key


def from_masks(
    masks: Mapping[str, Tensor | np.ndarray], *, size: Size | None = None, kind: Kind = "segment"
) -> LocalizationPrior:
    """A prior from arrays or tensors (H, W), or with leading axes of length 1.

    bool; integers 0/1, 0..255 or 0..65535, as `inside_by_values` reads them; floats in [0, 1], inside from 0.5, which
    may leave the range by a quarter, as resizing does.
    size: (H, W) of the image, checked when given.
    Raises ValueError for an empty mask, a label map of several ids, values out of range, NaN, what has no mask's
    shape, and another size.
    """
    return _collect({word: [_binary(word, mask)] for word, mask in masks.items()}, size, kind)


def from_mask_files(
    paths: Mapping[str, str | Path | Sequence[str | Path]], *, size: Size | None = None, kind: Kind = "segment"
) -> LocalizationPrior:
    """A prior from mask images, each as `read_mask` takes it; several files of one word are joined.

    Raises ValueError for a file that is no mask, and as `from_masks` does.
    """
    several = {word: [path] if isinstance(path, (str, Path)) else path for word, path in paths.items()}
    read = {word: [read_mask(path) for path in some] for word, some in several.items()}
    masks = {word: [torch.from_numpy(file.inside).float() for file in files] for word, files in read.items()}
    remarks = tuple(file.remark for files in read.values() for file in files if file.remark)
    return replace(_collect(masks, size, kind), remarks=remarks)


def from_boxes(boxes: Mapping[str, Any], size: Size, *, kind: Kind = "detection") -> LocalizationPrior:
    """A prior from boxes (x0, y0, x1, y1) in pixels, x1 and y1 exclusive; one box or several a word, joined.

    Parts of a pixel are rounded outwards, and what leaves the image by less than a pixel is cut off. size: (H, W) of
    the image. Raises ValueError for a box that is not four finite numbers, has no area, leaves the image by more, or
    is written in shares of the image's sides.
    """
    masks = {word: [_box_mask(word, box, size) for box in _boxes_of(word, given)] for word, given in boxes.items()}
    return _collect(masks, size, kind)


def merge(*priors: LocalizationPrior) -> LocalizationPrior:
    """All the words of some priors; a word that several have gets the union of its masks, a segment when all are.

    Raises ValueError for no prior and for priors of different sizes.
    """
    if not priors:
        raise ValueError("merge requires at least one prior, got none")
    masks: dict[str, Tensor] = {}
    kinds: dict[str, Kind] = {}
    for prior in priors:
        if prior.size != priors[0].size:
            raise ValueError(f"priors differ in size: {_size_text(priors[0].size)} and {_size_text(prior.size)}")
        for word, mask in prior.masks.items():
            masks[word] = torch.maximum(masks[word], mask) if word in masks else mask
            kinds[word] = "detection" if "detection" in (kinds.get(word), prior.kinds[word]) else "segment"
    return LocalizationPrior(masks, kinds, tuple(remark for prior in priors for remark in prior.remarks))


def _collect(masks: Mapping[str, Sequence[Tensor]], size: Size | None, kind: Kind) -> LocalizationPrior:
    priors = []
    for word, parts in masks.items():
        key = prior_word(word)
        if not parts:
            raise ValueError(f"prior of {word!r} is empty: require at least one mask or box")
        for mask in parts:
            if size is not None and tuple(mask.shape) != tuple(size):
                raise ValueError(
                    f"prior mask of {word!r} is {_size_text(mask.shape)} "
                    f"and the image is {_size_text(size)}: require the same size"
                )
            priors.append(LocalizationPrior({key: mask}, {key: kind}))
    if not priors:
        raise ValueError("prior has no word: give at least one mask or box")
    return merge(*priors)


def _size_text(size: Sequence[int]) -> str:
    return f"{size[1]}×{size[0]} (width×height)"


def _area_weights(pixels: int, cells: int) -> Tensor:
    """(cells, pixels) float64: the part of each cell's length that each pixel fills; rows sum to 1."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * pixels / cells
    pixel = torch.arange(pixels, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    return overlap.clamp(min=0) * cells / pixels


def _binary(word: str, given: Tensor | np.ndarray) -> Tensor:
    """(H, W) float32 0/1 of any of the forms that `from_masks` takes."""
    mask = given.detach().cpu() if isinstance(given, Tensor) else torch.from_numpy(np.ascontiguousarray(given))
    shape = tuple(mask.shape)
    while mask.ndim > 2 and mask.shape[0] == 1:
        mask = mask[0]
    if mask.ndim != 2 or 0 in shape:
        raise ValueError(f"prior mask of {word!r} has shape {shape}: require (H, W)")
    if mask.dtype == torch.bool:
        return mask.float()
    if not mask.dtype.is_floating_point:
        return torch.from_numpy(inside_by_values(f"prior mask of {word!r}", mask.numpy())).float()
    low, high = mask.min().item(), mask.max().item()
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # NaN fails both comparisons
        raise ValueError(f"prior mask of {word!r} has values from {low:g} to {high:g}: require 0 to 1")
    return (mask >= 0.5).float()


def _boxes_of(word: str, given: Any) -> np.ndarray:
    """(n, 4) float64 of one box or several."""
    try:
        boxes = np.atleast_2d(np.asarray(given.detach().cpu() if isinstance(given, Tensor) else given, np.float64))
    except (TypeError, ValueError):
        boxes = np.empty(0)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or not len(boxes):
        raise ValueError(f"box of {word!r} is {given!r}: require four numbers x0, y0, x1, y1")
    return boxes


def _box_mask(word: str, box: np.ndarray, size: Size) -> Tensor:
    height, width = size
    named = f"box of {word!r} ({', '.join(f'{value:g}' for value in box)})"
    if not np.isfinite(box).all():
        raise ValueError(f"{named}: require finite numbers x0, y0, x1, y1")
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError(f"{named} has no area: require x0 < x1 and y0 < y1")
    if box.min() >= 0 and box.max() <= 1 and (box % 1 != 0).any():
        percent = ",".join(f"{value * 100:g}" for value in box)
        raise ValueError(f"{named}: require pixels; shares of the sides are written in percent, {percent}%")
    limits = np.array([width, height, width, height])
    if (box <= -1).any() or (box >= limits + 1).any():
        raise ValueError(
            f"{named} leaves the image, which is {_size_text(size)}: require 0 ≤ x ≤ {width} and 0 ≤ y ≤ {height}"
        )
    box = box.clip(0, limits)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise ValueError(f"{named} lies outside the image, which is {_size_text(size)}")
    left, top = np.floor(box[:2]).astype(int)
    right, bottom = np.ceil(box[2:]).astype(int)
    mask = torch.zeros(height, width)
    mask[top:bottom, left:right] = 1.0
    return mask
