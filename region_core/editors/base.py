"""Region editors, which edit inside a mask as a prompt says: their checks, grids of cells, noise, composites."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ...locinv_core.cost import CostTracker
from ...locinv_core.guidance import check_guidance
from ...locinv_core.imaging.composite import composite
from ...locinv_core.text.prompt import Prompt, empty_prompt, parse_prompt

if TYPE_CHECKING:
    from ...locinv_core.backbones.base import Backbone

PromptMode = Literal["region", "image"]

COVERED = 0.5
"""A cell of an editor's grid may change if the mask covers this share of it."""


class Editor:
    """An image editor that takes masks, wherever they come from. It has `edit_inside`, or an `edit` of its own.

    An editor reports its steps and counts its passes under the stage that is under way.

    Attributes:
        name: what reports call it. steps: its own number of steps; None if it has none.
        prompt_mode: its prompt says what to draw inside the mask ("region"), or what the whole image shows after
            the edit ("image").
        variants: how many edits of a mask there are; None where every seed gives another. With a number nothing
            is drawn at random: seeds 0 to variants − 1 are edits with different settings, the editor's own at 0.
        feather: pixels inside the mask over which the seam of a composite is softened.
    """

    name: str
    steps: int | None = None
    prompt_mode: PromptMode = "region"
    variants: int | None = None
    feather: float = 0.0

    def edit(
        self,
        image: Tensor,
        masks: Tensor,
        prompt: str,
        seed: int,
        *,
        steps: int | None = None,
        tracker: CostTracker | None = None,
    ) -> Tensor:
        """Edit one image inside each of B masks.

        image: (1, 3, H, W) in [0, 1]. masks: (B, 1, H, W) of 0 and 1, 1 where the image may change.
        steps: None takes the editor's own. The same seed gives the same edits, one by one or in a batch.
        Returns (B, 3, H, W) float32 in [0, 1] on the CPU. Raises ValueError for bad input, before any work.
        """
        check_request(image, masks)
        count = int(self.steps or 0) if steps is None else steps
        self.check_steps(count)
        edited = self.edit_inside(image, masks, prompt, seed, count, tracker or CostTracker())
        return keep_outside(image.cpu(), edited, masks.cpu(), self.feather) if self.composites else edited

    def edit_inside(
        self, image: Tensor, masks: Tensor, prompt: str, seed: int, steps: int, tracker: CostTracker
    ) -> Tensor:
        """The edits (B, 3, H, W) on the CPU before they are composited; all but the prompt is checked."""
        raise NotImplementedError

    @property
    def composites(self) -> bool:
        """Whether outside the mask the result is the image bit for bit."""
        return True

    def check_steps(self, steps: int) -> None:
        """Raise ValueError for a number of steps that the editor cannot make."""

    def check_prompt(self, prompt: str, name: str = "prompt") -> None:
        """Raise ValueError, calling the text `name`, for a prompt that this editor cannot follow whole."""
        if not prompt.strip():
            raise ValueError(f"{name} is empty: got {prompt!r}, requires at least one word")

    def cost(self, steps: int | None = None) -> float:
        """NFE of one edit of this many steps; None takes the editor's own."""
        return float(steps or self.steps or 0)

    @property
    def reader(self) -> Backbone | None:
        """The text-to-image model it edits with, whose cross-attention can localize a word; None without one."""
        return None

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings by name, those that are numbers, texts or None."""
        values = {name: getattr(self, name) for name in getattr(self, "__dataclass_fields__", {})}
        return {name: value for name, value in values.items() if isinstance(value, (int, float, str, type(None)))}


class WrappedEditor(Editor):
    """An editor that does something around another one's edits."""

    def __init__(self, editor: Editor) -> None:
        self.editor, self.name, self.steps = editor, editor.name, editor.steps
        self.prompt_mode, self.variants = editor.prompt_mode, editor.variants

    def check_prompt(self, prompt: str, name: str = "prompt") -> None:
        self.editor.check_prompt(prompt, name)

    def cost(self, steps: int | None = None) -> float:
        return self.editor.cost(steps)

    @property
    def reader(self) -> Backbone | None:
        return self.editor.reader

    @property
    def settings(self) -> dict[str, Any]:
        return self.editor.settings


@dataclass(frozen=True)
class ModelEditor(Editor):
    """What the editors share that have a model of their own and sample with classifier-free guidance.

    strength: the share of the schedule that is run; at 1 the edit starts from noise alone. composite: outside the
    mask the result is the image bit for bit, not its reconstruction by the model; the seam is softened over `feather`
    pixels. batch: masks edited at a time. Raises ValueError for a value out of bounds.
    """

    model: Any
    strength: float = 0.75
    guidance: float = 7.5
    steps: int = 50
    negative: str = ""
    composite: bool = False
    feather: float = 2.0
    batch: int = 8

    def __post_init__(self) -> None:
        check_strength(self.strength)
        check_guidance(self.guidance)
        if self.batch < 1:
            raise ValueError(f"batch: got {self.batch}, requires at least 1 mask at a time")
        self.check_steps(self.steps)

    def check_steps(self, steps: int) -> None:
        self.model.schedule.timesteps(steps)

    def check_prompt(self, prompt: str, name: str = "prompt") -> None:
        """Raise ValueError for a prompt that is empty, or that the model would cut."""
        parse_prompt(prompt, self.model.tokenizer, name=name)

    def cost(self, steps: int | None = None) -> float:
        """NFE of one edit: two passes a step, one at guidance 1."""
        count = kept_steps(self.steps if steps is None else steps, self.strength)
        return float(count * (1 if self.guidance == 1 else 2))

    @property
    def composites(self) -> bool:
        return self.composite

    def texts(self, prompt: str) -> list[Prompt]:
        """The prompt and the negative one, which is left out at guidance 1. Raises as `check_prompt`."""
        texts = [parse_prompt(prompt, self.model.tokenizer)]
        if self.guidance != 1:
            negative = parse_prompt(self.negative, self.model.tokenizer) if self.negative.strip() else None
            texts.append(negative or empty_prompt(self.model.tokenizer))
        return texts


def check_request(image: Tensor, masks: Tensor) -> None:
    """Raise ValueError unless `image` is one image and `masks` are masks of its size, none empty."""
    if image.ndim != 4 or tuple(image.shape[:2]) != (1, 3):
        raise ValueError(f"image: got the shape {tuple(image.shape)}, requires one image (1, 3, H, W)")
    if masks.ndim != 4 or masks.shape[1] != 1 or masks.shape[-2:] != image.shape[-2:] or not len(masks):
        height, width = image.shape[-2:]
        raise ValueError(f"masks: got the shape {tuple(masks.shape)}, requires (B, 1, {height}, {width})")
    if not bool(((masks == 0) | (masks == 1)).all()):
        raise ValueError("masks: got values other than 0 and 1")
    empty = [k for k, filled in enumerate(masks.flatten(1).any(dim=1).tolist()) if not filled]
    if empty:
        raise ValueError(f"masks: number {empty[0] + 1} of {len(masks)} is empty, requires at least one pixel")


def check_strength(strength: float) -> None:
    """Raise ValueError unless `strength` is above 0 and at most 1."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength: got {strength}, requires a number above 0 and up to 1")


def kept_steps(steps: int, strength: float) -> int:
    """How many of a schedule's steps are run at this strength: ⌊steps·strength⌋, at least one."""
    check_strength(strength)
    return max(1, math.floor(steps * strength + 1e-9))  # 0.29·100 is 28.999… in floating point


def cells_of(masks: Tensor, factor: int) -> Tensor:
    """Masks (B, 1, H, W) on a grid of cells `factor` pixels wide, (B, 1, h, w) of 0 and 1.

    A cell belongs to a mask that covers at least half of it; a mask that covers no cell so far gets the one
    that it covers most. H and W are multiples of `factor`.
    """
    share = F.avg_pool2d(masks.float(), factor)
    most = share.flatten(1).amax(dim=1).view(-1, 1, 1, 1)
    return (share >= most.clamp(max=COVERED)).float()


def seeded_noise(shape: tuple[int, ...], seed: int) -> Tensor:
    """Standard normal noise, float32, drawn on the CPU: the same on every device."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def keep_outside(image: Tensor, edited: Tensor, masks: Tensor, feather: float) -> Tensor:
    """`edited` (B, 3, H, W) inside the masks (B, 1, H, W), the seam softened; `image` (1, 3, H, W) outside."""
    pairs = zip(edited, masks, strict=True)
    return torch.cat([composite(image, picture[None], mask[0], feather) for picture, mask in pairs])
