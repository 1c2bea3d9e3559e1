"""Boxes for a word from its attention map: windows slid over it, how well they fit it, and their ranking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

Box = tuple[float, float, float, float]

_CONSIDERED = 2000
"""Windows, best first, that the shortlist is drawn from."""


@dataclass(frozen=True)
class LocateSettings:
    """How a word is located. Sides and strides are shares of the image's shorter side.

    levels: noise levels that attention is read at, as shares of the schedule. gamma: the map's exponent; below 1, boxes
    come out larger. k, m: the ViT's anchors and the squares around each, as many as its grid has room for. least,
    most, growth: the smallest and the largest window, and how much larger each is than the one before. stride: between
    windows. aspects: their widths over their heights. shortlist: windows that CLIP judges beside the squares, no two
    of which overlap by more than `overlap` (IoU). clip_weight: CLIP's share of the score. margin: what a crop shows
    around its box, as a share of its longer side. crop: its side in pixels. template: what CLIP reads, with {} for the
    phrase and its article.
    """

    levels: tuple[float, ...] = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)
    gamma: float = 0.75
    k: int = 8
    m: int = 7
    least: float = 0.15
    most: float = 0.9
    growth: float = 1.15
    stride: float = 1 / 32
    aspects: tuple[float, ...] = (1.0,)
    shortlist: int = 16
    overlap: float = 0.75
    clip_weight: float = 0.25
    margin: float = 0.1
    crop: int = 224
    template: str = "{}"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.levels or not all(0 <= level < 1 for level in self.levels):
            raise ValueError(f"levels: got {self.levels}, requires at least one number from 0 to below 1")
        if not (0 < self.least <= self.most <= 1 and self.growth > 1 and 0 < self.stride <= 1):
            raise ValueError(
                f"windows: got sides from {self.least} to {self.most}, growing by {self.growth}, every"
                f" {self.stride}; requires 0 < least <= most <= 1, growth above 1, stride above 0 and up to 1"
            )
        if not self.aspects or not all(aspect > 0 for aspect in self.aspects):
            raise ValueError(f"aspects: got {self.aspects}, requires at least one number above 0")
        if not (self.gamma > 0 and 0 <= self.clip_weight <= 1 and self.margin >= 0 and 0 < self.overlap <= 1):
            raise ValueError(
                f"locate: got gamma {self.gamma}, clip_weight {self.clip_weight}, margin {self.margin},"
                f" overlap {self.overlap}; requires gamma above 0, clip_weight from 0 to 1, margin 0 or more,"
                " overlap above 0 and up to 1"
            )
        if min(self.k, self.m, self.shortlist, self.crop) < 1:
            raise ValueError(
                f"locate: got k {self.k}, m {self.m}, shortlist {self.shortlist}, crop {self.crop};"
                " requires 1 or more of each"
            )
        if "{}" not in self.template:
            raise ValueError(f"template: got {self.template!r}, requires a text with {{}} for the phrase")


@dataclass(frozen=True)
class LocatedBox:
    """A box that a word's object may be in, and the evidence, from 0 to 1.

    box: x0, y0, x1, y1 in whole pixels, the last two exclusive. attention: how well the box fits the word's
    map (soft IoU), as a share of the best box's fit. clip: how much more its crop is like the phrase than
    like the prompt's other objects, from the least of the shortlist to the most; None where CLIP had no say.
    """

    box: Box
    score: float
    attention: float
    clip: float | None


def rank_boxes(
    values: Tensor,
    size: tuple[int, int],
    squares: Tensor,
    judge: Callable[[Tensor], Tensor] | None,
    settings: LocateSettings,
) -> tuple[LocatedBox, ...]:
    """The shortlist for a phrase, best first, on an image of `size` (H, W).

    values: (h, w) the phrase's map on the image, no finer than its pixels. squares: (K, M, 4) the anchors'
    boxes in pixels; K = 0 for none. judge: boxes (N, 4) in pixels to CLIP's evidence (N,), if CLIP has a say.
    """
    from torchvision.ops import nms

    height, width = size
    rows, columns = values.shape
    scale = torch.tensor([width / columns, height / rows, width / columns, height / rows])
    fit = sharpened(values, settings.gamma)
    cells = windows((rows, columns), settings)
    fits = soft_iou(fit, cells).float()
    best = fits.topk(min(len(fits), _CONSIDERED)).indices
    chosen = [cells[best[nms(cells[best].float(), fits[best], settings.overlap)[: settings.shortlist]]]]
    # CLIP may know better than attention where the object is, so it sees every square of every anchor.
    low, high = (squares.flatten(0, 1) / scale).split(2, dim=1)
    # A box that ends with the image may come out a rounding error beyond the map.
    high = high.ceil().minimum(high.new_tensor([columns, rows]))
    chosen.append(torch.cat([low.floor(), high], dim=1).long())
    shortlist = torch.tensor(list(dict.fromkeys(tuple(box) for box in torch.cat(chosen).tolist())))
    attention = soft_iou(fit, shortlist)
    attention = attention / attention.max().clamp_min(1e-12)
    boxes = (shortlist * scale).round()
    scores, evidence = attention, None
    if judge is not None:
        judged = judge(boxes).cpu().double()
        evidence = (judged - judged.min()) / (judged.max() - judged.min()).clamp_min(1e-12)
        scores = (1 - settings.clip_weight) * attention + settings.clip_weight * evidence
    ranked = []
    for k in scores.argsort(descending=True, stable=True).tolist():
        x0, y0, x1, y1 = boxes[k].tolist()
        by_clip = None if evidence is None else float(evidence[k])
        ranked.append(LocatedBox((x0, y0, x1, y1), float(scores[k]), float(attention[k]), by_clip))
    return tuple(ranked)


def soft_iou(values: Tensor, boxes: Tensor) -> Tensor:
    """Intersection over union of boxes (N, 4) in cells with a map a (h, w) in [0, 1]: (N,) float64.

    Σ_in a / (Σ a + |box| − Σ_in a), which for a map of 0 and 1 is the IoU of box and mask.
    """
    sums = F.pad(values.double().cumsum(0).cumsum(1), (1, 0, 1, 0))
    x0, y0, x1, y1 = boxes.unbind(dim=1)
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    area = ((x1 - x0) * (y1 - y0)).double()
    return inside / (sums[-1, -1] + area - inside)


def sharpened(values: Tensor, gamma: float) -> Tensor:
    """A map (h, w), its median, which is background, brought to 0 and its maximum to 1, to the power γ; 0 without a
    peak above the median."""
    base, peak = values.median(), values.max()
    if not bool(peak > base):
        return torch.zeros_like(values)
    return ((values - base) / (peak - base)).clamp(0, 1) ** gamma


def windows(size: tuple[int, int], settings: LocateSettings) -> Tensor:
    """Boxes of all sides and aspects slid over a grid of `size` (h, w) cells: (N, 4) long, x0, y0, x1, y1."""
    height, width = size
    shorter = min(size)
    stride = max(1, round(settings.stride * shorter))
    boxes: list[Tensor] = []
    side = settings.least * shorter
    while side <= settings.most * shorter * (1 + 1e-9):
        for aspect in settings.aspects:
            w = min(width, max(1, round(side * aspect**0.5)))
            h = min(height, max(1, round(side / aspect**0.5)))
            x, y = (torch.tensor([*range(0, free, stride), free]) for free in (width - w, height - h))
            corners = torch.cartesian_prod(x, y)
            boxes.append(torch.cat([corners, corners + torch.tensor([w, h])], dim=1))
        side *= settings.growth
    return torch.cat(boxes).unique(dim=0)
