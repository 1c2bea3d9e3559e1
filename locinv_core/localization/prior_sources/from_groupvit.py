"""Objects by a phrase, with GroupViT (Xu et al. 2022): rough outlines, a segment prior."""

from __future__ import annotations

import torch
from torch import Tensor

from ...imaging.io import to_pil
from ..priors import image_size
from .from_text import MapLocator, enlarged, text_source
from .models import Architecture

BACKGROUNDS = ("sky", "ground", "grass", "water", "tree", "building", "wall", "floor", "road")
"""What the phrase is compared with: GroupViT gives no score of a text by itself. Ours, not the paper's."""


class GroupViT(MapLocator):
    """A pixel's score is the phrase's share among the phrase and the backgrounds that it does not name."""

    threshold = 0.5
    architecture = Architecture("GroupViT", ("groupvit",), "GroupViTModel", "CLIPProcessor", "4.21")

    def query(self, phrase: str) -> str:
        """In the paper's template for names of classes."""
        return f"a photo of a {phrase}."

    @torch.no_grad()
    def sureness(self, image: Tensor, phrase: str) -> Tensor:
        """(H, W) float32 from 0 to 1 on `image` (1, 3, H, W)."""
        texts = [phrase, *(name for name in BACKGROUNDS if name not in phrase.lower().split())]
        words = self.processor.tokenizer([self.query(text) for text in texts], padding=True, return_tensors="pt")
        side = int(self.model.config.vision_config.image_size)
        square = {"size": {"height": side, "width": side}, "do_center_crop": False}  # nothing is cropped away
        pixels = self.processor.image_processor(to_pil(image), return_tensors="pt", **square)
        output = self.model(**self.on_device(words), **self.on_device(pixels), output_segmentation=True)
        # transformers multiplies the cosines by the scale twice.
        logits = output.segmentation_logits / self.model.logit_scale.exp()
        return enlarged(logits, image_size(image)).softmax(dim=0)[0]


PRIOR_SOURCE = text_source("an outline that GroupViT finds by a phrase", GroupViT)
