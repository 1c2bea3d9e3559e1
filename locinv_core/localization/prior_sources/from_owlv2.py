"""Objects by a phrase, with OWLv2 (Minderer et al. 2023): boxes, a detection prior."""

from __future__ import annotations

from torch import Tensor
from torchvision.ops import box_convert

from ...imaging.io import to_pil
from .from_text import BoxLocator, text_source
from .models import Architecture


class OwlV2(BoxLocator):
    """A box's score is how well it fits the phrase."""

    threshold = 0.1
    architecture = Architecture("OWLv2", ("owlv2",), "Owlv2ForObjectDetection", "Owlv2Processor", "4.35")

    def detect(self, image: Tensor, phrase: str) -> tuple[Tensor, Tensor]:
        """Every box, and its score."""
        words = self.processor.tokenizer(phrase, return_tensors="pt")
        pixels = self.processor.image_processor(to_pil(image), return_tensors="pt")
        output = self.model(**self.on_device(words), **self.on_device(pixels))
        # The model reads a square: the image stands at its top left corner.
        corners = box_convert(output.pred_boxes[0], "cxcywh", "xyxy") * max(image.shape[-2:])
        return corners, output.logits[0, :, 0].sigmoid()


PRIOR_SOURCE = text_source("boxes that OWLv2 finds by a phrase", OwlV2)
