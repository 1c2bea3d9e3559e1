"""Outlines of objects from a box or from points, by Segment Anything (Kirillov et al. 2023): a segment prior.

The network is the `segment-anything` package's; its sizes are read from the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..cost import CostTracker
from ..imaging.io import to_pil
from .priors import Box, LocalizationPrior, from_boxes, from_masks, merge, prior_word

SEGMENT_STAGE = "segment"
DECODER_HEADS = 8
"""Of the mask decoder's attention: the one size that no weight tells, the same in every published model."""
# Of 0 to 255, as every published model was trained.
_MEAN, _STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Places:
    """What a word's object is shown by: boxes, each outlined by itself, or points, or one box and points.

    boxes: x0, y0, x1, y1 in pixels, the last two exclusive. on, off: points x, y in pixels that lie on the
    object and beside it. Raises ValueError for nothing that shows where it is, and for points with several
    boxes.
    """

    boxes: tuple[Box, ...] = ()
    on: tuple[tuple[float, float], ...] = ()
    off: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if not self.boxes and not self.on:
            raise ValueError("place: got neither a box nor a point on the object, requires at least one")
        if len(self.boxes) > 1 and (self.on or self.off):
            raise ValueError(
                f"place: got {len(self.boxes)} boxes and points for one word, requires points with one box"
            )


def prior_from_segment_anything(
    model: nn.Module, image: Tensor, places: Mapping[str, Places], *, tracker: CostTracker | None = None
) -> LocalizationPrior:
    """The outlines of what `places` shows on `image` (1, 3, H, W) in [0, 1], by word.

    model: as `load_segment_anything` gives it, on any device. A single point may mean an object or a part of
    it: of the three outlines that the model then gives, the one it is surest of is taken. Raises ValueError,
    before any work, for places outside the image, and for a place where the model sees nothing.
    """
    from segment_anything import SamPredictor

    if image.ndim != 4 or tuple(image.shape[:2]) != (1, 3):
        raise ValueError(f"image: got the shape {tuple(image.shape)}, requires one image (1, 3, H, W)")
    if not places:
        raise ValueError("places: got none, requires at least one word with a box or a point")
    size = (image.shape[-2], image.shape[-1])
    for word, place in places.items():
        _check(word, place, size)
    tracker = tracker or CostTracker()
    priors = []
    with tracker.stage(SEGMENT_STAGE), torch.no_grad():
        predictor = SamPredictor(model)
        predictor.set_image(np.asarray(to_pil(image)))
        for number, (word, place) in enumerate(places.items(), start=1):
            outlines = [_outline(predictor, box, place) for box in place.boxes or (None,)]
            if not any(outline.any() for outline in outlines):
                raise ValueError(
                    f"place of {word!r}: Segment Anything sees nothing there; requires a box that holds the"
                    " whole object, or a point in its middle"
                )
            priors += [from_masks({word: outline}, size=size) for outline in outlines if outline.any()]
            tracker.report(number, len(places))
    return merge(*priors)


def boxes_of(prior: LocalizationPrior) -> dict[str, Places]:
    """The box around each word's place, for outlining what a detector has found."""
    found = {}
    for word, mask in prior.masks.items():
        rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
        corners = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        x0, y0, x1, y1 = (float(corner) for corner in corners)
        found[word] = Places(boxes=((x0, y0, x1, y1),))
    return found


def load_segment_anything(path: str | Path) -> nn.Module:
    """The Segment Anything of a .safetensors file with the names of the published checkpoints, on the CPU.

    Raises ValueError for a pickle (how the models are published), for another file, and without the package.
    """
    place = Path(path).expanduser()
    if place.suffix.lower() in _PICKLES:
        raise ValueError(
            f"checkpoint {place.name!r} is a pickle, which can run code when it is opened, so it is not read;"
            f" convert it once: python -c \"import torch, safetensors.torch as s; s.save_file(torch.load('"
            f"{place.name}', weights_only=True), '{place.stem}.safetensors')\""
        )
    if not place.is_file() or place.suffix.lower() != ".safetensors":
        raise ValueError(f"checkpoint: got {str(path)!r}, requires a .safetensors file of Segment Anything")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        state = load_file(place)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"checkpoint {place.name!r} cannot be read: {error}") from error
    with torch.inference_mode(False), torch.no_grad():
        return segment_anything_of(state, place.name)


def segment_anything_of(state: Mapping[str, Tensor], name: str = "checkpoint") -> nn.Module:
    """The network whose sizes these weights tell. Raises ValueError for weights of another network."""
    try:
        from segment_anything.modeling import (
            ImageEncoderViT,
            MaskDecoder,
            PromptEncoder,
            Sam,
            TwoWayTransformer,
        )
    except ImportError as error:
        raise ValueError(
            "checkpoint: the package segment-anything, which reads it, is not installed; pip install segment-anything"
        ) from error
    try:
        encoder = _encoder_sizes(state)
        width = len(state["image_encoder.neck.0.weight"])
        transformer = "mask_decoder.transformer.layers"
        decoder = {
            "num_multimask_outputs": len(state["mask_decoder.mask_tokens.weight"]) - 1,
            "iou_head_depth": _count(state, "mask_decoder.iou_prediction_head.layers"),
            "iou_head_hidden_dim": len(state["mask_decoder.iou_prediction_head.layers.0.weight"]),
        }
        depth, hidden = _count(state, transformer), len(state[f"{transformer}.0.mlp.lin1.weight"])
        mask_channels = len(state["prompt_encoder.mask_downscaling.3.weight"])
        grid, side = encoder["img_size"] // encoder["patch_size"], encoder["img_size"]
        model: nn.Module = Sam(
            image_encoder=ImageEncoderViT(
                **encoder,
                out_chans=width,
                qkv_bias=True,
                use_rel_pos=True,
                norm_layer=partial(nn.LayerNorm, eps=1e-6),
            ),
            prompt_encoder=PromptEncoder(
                embed_dim=width,
                image_embedding_size=(grid, grid),
                input_image_size=(side, side),
                mask_in_chans=mask_channels,
            ),
            mask_decoder=MaskDecoder(
                transformer=TwoWayTransformer(
                    depth=depth, embedding_dim=width, mlp_dim=hidden, num_heads=DECODER_HEADS
                ),
                transformer_dim=width,
                **decoder,
            ),
            pixel_mean=_MEAN,
            pixel_std=_STD,
        )
        model.load_state_dict(state)
    except (KeyError, RuntimeError, IndexError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"checkpoint {name!r}: its weights are not Segment Anything's ({reason}); requires SAM ViT-B, ViT-L"
            " or ViT-H as published, as .safetensors"
        ) from error
    return model.requires_grad_(False).eval()


def _encoder_sizes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The image encoder's sizes: of its ViT, whose blocks attend within windows but for a few."""
    blocks = _count(state, "image_encoder.blocks")
    grid, width = state["image_encoder.pos_embed"].shape[1], state["image_encoder.pos_embed"].shape[-1]
    patch = state["image_encoder.patch_embed.proj.weight"].shape[-1]
    reaches = [len(state[f"image_encoder.blocks.{block}.attn.rel_pos_h"]) for block in range(blocks)]
    # Relative positions go from −(side − 1) to side − 1.
    sides = [(reach + 1) // 2 for reach in reaches]
    return {
        "img_size": grid * patch,
        "patch_size": patch,
        "embed_dim": width,
        "depth": blocks,
        "num_heads": width // state["image_encoder.blocks.0.attn.rel_pos_h"].shape[1],
        "mlp_ratio": len(state["image_encoder.blocks.0.mlp.lin1.weight"]) / width,
        "global_attn_indexes": tuple(block for block, side in enumerate(sides) if side == grid),
        "window_size": min(sides),
    }


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers there are under `prefix`."""
    start = prefix + "."
    return 1 + max((int(name[len(start) :].split(".", 1)[0]) for name in state if name.startswith(start)), default=-1)


def _outline(predictor: Any, box: Box | None, place: Places) -> np.ndarray:
    """(H, W) bool."""
    points = np.array([*place.on, *place.off], dtype=np.float32)
    labels = np.array([1] * len(place.on) + [0] * len(place.off))
    ambiguous = box is None and len(points) == 1
    masks, sureness, _ = predictor.predict(
        point_coords=points if len(points) else None,
        point_labels=labels if len(points) else None,
        box=None if box is None else np.array(box, dtype=np.float32),
        multimask_output=ambiguous,
    )
    best: np.ndarray = masks[int(np.argmax(sureness))]
    return best


def _check(word: str, place: Places, size: tuple[int, int]) -> None:
    """Raise ValueError, naming the word, for a box or a point that is not on the image (H, W)."""
    key = prior_word(word)
    if place.boxes:
        from_boxes({key: list(place.boxes)}, size)
    height, width = size
    outside: Sequence[tuple[float, float]] = [
        (x, y) for x, y in (*place.on, *place.off) if not (0 <= x < width and 0 <= y < height)
    ]
    if outside:
        raise ValueError(
            f"points: {outside[0][0]:g},{outside[0][1]:g} of {word!r} is outside the image of {width}x{height} pixels"
        )
