"""Outlines of objects from a box or from points, by Segment Anything (Kirillov et al. 2023): a segment prior."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import masks_to_boxes

from ...cost import CostTracker
from ...extras import require
from ...imaging.io import to_pil
from ..priors import Box, LocalizationPrior, from_boxes, from_masks, image_size, merge, prior_word
from .models import read_weights
from .registry import PriorSource, parse_box

SEGMENT_STAGE = "segment"
MODELS = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}
"""The published models, as `segment_anything.sam_model_registry` names them, by the width of their ViT."""


@dataclass(frozen=True)
class SamPrompt:
    """What shows a word's object: boxes, each outlined by itself, or points, or one box and points.

    boxes: x0, y0, x1, y1 in pixels, the last two exclusive. on, off: points x, y in pixels that lie on the
    object and beside it. Raises ValueError for nothing that shows the object, and for points with several
    boxes.
    """

    boxes: tuple[Box, ...] = ()
    on: tuple[tuple[float, float], ...] = ()
    off: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.boxes and not self.on:
            raise ValueError("prompt: got neither a box nor a point on the object, requires at least one")
        if len(self.boxes) > 1 and (self.on or self.off):
            raise ValueError(
                f"prompt: got {len(self.boxes)} boxes and points for one word, requires points with one box"
            )

    def points(self) -> tuple[np.ndarray, np.ndarray]:
        """The points (N, 2) float32, and 1 for each that is on the object, 0 for each beside it."""
        labels = np.array([1] * len(self.on) + [0] * len(self.off))
        return np.array([*self.on, *self.off], dtype=np.float32), labels


Predict = Callable[[Box | None, SamPrompt, bool], tuple[np.ndarray, np.ndarray]]
"""(a box, points, whether they are ambiguous) to outlines (N, H, W) bool and the IoU predicted for each (N,)."""


class Outliner(Protocol):
    """A model of the Segment Anything family."""

    def predictor(self, image: Tensor) -> Predict:
        """What outlines objects on `image` (1, 3, H, W), which is encoded here, once."""


@dataclass(frozen=True, eq=False)
class SegmentAnything:
    """A model of the package `segment-anything`."""

    model: nn.Module

    def predictor(self, image: Tensor) -> Predict:
        """What outlines objects on `image` (1, 3, H, W), which is encoded here, once."""
        predictor = require("segment_anything", "sam").SamPredictor(self.model)
        predictor.set_image(np.asarray(to_pil(image)))

        def predict(box: Box | None, prompt: SamPrompt, several: bool) -> tuple[np.ndarray, np.ndarray]:
            points, labels = prompt.points()
            masks, predicted_iou, _ = predictor.predict(
                point_coords=points if len(points) else None,
                point_labels=labels if len(points) else None,
                box=None if box is None else np.array(box, dtype=np.float32),
                multimask_output=several,
            )
            return masks, predicted_iou

        return predict


def prior_from_segment_anything(
    model: nn.Module | Outliner, image: Tensor, prompts: Mapping[str, SamPrompt], *, tracker: CostTracker | None = None
) -> LocalizationPrior:
    """The outline of each word's object on `image` (1, 3, H, W) in [0, 1].

    model: as `load_segment_anything` gives it, or another outliner, on any device. A single point may mean an
    object or a part of it: of the three outlines that the model then gives, the one with the highest predicted
    IoU is taken.
    Raises ValueError, before any work, for boxes and points outside the image, and for a prompt where the
    model finds no object.
    """
    size = image_size(image)
    if not prompts:
        raise ValueError("prompts: got none, requires at least one word with a box or a point")
    for word, prompt in prompts.items():
        _check(word, prompt, size)
    tracker = tracker or CostTracker()
    priors = []
    with tracker.stage(SEGMENT_STAGE), torch.no_grad():
        predict = (SegmentAnything(model) if isinstance(model, nn.Module) else model).predictor(image)
        for number, (word, prompt) in enumerate(prompts.items(), start=1):
            outlines = [_outline(predict, box, prompt) for box in prompt.boxes or (None,)]
            if not any(outline.any() for outline in outlines):
                raise ValueError(
                    f"prompt of {word!r}: Segment Anything finds no object there; requires a box that holds the"
                    " whole object, or a point in its middle"
                )
            priors += [from_masks({word: outline}, size=size) for outline in outlines if outline.any()]
            tracker.report(number, len(prompts))
    return merge(*priors)


def boxes_of(prior: LocalizationPrior) -> dict[str, SamPrompt]:
    """The box around each word's mask, for outlining what a detector has found."""
    corners = masks_to_boxes(torch.stack(list(prior.masks.values())))
    corners[:, 2:] += 1  # torchvision's last pixels are inclusive
    return {word: SamPrompt(boxes=(tuple(box),)) for word, box in zip(prior.masks, corners.tolist(), strict=True)}


def load_segment_anything(path: str | Path) -> nn.Module:
    """The Segment Anything of a published checkpoint (.pth) or of the same weights as .safetensors, on the CPU.

    Raises ValueError for another file and without the package.
    """
    file = Path(path).expanduser()
    state = read_weights(file)
    registry = require("segment_anything", "sam").sam_model_registry
    try:
        # Weights made inside a caller's inference mode (ComfyUI's) could never take part in a gradient.
        with torch.inference_mode(False):
            model: nn.Module = registry[MODELS[state["image_encoder.pos_embed"].shape[-1]]]()
            model.load_state_dict(state)
    except (KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"checkpoint {file.name!r}: its weights are not Segment Anything's ({reason}); requires SAM ViT-B, ViT-L"
            " or ViT-H as published"
        ) from error
    return model.requires_grad_(False).eval()


def box_source(label: str, form: str, load: Callable[[str], nn.Module | Outliner]) -> PriorSource:
    """The source whose text is a box, `@` and what `load` opens."""

    def prior(word: str, given: str, image: Tensor) -> LocalizationPrior:
        box, at, name = given.partition("@")
        if not at:
            raise ValueError(f"prior of {word!r}: got {given!r}, requires {form}")
        prompts = {word: SamPrompt(boxes=(parse_box(word, box),))}
        return prior_from_segment_anything(load(name.strip()), image, prompts)

    return PriorSource(label, form, prior)


def _outline(predict: Predict, box: Box | None, prompt: SamPrompt) -> np.ndarray:
    """(H, W) bool."""
    masks, predicted_iou = predict(box, prompt, box is None and len(prompt.on) + len(prompt.off) == 1)
    best: np.ndarray = masks[int(np.argmax(predicted_iou))]
    return best


def _check(word: str, prompt: SamPrompt, size: tuple[int, int]) -> None:
    """Raise ValueError, naming the word, for a box or a point that is not on the image (H, W)."""
    key = prior_word(word)
    if prompt.boxes:
        from_boxes({key: list(prompt.boxes)}, size)
    height, width = size
    for x, y in (*prompt.on, *prompt.off):
        if not (0 <= x < width and 0 <= y < height):
            raise ValueError(f"points: {x:g},{y:g} of {word!r} is outside the image of {width}x{height} pixels")


PRIOR_SOURCE = box_source("Segment Anything's outline of what a box holds", "x0,y0,x1,y1@FILE", load_segment_anything)
