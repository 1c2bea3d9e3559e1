"""Edits of one image by box, each made once: learning and ranking share them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...locinv_core.cost import CostTracker
from ..proposals import PixelBox, box_masks

if TYPE_CHECKING:
    from ..editors.base import Editor


@dataclass(eq=False, repr=False)
class BoxEdits:
    """What an editor makes of `image` (1, 3, H, W) in boxes, by box and number of steps.

    Every edit is X_o = m·edit + (1 − m)·source: outside its box it is the source, bit for bit. A cancel costs one
    batch. Variants of an edit are from other noise, that of `seed` + variant, or, where the editor draws nothing at
    random, with other settings of its own. `prompt` is T, which the image is judged by; `edit_prompt` is the
    editor's (None: T too).
    """

    editor: Editor
    image: Tensor
    prompt: str
    seed: int = 0
    edit_prompt: str | None = None
    batch: int = 8
    _edits: dict[tuple[PixelBox, int | None, int], Tensor] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise ValueError(f"batch: got {self.batch}, requires 1 or more boxes at a time")
        if self.edit_prompt is not None and not self.edit_prompt.strip():
            raise ValueError(f"edit prompt is empty: got {self.edit_prompt!r}, requires what is to be drawn in a box")

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[-2], self.image.shape[-1]

    @property
    def whole(self) -> PixelBox:
        """The box that is the whole image: its edit is the unmasked one."""
        return 0, 0, self.size[1], self.size[0]

    def made(self) -> dict[int | None, int]:
        """How many edits the editor has made, by steps (None: as many as the editor's own)."""
        return dict(Counter(steps for _, steps, _ in self._edits))

    def edited(
        self,
        boxes: Sequence[PixelBox],
        steps: int | None = None,
        *,
        variant: int = 0,
        tracker: CostTracker | None = None,
    ) -> Tensor:
        """The edits in `boxes`, (B, 3, H, W); the editor makes those that are not in the cache.

        A preview of as many `steps` as the editor's own number, or more, is the edit in full.
        """
        own = self.editor.steps
        if steps is not None and own is not None and steps >= own:
            steps = None
        missing = [box for box in dict.fromkeys(boxes) if (box, steps, variant) not in self._edits]
        for start in range(0, len(missing), self.batch):
            part = missing[start : start + self.batch]
            masks = box_masks(part, self.size).to(self.image)
            seed = variant if self.editor.variants is not None else (self.seed + variant) % 2**64
            prompt = self.edit_prompt or self.prompt
            with torch.no_grad():
                images = self.editor.edit(self.image, masks, prompt, seed, steps=steps, tracker=tracker)
            shape = (len(part), *self.image.shape[1:])
            if tuple(images.shape) != shape:
                got = f"got images {tuple(images.shape)} for {len(part)} masks"
                raise ValueError(f"editor {self.editor.name!r}: {got}, requires {shape}")
            composites = torch.where(masks > 0, images.detach().to(self.image), self.image)
            self._edits |= {(box, steps, variant): one for box, one in zip(part, composites, strict=True)}
        return torch.stack([self._edits[box, steps, variant] for box in boxes])

    def standing_in(
        self, boxes: Sequence[PixelBox], steps: int | None = None, *, tracker: CostTracker | None = None
    ) -> Tensor:
        """One unmasked edit, seen through each of `boxes`, (B, 3, H, W): it stands in for all of theirs."""
        unmasked = self.edited([self.whole], steps, tracker=tracker)
        return torch.where(box_masks(boxes, self.size).to(self.image) > 0, unmasked, self.image)

    def in_full(self, box: PixelBox) -> bool:
        """Whether the editor has edited in `box` with its own number of steps; `best` is that edit then."""
        return (box, None, 0) in self._edits

    def best(self, box: PixelBox) -> Tensor | None:
        """The edit in `box` of the most steps, (3, H, W), else the unmasked one standing in; None without either."""
        own, unmasked = self._longest(box), self._longest(self.whole)
        if own is not None or unmasked is None:
            return own
        return torch.where(box_masks([box], self.size)[0].to(self.image) > 0, unmasked, self.image[0])

    def copied(self, editor: Editor, device: torch.device | str) -> BoxEdits:
        """The same edits on `device`, in a cache of their own that `editor` adds to."""
        twin = copy(self)
        twin.editor, twin.image = editor, self.image.to(device)
        twin._edits = {key: edit.to(device) for key, edit in self._edits.items()}
        return twin

    def _longest(self, box: PixelBox) -> Tensor | None:
        lengths = [steps for made, steps, variant in self._edits if made == box and variant == 0]
        if not lengths:
            return None
        return self._edits[box, max(lengths, key=lambda steps: math.inf if steps is None else steps), 0]
