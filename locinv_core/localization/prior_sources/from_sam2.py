"""Outlines of objects from a box or from points, by SAM 2 and 2.1 (Ravi et al. 2024): a segment prior."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ...imaging.io import to_pil
from ..priors import Box, image_size
from .from_sam import Outliner, Predict, SamPrompt, SegmentAnything, box_source, load_segment_anything
from .from_text import enlarged
from .models import Architecture, open_pretrained, split_hub

ARCHITECTURE = Architecture("SAM 2", ("sam2", "sam2_video"), "Sam2Model", "Sam2Processor", "4.56")
"""The published models are called by what they do with videos."""


@dataclass(frozen=True, eq=False)
class Sam2:
    """A SAM 2 of transformers."""

    model: Any
    processor: Any
    name: str

    def predictor(self, image: Tensor) -> Predict:
        """What outlines objects on `image` (1, 3, H, W), which is encoded here, once."""
        size, device = image_size(image), next(self.model.parameters()).device
        pixels = self.processor.image_processor(to_pil(image), return_tensors="pt")["pixel_values"]
        embeddings = self.model.get_image_embeddings(pixels.to(device))

        def predict(box: Box | None, prompt: SamPrompt, several: bool) -> tuple[np.ndarray, np.ndarray]:
            points, labels = prompt.points()
            given: dict[str, Any] = {} if box is None else {"input_boxes": [[list(box)]]}
            if len(points):
                given |= {"input_points": [[points.tolist()]], "input_labels": [[labels.tolist()]]}
            scaled = self.processor(original_sizes=[list(size)], return_tensors="pt", **given)
            inputs = {name: scaled[name].to(device) for name in given}
            output = self.model(image_embeddings=embeddings, multimask_output=several, **inputs)
            masks = enlarged(output.pred_masks[0, 0], size) > 0
            return masks.numpy(), output.iou_scores[0, 0].float().cpu().numpy()

        return predict


def load_sam2(name: str | Path, *, download: bool = False) -> Sam2:
    """Open a SAM 2: a folder of transformers' layout, or a Hugging Face name in the local cache, on the CPU.

    download: fetch what the cache lacks. Raises ValueError as `open_pretrained` does.
    """
    _, model, processor = open_pretrained(name, [ARCHITECTURE], download=download)
    return Sam2(model, processor, str(name))


def load_outliner(path: str | Path) -> SegmentAnything | Sam2:
    """Open a model of the family: SAM 2 from a folder, the first Segment Anything from a file."""
    return load_sam2(path) if Path(path).expanduser().is_dir() else SegmentAnything(load_segment_anything(path))


def _open(name: str) -> Outliner:
    name, download = split_hub(name)
    return load_sam2(name, download=download)


PRIOR_SOURCE = box_source("SAM 2's outline of what a box holds", "x0,y0,x1,y1@MODEL", _open)
