"""Objects by a phrase, with Grounding DINO (Liu et al. 2023): boxes, a detection prior."""

from __future__ import annotations

from torch import Tensor

from ...imaging.io import to_pil
from ..priors import image_size
from .from_text import BoxLocator, text_source
from .models import Architecture


class GroundingDino(BoxLocator):
    """A box's score is that of the phrase's best token."""

    threshold = 0.3
    architecture = Architecture(
        "Grounding DINO",
        ("grounding-dino",),
        "GroundingDinoForObjectDetection",
        "GroundingDinoProcessor",
        "4.40",
    )

    def tokens(self, phrase: str) -> tuple[int, int]:
        """How many tokens the phrase has, and how many the model reads."""
        return len(self.processor.tokenizer(self.query(phrase))["input_ids"]), int(self.model.config.max_text_len)

    def query(self, phrase: str) -> str:
        """As the model was trained: lower case, ended by a full stop."""
        return phrase.lower().strip(" .") + "."

    def detect(self, image: Tensor, phrase: str) -> tuple[Tensor, Tensor]:
        """Every box, and its score."""
        inputs = self.processor(images=to_pil(image), text=self.query(phrase), return_tensors="pt")
        output = self.model(**self.on_device(inputs))
        # By position: the thresholds' names differ between transformers' versions.
        answer = self.processor.post_process_grounded_object_detection(
            output, inputs["input_ids"], 0.0, 1.0, target_sizes=[image_size(image)]
        )[0]
        return answer["boxes"], answer["scores"]


PRIOR_SOURCE = text_source("boxes that Grounding DINO finds by a phrase", GroundingDino)
