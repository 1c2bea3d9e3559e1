"""Objects by a phrase, with CLIPSeg (Lüddecke and Ecker 2022): rough outlines, a segment prior."""

from __future__ import annotations

import torch
from torch import Tensor

from ...imaging.io import to_pil
from ..priors import image_size
from .from_text import MapLocator, enlarged, text_source
from .models import Architecture


class ClipSeg(MapLocator):
    """A probability for each pixel, by itself."""

    threshold = 0.4
    architecture = Architecture("CLIPSeg", ("clipseg",), "CLIPSegForImageSegmentation", "CLIPSegProcessor", "4.24")

    @torch.no_grad()
    def sureness(self, image: Tensor, phrase: str) -> Tensor:
        """(H, W) float32 from 0 to 1 on `image` (1, 3, H, W)."""
        # Words first, then the image: the model requires as many images as phrases.
        inputs = self.processor(text=[phrase], images=[to_pil(image)], return_tensors="pt")
        return enlarged(self.model(**self.on_device(inputs)).logits, image_size(image))[0].sigmoid()


PRIOR_SOURCE = text_source("an outline that CLIPSeg finds by a phrase", ClipSeg)
