"""What nodes tell the browser's viewers beside their outputs: images as temporary files, maps as bytes.

Each viewer reads one key of a node's `ui`, which holds a list of plain dictionaries.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import torch.nn.functional as F

from .tensors import to_comfy_image

if TYPE_CHECKING:
    from comfy_api.latest import io
    from torch import Tensor

    from ...locinv_core.text.prompt import Prompt
    from ...region_core.proposals import RegionProposals
    from ...region_core.scorer import Candidate
    from ...region_core.trainer import RegionScores
    from .payloads import WordMaps

MAP_SIDE = 96
"""Long side of a word's map and of a mask's outline, in the browser."""
STEP_SIDE = 32
"""Long side of a word's map at one step."""

Node: TypeAlias = "type[io.ComfyNode]"


def prompt_shown(prompt: Prompt) -> dict[str, Any]:
    """The words of a prompt, their tokens, which are nouns, and the (noun, adjective) pairs."""
    nouns = set(prompt.nouns)
    return {
        "text": prompt.text,
        "words": [
            {"text": w.text, "start": w.start, "end": w.end, "tokens": len(w.tokens), "noun": index in nouns}
            for index, w in enumerate(prompt.words)
        ],
        "pairs": [list(pair) for pair in prompt.pairs],
        "length": prompt.length,
        "limit": len(prompt.token_ids),
    }


def boxes_shown(image: Tensor, boxes: str, node: Node) -> dict[str, Any]:
    """The image (1, 3, H, W) that boxes are drawn on, and their text."""
    return {"image": saved(image, node)[0], **_size(image), "boxes": boxes}


def maps_shown(maps: WordMaps, masks: Mapping[str, Tensor], node: Node) -> dict[str, Any]:
    """The image, and each word's maps over it: before and after optimization, over all steps and at each one."""
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
    return {"image": saved(maps.image, node)[0], **_size(maps.image), "words": words}


def compare_shown(before: Tensor, after: Tensor, mask: Tensor | None, gain: float, node: Node) -> dict[str, Any]:
    """Pairs of images (B, 3, H, W), and the mask (H, W) to outline in them."""
    pairs = zip(saved(before, node), saved(after, node), strict=True)
    return {
        "pairs": [{"before": first, "after": second} for first, second in pairs],
        **_size(before),
        "mask": None if mask is None else packed(mask, 4 * MAP_SIDE),
        "gain": gain,
    }


def region_rows(proposals: RegionProposals, scores: RegionScores) -> list[dict[str, Any]]:
    """Each anchor with its boxes, their probabilities and losses, and which is chosen."""
    probabilities = scores.probabilities.tolist()
    losses = scores.losses.tolist()
    return [
        {
            "anchor": index + 1,
            "boxes": [list(box) for box in boxes],
            "probabilities": probabilities[index],
            "losses": [None if loss != loss else loss for loss in losses[index]],
            "chosen": scores.chosen[index],
        }
        for index, boxes in enumerate(proposals.pixel_boxes())
    ]


def candidate_rows(candidates: Iterable[Candidate]) -> list[dict[str, Any]]:
    """Each candidate's anchor, its box as it was edited, and scores, best first.

    `take` and `placed` are what `variant` and `in_region` were called before; other people's nodes may read them.
    """
    from ...region_core.proposals import pixel_box

    return [
        {
            "anchor": one.index + 1,
            "box": list(pixel_box(one.box, (one.image.shape[-2], one.image.shape[-1]))),
            "score": one.score,
            "s_t2i": one.s_t2i,
            "s_i2i": one.s_i2i,
            "final": one.final,
            "variant": one.edit.variant,
            "in_region": one.edit.source_anchor is None,
            "take": one.edit.variant,
            "placed": one.edit.source_anchor is None,
        }
        for one in candidates
    ]


def bounding_box(box: Sequence[float]) -> dict[str, int]:
    """ComfyUI's bounding box of x0, y0, x1, y1 in pixels, the last two exclusive."""
    x0, y0, x1, y1 = (round(side) for side in box)
    return {"x": x0, "y": y0, "width": x1 - x0, "height": y1 - y0}


def saved(images: Tensor, node: Node) -> list[dict[str, str]]:
    """Where ComfyUI serves each of the images (B, 3, H, W) from."""
    from comfy_api.latest import ui

    return [dict(result) for result in ui.PreviewImage(to_comfy_image(images), cls=node).values]


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
