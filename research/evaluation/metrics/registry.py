"""The metrics by name: how tables call them, which direction is better, and what they need. No torch here.

The metrics outside the mask are DirectInversion's (Ju et al. 2024, PnPInversion): both images are made
black where the edit may show, and the metric is taken over the whole frame, so that figures compare with
those published. That makes MSE smaller by the share of the frame that the edit may cover, and SSIM nearer
to 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

PSNR_LIMIT: Final = 100.0
"""dB. Identical images have no finite PSNR; theirs is written as this, so that means exist."""


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    name: its key in results. label: for people. unit: "" for a plain number. what: one sentence.
    higher_is_better: its direction. needs: of "clip", "dino", "lpips" (weights), "target" (the true edited
    image), "background" and "change" (a pixel outside and inside the mask), "place" (a pixel where the edit
    is) and "maps" (a row's words). scale, digits: a value is shown as value * scale with so many decimals.
    compared: whether a better value is a better method, so that tables mark the best.
    """

    name: str
    label: str
    unit: str
    higher_is_better: bool
    needs: tuple[str, ...]
    what: str
    digits: int = 3
    scale: float = 1.0
    compared: bool = True

    @property
    def arrow(self) -> str:
        """ "↑" where higher is better, else "↓"."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def heading(self) -> str:
        """Label, unit and direction: "PSNR, background (dB) ↑"."""
        unit = f" ({self.unit})" if self.unit else ""
        return f"{self.label}{unit} {self.arrow}"

    def shown(self, value: float | None) -> str:
        """A value as tables print it, without the unit; "–" for None."""
        return "–" if value is None else f"{value * self.scale:.{self.digits}f}"


_THOUSANDTHS = {"unit": "×10⁻³", "digits": 2, "scale": 1e3}
_DECIBELS = {"unit": "dB", "digits": 2}
_PERCENT = {"unit": "%", "digits": 0, "scale": 100}


def _metric(name: str, label: str, higher: bool, needs: Sequence[str], what: str, **shown: Any) -> tuple[str, Metric]:
    return name, Metric(name, label, shown.pop("unit", ""), higher, tuple(needs), what, **shown)


_BLACKENED = " of source and edit, both black where the edit may show (as DirectInversion measures)."

METRICS: Final[Mapping[str, Metric]] = dict(
    [
        _metric(
            "psnr_background",
            "PSNR, background",
            True,
            ["background"],
            f"Peak signal-to-noise ratio{_BLACKENED} At most {PSNR_LIMIT:.0f} dB.",
            **_DECIBELS,
        ),
        _metric(
            "ssim_background",
            "SSIM, background",
            True,
            ["background"],
            f"Structural similarity{_BLACKENED}",
        ),
        _metric(
            "mse_background",
            "MSE, background",
            False,
            ["background"],
            f"Mean squared difference{_BLACKENED}",
            **_THOUSANDTHS,
        ),
        _metric(
            "lpips_background",
            "LPIPS, background",
            False,
            ["lpips", "background"],
            f"Learned perceptual distance{_BLACKENED}",
        ),
        _metric(
            "dino_similarity_background",
            "DINO similarity, background",
            True,
            ["dino", "background"],
            f"Cosine of the ViT's [CLS] tokens{_BLACKENED}",
        ),
        _metric(
            "structure_distance_background",
            "Structure distance, background",
            False,
            ["dino", "background"],
            f"Structure distance{_BLACKENED}",
            **_THOUSANDTHS,
        ),
        _metric(
            "psnr",
            "PSNR",
            True,
            [],
            f"Peak signal-to-noise ratio of source and edit. At most {PSNR_LIMIT:.0f} dB.",
            **_DECIBELS,
        ),
        _metric("ssim", "SSIM", True, [], "Structural similarity of source and edit."),
        _metric("mse", "MSE", False, [], "Mean squared difference of source and edit.", **_THOUSANDTHS),
        _metric("lpips", "LPIPS", False, ["lpips"], "Learned perceptual distance of source and edit."),
        _metric(
            "dino_similarity",
            "DINO similarity",
            True,
            ["dino"],
            "Cosine of the ViT's [CLS] tokens of source and edit.",
        ),
        _metric(
            "structure_distance",
            "Structure distance",
            False,
            ["dino"],
            "Mean squared difference of the self-similarities of the ViT's last keys (Splice), source and"
            " edit; the DINO-Sim (↓) of LocInv's Table 2.",
            **_THOUSANDTHS,
        ),
        _metric(
            "clip_score",
            "CLIP score",
            True,
            ["clip"],
            "100 times the cosine of CLIP's embeddings of the edit and the target text, 0 at least.",
            digits=2,
        ),
        _metric(
            "clip_score_change",
            "CLIP score, change",
            True,
            ["clip", "change"],
            "CLIP score of the edit, black where it may not show, with the target text.",
            digits=2,
        ),
        _metric(
            "clip_score_source",
            "CLIP score, source",
            True,
            ["clip"],
            "CLIP score of the source image with the source text: the same for every method.",
            digits=2,
            compared=False,
        ),
        _metric(
            "psnr_target",
            "PSNR to the true edit",
            True,
            ["target"],
            f"Peak signal-to-noise ratio of the edit and the true edited image. At most {PSNR_LIMIT:.0f} dB.",
            **_DECIBELS,
        ),
        _metric(
            "psnr_target_change",
            "PSNR to the true edit, change",
            True,
            ["target", "change"],
            "The same over the pixels where the edit may show, and only those.",
            **_DECIBELS,
        ),
        _metric(
            "mse_target",
            "MSE to the true edit",
            False,
            ["target"],
            "Mean squared difference of the edit and the true edited image.",
            **_THOUSANDTHS,
        ),
        _metric(
            "lpips_target",
            "LPIPS to the true edit",
            False,
            ["target", "lpips"],
            "Learned perceptual distance of the edit and the true edited image.",
        ),
        _metric(
            "success_target",
            "Success, by the true edit",
            True,
            ["target", "change"],
            "Share of the edits that, where the edit may show, are nearer to the true edited image than to"
            " the source (mean squared difference).",
            **_PERCENT,
        ),
        _metric(
            "success_clip",
            "Success, by CLIP",
            True,
            ["clip", "place"],
            "Share of the edits that, cut to the square around the place of the edit, CLIP puts nearer to"
            " the target text than to the source text.",
            **_PERCENT,
        ),
    ]
)
"""What `MetricSuite` computes of an edited image."""

ROW_METRICS: Final[Mapping[str, Metric]] = dict(
    [
        _metric(
            "iou_best",
            "Best IoU of the maps",
            True,
            ["maps"],
            "Overlap of a word's attention map with its mask at the threshold that suits it best, mean over the words.",
        ),
        _metric(
            "iou_mean",
            "Mean IoU of the maps",
            True,
            ["maps"],
            "The same, mean over the thresholds 0.05 to 0.95.",
        ),
        _metric(
            "fe",
            "Cost",
            False,
            [],
            "UNet passes of one sample; a backward pass counts two.",
            unit="FE",
            digits=0,
        ),
        _metric("seconds", "Time", False, [], "Seconds for one image.", unit="s", digits=1),
    ]
)
"""What a row of results says beside `metrics`."""

REGION_METRICS: Final[Mapping[str, Metric]] = dict(
    [
        _metric("s_t2i", "S_t2i", True, [], "Cosine of CLIP's embeddings of the edit and the prompt."),
        _metric("s_i2i", "S_i2i", True, [], "Cosine of CLIP's embeddings of the edit and the source image."),
        _metric("region_score", "S", True, [], "2 S_t2i + S_i2i (Learnable Regions, Eq. 7)."),
        _metric("box_iou", "IoU of the box", True, [], "Overlap of the box with the place of the edit."),
    ]
)
"""What `ablate regions` writes into a row's metrics."""

COLUMNS: Final[Mapping[str, Metric]] = {**METRICS, **ROW_METRICS, **REGION_METRICS}

_OF_ROWS: Final[Mapping[str, Callable[[Mapping[str, Any]], Any]]] = {
    "iou_best": lambda row: _mean_over_words(row, lambda word: word.get("iou_after")),
    "iou_mean": lambda row: _mean_over_words(row, lambda word: _mean(word.get("iou_curve"))),
    "fe": lambda row: row.get("fe"),
    "seconds": lambda row: row.get("seconds"),
}


def value_of(row: Mapping[str, Any], name: str) -> float | None:
    """What a row of results says of the column `name`; None where it says nothing or failed."""
    if row.get("error"):
        return None
    found = _OF_ROWS[name](row) if name in _OF_ROWS else (row.get("metrics") or {}).get(name)
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


def _mean(values: Sequence[float] | None) -> float | None:
    return sum(values) / len(values) if values else None


def _mean_over_words(row: Mapping[str, Any], read: Callable[[Mapping[str, Any]], float | None]) -> float | None:
    found = [value for word in (row.get("words") or {}).values() if (value := read(word)) is not None]
    return _mean(found)
