"""The metrics by name: how tables call them, which direction is better, and what they need. No torch here.

Those outside the mask are DirectInversion's (Ju et al. 2024, PnPInversion): over the whole frame, black where the
edit may show. That makes MSE smaller by the share of the frame that the edit may cover, and SSIM nearer to 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

PSNR_LIMIT: Final = 100.0
"""dB. Identical images have no finite PSNR; theirs is written as this, so that means exist."""


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    name: its key in results. needs: of "clip", "dino", "lpips" (weights), "target" (the true edited image),
    "background" and "change" (a pixel outside and inside the mask of the change), "edit" (a pixel in the edit's
    mask) and "maps" (a row's words). A value is shown as value * scale with so many decimals.
    compared: whether a better value is a better method, so that tables mark the best.
    """

    name: str
    label: str
    what: str
    needs: tuple[str, ...] = ()
    unit: str = ""
    higher_is_better: bool = True
    digits: int = 3
    scale: float = 1.0
    compared: bool = True

    @property
    def arrow(self) -> str:
        return "↑" if self.higher_is_better else "↓"

    @property
    def heading(self) -> str:
        """Label, unit and direction: "PSNR, background (dB) ↑"."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit} {self.arrow}"

    def shown(self, value: float | None) -> str:
        """A value as tables print it, without the unit; "–" for None."""
        return "–" if value is None else f"{value * self.scale:.{self.digits}f}"


_DECIBELS: dict[str, Any] = {"unit": "dB", "digits": 2}
_THOUSANDTHS: dict[str, Any] = {"unit": "×10⁻³", "digits": 2, "scale": 1e3}
_PERCENT: dict[str, Any] = {"unit": "%", "digits": 0, "scale": 100}
_LIMITED = f"Peak signal-to-noise ratio of {{}}. At most {PSNR_LIMIT:.0f} dB."
_VIT = "of the ViT's last keys (Splice; the DINO-Sim (↓) of LocInv's Table 2)"

_PAIRWISE: Final = (
    Metric("psnr", "PSNR", _LIMITED, **_DECIBELS),
    Metric("ssim", "SSIM", "Structural similarity of {}."),
    Metric("mse", "MSE", "Mean squared difference of {}.", higher_is_better=False, **_THOUSANDTHS),
    Metric("lpips", "LPIPS", "Learned perceptual distance of {}.", ("lpips",), higher_is_better=False),
    Metric("dino_similarity", "DINO similarity", "Cosine of the ViT's [CLS] tokens of {}.", ("dino",)),
    Metric(
        "structure_distance",
        "Structure distance",
        f"Mean squared difference of the self-similarities {_VIT} of {{}}.",
        ("dino",),
        higher_is_better=False,
        **_THOUSANDTHS,
    ),
)
"""Metrics of any two images."""


def _of(names: str, suffix: str, label: str, images: str, *needs: str) -> list[Metric]:
    """Metrics of _PAIRWISE on one pair of images."""
    return [
        replace(
            metric,
            name=f"{metric.name}{suffix}",
            label=f"{metric.label}{label}",
            what=metric.what.format(images),
            needs=(*metric.needs, *needs),
        )
        for metric in _PAIRWISE
        if metric.name in names.split()
    ]


def _by_name(metrics: Sequence[Metric]) -> Mapping[str, Metric]:
    return {metric.name: metric for metric in metrics}


_ALL = "psnr ssim mse lpips dino_similarity structure_distance"
_BLACK = "source and edit, both black where the edit may show (as DirectInversion measures)"
_TRUTH = " to the true edit", "the edit and the true edited image", "target"

METRICS: Final = _by_name(
    [
        *_of(_ALL, "_background", ", background", _BLACK, "background"),
        *_of(_ALL, "", "", "source and edit"),
        Metric(
            "clip_score",
            "CLIP score",
            "100 times the cosine of CLIP's embeddings of the edit and the target text, 0 at least.",
            ("clip",),
            digits=2,
        ),
        Metric(
            "clip_score_change",
            "CLIP score, change",
            "CLIP score of the edit, black where it may not show, with the target text.",
            ("clip", "change"),
            digits=2,
        ),
        Metric(
            "clip_score_source",
            "CLIP score, source",
            "CLIP score of the source image with the source text: the same for every method.",
            ("clip",),
            digits=2,
            compared=False,
        ),
        *_of("psnr", "_target", *_TRUTH),
        Metric(
            "psnr_target_change",
            "PSNR to the true edit, change",
            "The same over the pixels where the edit may show, and only those.",
            ("target", "change"),
            **_DECIBELS,
        ),
        *_of("mse lpips", "_target", *_TRUTH),
        Metric(
            "success_target",
            "Success, by the true edit",
            "Share of the edits that, where the edit may show, are nearer to the true edited image than to"
            " the source (mean squared difference).",
            ("target", "change"),
            **_PERCENT,
        ),
        Metric(
            "success_clip",
            "Success, by CLIP",
            "Share of the edits that, cut to the square around the edit's mask, CLIP puts nearer to the target"
            " text than to the source text.",
            ("clip", "edit"),
            **_PERCENT,
        ),
    ]
)
"""What `MetricSuite` computes of an edited image."""

ROW_METRICS: Final = _by_name(
    [
        Metric(
            "iou_best",
            "Best IoU of the maps",
            "Overlap of a word's attention map with its mask at the threshold that suits it best, mean over the words.",
            ("maps",),
        ),
        Metric("iou_mean", "Mean IoU of the maps", "The same, mean over the thresholds 0.05 to 0.95.", ("maps",)),
        Metric(
            "fe",
            "Cost",
            "UNet passes of one sample; a backward pass counts two.",
            unit="NFE",
            higher_is_better=False,
            digits=0,
        ),
        Metric("seconds", "Time", "Seconds for one image.", unit="s", higher_is_better=False, digits=1),
    ]
)
"""What a row of results says beside `metrics`."""

REGION_METRICS: Final = _by_name(
    [
        Metric("s_t2i", "S_t2i", "Cosine of CLIP's embeddings of the edit and the prompt."),
        Metric("s_i2i", "S_i2i", "Cosine of CLIP's embeddings of the edit and the source image."),
        Metric("region_score", "S", "2 S_t2i + S_i2i (Learnable Regions, Eq. 7)."),
        Metric("box_iou", "IoU of the box", "Overlap of the box with the edit's mask."),
    ]
)
"""What `ablate regions` writes into a row's metrics."""

COLUMNS: Final[Mapping[str, Metric]] = {**METRICS, **ROW_METRICS, **REGION_METRICS}


def value_of(row: Mapping[str, Any], name: str) -> float | None:
    """What a row of results says of the column `name`; None where it says nothing or failed."""
    if row.get("error"):
        return None
    words = (row.get("words") or {}).values()
    if name == "iou_best":
        found = _mean(word.get("iou_after") for word in words)
    elif name == "iou_mean":
        found = _mean(_mean(word.get("iou_curve") or ()) for word in words)
    else:
        found = (row if name in ROW_METRICS else row.get("metrics") or {}).get(name)
    return None if found is None else float(found)


def columns_of(names: Sequence[str]) -> tuple[Metric, ...]:
    """The columns of these names, in their order. Raises ValueError for an unknown or repeated one."""
    return _known(names, COLUMNS)


def metrics_of(names: Sequence[str]) -> tuple[Metric, ...]:
    """As `columns_of`, but only what a `MetricSuite` computes."""
    return _known(names, METRICS)


def metrics_for(*, clip: object = None, dino: object = None, lpips: object = None) -> tuple[str, ...]:
    """The names of the metrics that can be computed with the weights that are given (not None)."""
    lacking = {name for name, given in (("clip", clip), ("dino", dino), ("lpips", lpips)) if given is None}
    return tuple(name for name, metric in METRICS.items() if not lacking.intersection(metric.needs))


def _known(names: Sequence[str], known: Mapping[str, Metric]) -> tuple[Metric, ...]:
    for name in names:
        if name not in known:
            raise ValueError(f"metrics: got {name!r}, requires names of {', '.join(known)}")
    if len(set(names)) != len(names):
        raise ValueError(f"metrics: got {list(names)}, requires every name once")
    return tuple(known[name] for name in names)


def _mean(values: Iterable[float | None]) -> float | None:
    """Of those that are there; None for none."""
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
