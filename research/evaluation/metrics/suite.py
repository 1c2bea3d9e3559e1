"""The metrics of an edited image, computed together, with the networks that they need opened once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....locinv_core.extras import require
from ....region_core.encoders.clip import ClipEncoder, load_clip
from ....region_core.encoders.vit import VisionFeatures, load_vit
from .dino import last_keys, see, similarity, structure_distance
from .perceptual import PerceptualDistance, load_lpips
from .pixels import blackened, limited_psnr, mse, ssim
from .registry import metrics_of

_WEIGHTS: Mapping[str, str] = {
    "clip": "a CLIP: 'embedded', or a folder of transformers' layout such as clip-vit-large-patch14",
    "dino": "a ViT: 'embedded', or a folder of transformers' layout such as dino-vitb8",
    "lpips": "a backbone: a folder or file with torchvision's weights, such as squeezenet1_1-b8a52dc0.safetensors",
}

Measure = Callable[[], float]


class MetricSuite:
    """Some metrics, ready to measure edits.

    names: of METRICS. clip, dino: "embedded", a folder, a hub name, or one that is open. lpips: a backbone's
    file or its folder, or one that is open. Weights that no metric needs are not opened. Raises ValueError
    for an unknown name, a metric whose weights are not given, and weights that cannot be had.
    """

    def __init__(
        self,
        names: Iterable[str],
        *,
        device: torch.device | str = "cpu",
        clip: str | Path | ClipEncoder | None = None,
        dino: str | Path | VisionFeatures | None = None,
        lpips: str | Path | PerceptualDistance | None = None,
    ) -> None:
        self.metrics = metrics_of(tuple(names))
        given: dict[str, Any] = {"clip": clip, "dino": dino, "lpips": lpips}
        needed = {part: metric.name for metric in reversed(self.metrics) for part in metric.needs if part in _WEIGHTS}
        for part, name in needed.items():
            if given[part] is None:
                raise ValueError(f"metric {name}: no {part} given, requires {_WEIGHTS[part]}; or leave the metric out")
        if "lpips" in needed:
            require("torchmetrics", "evaluate")

        def opened(part: str, load: Callable[[Any, torch.device], Any]) -> Any:
            if part not in needed:
                return None
            return load(given[part], torch.device(device)) if isinstance(given[part], str | Path) else given[part]

        # The cheapest to refuse is opened first.
        self.lpips: PerceptualDistance | None = opened("lpips", load_lpips)
        self.dino: VisionFeatures | None = opened("dino", load_vit)
        self.clip: ClipEncoder | None = opened("clip", load_clip)
        if self.dino is not None:
            last_keys(self.dino)

    @torch.no_grad()
    def __call__(
        self,
        edited: Tensor,
        source: Tensor,
        change_mask: Tensor,
        *,
        source_text: str,
        target_text: str,
        target_image: Tensor | None = None,
        edit_mask: Tensor | None = None,
    ) -> dict[str, float | None]:
        """The metrics of one edit, by name; None where what one needs is not there.

        edited, source, target_image (the true edited image): (1, 3, H, W) in [0, 1]. change_mask: (H, W) in
        [0, 1], 1 where the edit may show. edit_mask: 1 where it is to be; None: the change mask.
        Raises ValueError for images or a mask of another shape, values outside 0 to 1 in a mask, and a text that
        CLIP cannot read whole.
        """
        edit_mask = change_mask if edit_mask is None else edit_mask
        _check(edited, source, {"change mask": change_mask, "edit mask": edit_mask}, target_image)
        source, mask, edit_mask = source.to(edited), change_mask.to(edited), edit_mask.to(edited)
        target = None if target_image is None else target_image.to(edited)
        there = {
            "background": bool((mask < 1).any()),
            "change": bool((mask > 0).any()),
            "edit": bool((edit_mask > 0).any()),
            "target": target is not None,
        }
        measures: dict[str, Measure] = {
            "clip_score": lambda: self._clip_score(edited, target_text, "target text"),
            "clip_score_change": lambda: self._clip_score(edited * mask, target_text, "target text"),
            "clip_score_source": lambda: self._clip_score(source, source_text, "source text"),
            "success_clip": lambda: self._succeeds(cut_to(edited, edit_mask), source_text, target_text),
        }
        pairs = {"": (edited, source), "_background": (blackened(edited, mask), blackened(source, mask))}
        if target is not None:
            truth = target
            pairs["_target"] = edited, truth
            measures["psnr_target_change"] = lambda: limited_psnr(edited, truth, mask)
            measures["success_target"] = lambda: float(mse(edited, truth, mask) < mse(edited, source, mask))
        pairwise = self._pairwise()
        for suffix, pair in pairs.items():
            measures |= {f"{name}{suffix}": partial(measure, *pair) for name, measure in pairwise.items()}
        return {
            metric.name: measures[metric.name]() if all(there.get(need, True) for need in metric.needs) else None
            for metric in self.metrics
        }

    def _pairwise(self) -> Mapping[str, Callable[[Tensor, Tensor], float]]:
        """The metrics of any two images; what the ViT makes of an image is computed once."""

        found: dict[str, Callable[[Tensor, Tensor], float]] = {"psnr": limited_psnr, "ssim": ssim, "mse": mse}
        if self.lpips is not None:
            found["lpips"] = self.lpips
        if self.dino is not None:
            seen = cache(partial(see, self.dino))
            found["dino_similarity"] = lambda a, b: similarity(seen(a), seen(b))
            found["structure_distance"] = lambda a, b: structure_distance(seen(a), seen(b))
        return found

    def _clip_score(self, image: Tensor, text: str, name: str) -> float:
        """max(100 cos(E_I, E_T), 0) (Hessel et al. 2021, with torchmetrics' factor of 100 for their 2.5).

        An image that is not square is squeezed into CLIP's square, so that no edit is cropped away.
        torchmetrics and DirectInversion resize the shorter side and crop to the middle, so that their scores
        of such images differ; those of square images are the same.
        """
        assert self.clip is not None
        image_vector = self.clip.encode_images(image)
        text_vector = self.clip.encode_texts([text], name).to(image_vector)
        return max(100 * float((image_vector * text_vector).sum()), 0.0)

    def _succeeds(self, image: Tensor, source: str, target: str) -> float:
        """1 where CLIP puts the image nearer to the target text than to the source text, else 0."""
        assert self.clip is not None
        image_vector = self.clip.encode_images(image)
        texts = [
            self.clip.encode_texts([text], name) for text, name in ((target, "target text"), (source, "source text"))
        ]
        wanted, other = (torch.cat(texts).to(image_vector) @ image_vector[0]).tolist()
        return float(wanted > other)


def cut_to(image: Tensor, mask: Tensor) -> Tensor:
    """The part (1, 3, h, w) of `image` in the square around the mask (H, W), which is not empty.

    The square has the longer side of the mask's box and its centre, as far as the image has room.
    """
    spans = [along.nonzero() for along in (mask.amax(dim=1), mask.amax(dim=0))]
    sides = [int(span.max() - span.min()) + 1 for span in spans]
    for dim, span, side, room in zip((2, 3), spans, sides, mask.shape, strict=True):
        wanted = min(max(sides), room)
        start = min(max(int(span.min()) - (wanted - side) // 2, 0), room - wanted)
        image = image.narrow(dim, start, wanted)
    return image


def _check(edited: Tensor, source: Tensor, masks: Mapping[str, Tensor], target: Tensor | None) -> None:
    if edited.ndim != 4 or edited.shape[:2] != (1, 3):
        raise ValueError(f"edited: got the shape {tuple(edited.shape)}, requires (1, 3, H, W)")
    images = {"edited": edited, "source": source, **({} if target is None else {"target image": target})}
    for name, image in images.items():
        if image.shape != edited.shape:
            raise ValueError(
                f"{name}: got the shape {tuple(image.shape)}, requires that of the edited image, {tuple(edited.shape)}"
            )
    for name, mask in masks.items():
        if mask.shape != edited.shape[-2:]:
            raise ValueError(
                f"{name}: got the shape {tuple(mask.shape)}, requires the image's {tuple(edited.shape[-2:])}"
            )
        if not bool(((mask >= 0) & (mask <= 1)).all()):
            raise ValueError(f"{name}: it has values outside 0 to 1, requires 1 where the edit may show, else 0")
    for name, image in images.items():
        if not bool(torch.isfinite(image).all()):
            raise ValueError(f"{name}: it has values that are not finite, requires 0 to 1")
