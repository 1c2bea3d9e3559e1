"""`pinpoint edit` on images larger than the model takes: the task made small, and its edit at full resolution."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..locinv_core.imaging.metrics import finite, mse, psnr

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from ..locinv_core.backbones.base import Backbone
    from ..locinv_core.imaging.working_size import WorkingSize
    from ..methods.types import EditTask, MethodOutcome


@dataclass(frozen=True)
class FullResolution:
    """The image and its edit (1, 3, H, W), the mask (H, W) that the edit is shown in, and the size worked at.

    mask: None where the whole image is the enlarged edit.
    """

    image: Tensor
    edited: Tensor
    mask: Tensor | None
    size: WorkingSize

    def remark(self) -> str:
        """What was done, for the report."""
        height, width = self.size.small
        done = (
            "the whole image is the edit, enlarged" if self.mask is None else "the edit, enlarged, is inside the mask"
        )
        rest = "" if self.mask is None else " and the rest is the input, bit for bit"
        full = f"{self.size.full[1]}x{self.size.full[0]}"
        return f"an image of {full} pixels was edited at {width}x{height} (--max-side): {done}{rest}"

    def background(self, small: Mapping[str, float | None] | None) -> dict[str, float | None] | None:
        """PSNR and MSE outside the mask at full resolution; SSIM as at the size worked at."""
        if self.mask is None or small is None:
            return None if small is None else dict(small)
        outside = 1 - self.mask
        if not bool(outside.any()):
            return None
        figures = {"psnr": finite(psnr(self.image, self.edited, outside)), "mse": mse(self.image, self.edited, outside)}
        return {**figures, "ssim": 1.0 if figures["psnr"] is None else small["ssim"]}


def made_small(task: EditTask, long_side: int) -> tuple[EditTask, WorkingSize | None]:
    """The task at a size whose longer side is `long_side` at most, and that size; None where it fits."""
    from ..locinv_core.imaging.working_size import WorkingSize

    size = WorkingSize.of(task.image, long_side)
    if size is None:
        return task, None
    return replace(
        task,
        image=size.shrink(task.image),
        prior=None if task.prior is None else size.shrink_prior(task.prior),
        mask=None if task.mask is None else size.shrink_mask(task.mask),
    ), size


def put_back(
    full: EditTask,
    small: EditTask,
    size: WorkingSize,
    outcome: MethodOutcome,
    model: Backbone,
    choices: Mapping[str, Any],
) -> FullResolution:
    """The outcome of the small task at the size of the full one."""
    mask = _edited_mask(full, small, size, model, choices)
    return FullResolution(full.image, size.put_back(full.image, outcome.edited, mask), mask, size)


def _edited_mask(
    full: EditTask, small: EditTask, size: WorkingSize, model: Backbone, choices: Mapping[str, Any]
) -> Tensor | None:
    """(H, W): the mask of what is edited; None where something is edited that has no mask."""
    import torch.nn.functional as F

    from ..locinv_core.editing.edited_objects import edited_mask, edited_objects, words_in
    from ..locinv_core.imaging.composite import grow
    from ..locinv_core.text.word_alignment import align
    from ..methods.types import prompts_of

    if full.mask is not None:
        return full.mask.float()
    if small.prior is None:
        return None
    source, target = prompts_of(model, small)
    reweighted: Iterable[str] = choices.get("equalizer") or ()
    emphasised = words_in(target, reweighted)
    objects = edited_objects(source, target, align(source, target), prior=small.prior, emphasised=emphasised)
    if objects.without_prior:
        return None
    prior = small.prior
    if full.prior is not None and full.prior.words == prior.words:
        prior = full.prior
    mask = edited_mask(source, target, prior, reweighted=reweighted)
    if tuple(mask.shape) != size.full:
        mask = F.interpolate(mask[None, None], size.full, mode="nearest")[0, 0]
    return grow(mask, grown * size.scale) if (grown := choices.get("composite_grow", 0)) else mask


@contextmanager
def out_of_memory_told(task: EditTask) -> Iterator[None]:
    """Raise ValueError, with the image's size and what to do, where memory ends."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()
        if not isinstance(error, MemoryError) and "out of memory" not in text and "can't allocate memory" not in text:
            raise
        size = f"{task.image.shape[-1]}x{task.image.shape[-2]}"
        raise ValueError(
            f"image: memory ended while it was edited at {size} pixels; requires a smaller --max-side, or --dtype"
            " float16"
        ) from error
