"""What nodes tell the browser's viewers beside their outputs: images as temporary files, maps as bytes.

Each viewer reads one key of a node's `ui`, which holds a list of one plain dictionary.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from comfy_api.latest import io, ui

from .tensors import image_of

if TYPE_CHECKING:
    from torch import Tensor

    from ...locinv_core.text.prompt import Prompt
    from .inverted_image import WordMaps

MAP_SIDE = 96
"""Long side of a word's map and of a mask's outline, in the browser."""
STEP_SIDE = 32
"""Long side of a word's map at one step."""

Shown = dict[str, list[dict[str, Any]]]


def prompt_shown(prompt: Prompt) -> dict[str, Any]:
    """The words of a prompt, their tokens, which are nouns, and the (noun, adjective) pairs."""
    nouns = set(prompt.nouns)
    return {
        "text": prompt.text,
        "words": [
            {
                "text": word.text,
                "start": word.start,
                "end": word.end,
                "tokens": len(word.tokens),
                "noun": index in nouns,
            }
            for index, word in enumerate(prompt.words)
        ],
        "pairs": [list(pair) for pair in prompt.pairs],
        "length": prompt.length,
        "limit": len(prompt.token_ids),
    }


def boxes_shown(image: Tensor, boxes: str, node: type[io.ComfyNode]) -> dict[str, Any]:
    """The image (1, 3, H, W) that boxes are drawn on, and their text."""
    return {"picture": saved(image, node)[0], **_size(image), "boxes": boxes}


def maps_shown(maps: WordMaps, masks: Mapping[str, Tensor], node: type[io.ComfyNode]) -> dict[str, Any]:
    """The image, and each word's maps over it: before and after tuning, over all steps and at each one."""
    from ...locinv_core.imaging.metrics import best_iou

    words = []
    for word, after in maps.maps.items():
        before, mask = maps.before.get(word), masks.get(word)
        words.append(
            {
                "word": word,
                "after": packed(after),
                "before": None if before is None else packed(before),
                "mask": None if mask is None else packed(mask),
                "after_iou": None if mask is None else best_iou(after, mask),
                "before_iou": None if mask is None or before is None else best_iou(before, mask),
                "after_steps": [packed(step, STEP_SIDE) for step in maps.by_step.get(word, ())],
                "before_steps": [packed(step, STEP_SIDE) for step in maps.before_by_step.get(word, ())],
            }
        )
    return {"picture": saved(maps.image, node)[0], **_size(maps.image), "words": words}


def compare_shown(
    before: Tensor, after: Tensor, mask: Tensor | None, gain: float, node: type[io.ComfyNode]
) -> dict[str, Any]:
    """Pairs of images (B, 3, H, W), and the mask (H, W) to outline in them."""
    pairs = zip(saved(before, node), saved(after, node), strict=True)
    return {
        "pairs": [{"before": first, "after": second} for first, second in pairs],
        **_size(before),
        "mask": None if mask is None else packed(mask, 4 * MAP_SIDE),
        "gain": gain,
    }


def saved(images: Tensor, node: type[io.ComfyNode]) -> list[dict[str, str]]:
    """Where ComfyUI serves each of the images (B, 3, H, W) from."""
    return [dict(result) for result in ui.PreviewImage(image_of(images), cls=node).values]


def packed(values: Tensor, side: int = MAP_SIDE) -> dict[str, Any]:
    """A map (H, W), not negative, as bytes: its share of its maximum times 255, row by row, in base64.

    A map longer than `side` is reduced to it by averaging.
    """
    small = reduced(values, side)
    shares = small / small.max().clamp(min=1e-12)
    content = (shares * 255).round().byte().cpu().contiguous().numpy().tobytes()
    return {
        "rows": small.shape[0],
        "columns": small.shape[1],
        "values": base64.b64encode(content).decode("ascii"),
    }


def reduced(values: Tensor, side: int) -> Tensor:
    """A map (H, W) whose long side is at most `side`, averaged."""
    height, width = values.shape
    scale = side / max(height, width)
    if scale >= 1:
        return values.float()
    size = max(1, round(height * scale)), max(1, round(width * scale))
    return F.adaptive_avg_pool2d(values[None].float(), size)[0]


def _size(images: Tensor) -> dict[str, int]:
    return {"width": images.shape[-1], "height": images.shape[-2]}
