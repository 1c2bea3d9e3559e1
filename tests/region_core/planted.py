"""A constructed case: a grey picture, a prompt that means the same picture with one box in red, and an editor
that paints whatever it is given red. Only the planted box gives the edit that was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pinpoint.region_core.features import PatchFeatures
from pinpoint.region_core.proposals import RegionProposals, box_masks, propose
from pinpoint.tests.region_core.tiny_guides import PaintingEditor, PlantedGuide

ANCHORS = ((4, 4), (2, 9), (12, 12), (0, 0))
PROMPT, CAPTION = "a red square", "nothing"


@dataclass
class Planted:
    """What `learn_regions` needs; box `box` of anchor `anchor` is the right one."""

    anchor: int = 0
    box: int = 2
    anchors: tuple[tuple[int, int], ...] = ANCHORS
    m: int = 5
    editor: PaintingEditor = field(default_factory=PaintingEditor)

    @property
    def image(self) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return 0.6 + 0.1 * torch.rand(1, 3, 128, 128, generator=generator)

    @property
    def proposals(self) -> RegionProposals:
        return propose(torch.tensor(self.anchors), (16, 16), 8, (128, 128), m=self.m)

    @property
    def features(self) -> PatchFeatures:
        generator = torch.Generator().manual_seed(1)
        return PatchFeatures(
            attention=torch.rand(16, 16, generator=generator),
            features=torch.randn(24, 16, 16, generator=generator),
            patch=8,
            size=(128, 128),
        )

    @property
    def right_edit(self) -> Tensor:
        """(1, 3, H, W): the source with the planted box in red, and nothing else."""
        planted = self.proposals.pixel_boxes()[self.anchor][self.box]
        red = torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1)
        return torch.where(box_masks([planted], (128, 128)) > 0, red, self.image)

    @property
    def guide(self) -> PlantedGuide:
        return PlantedGuide(meanings={PROMPT: self.right_edit, CAPTION: self.image})
