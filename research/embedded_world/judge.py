"""A judge of images, for evaluation only: which objects stand in an image, in which colour and pattern.

A small convolutional network labels every cell of a 16 x 16 grid with a noun (or none), a look (a colour or
wooden) and a pattern. It is trained on drawings alone, on seeds of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .scenes.render import render
from .scenes.spec import COLOURS, NOUNS, SceneObject, sample_scene
from .training.state import Average, TrainingState, step_rng

LOOKS = (*COLOURS, "wooden")
PATTERNS = ("plain", "striped", "dotted")
JUDGE_SEEDS = range(500_000, 600_000)
_COARSENESSES = 4  # so many parts of a batch are made coarser, each by a factor of its own
_CELL = 8
_LEAST_CELLS = 4
_IGNORED = -100


@dataclass(frozen=True)
class Finding:
    """An object that the judge sees: its noun, look, pattern, and how many cells it covers."""

    noun: str
    look: str
    pattern: str
    cells: int


def look_of(obj: SceneObject) -> tuple[str, str]:
    """The look and the pattern that the judge should give an object."""
    return obj.adjective, obj.material if obj.material in PATTERNS else "plain"


class Judge(nn.Module):
    """Images (B, 3, H, W) in [0, 1] to logits of nouns, looks and patterns on a grid of H/8 x W/8 cells."""

    def __init__(self, width: int = 96) -> None:
        super().__init__()

        def layer(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(inputs, outputs, 3, stride, dilation, dilation, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            )

        self.stem = nn.Sequential(
            layer(3, 24, 2), layer(24, 48, 2), layer(48, 48), layer(48, width, 2), layer(width, width)
        )
        self.context = nn.ModuleList(layer(width, width, dilation=dilation) for dilation in (1, 2, 3, 1))
        self.heads = nn.Conv2d(width, 1 + len(NOUNS) + len(LOOKS) + len(PATTERNS), 1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        features = self.stem(images - 0.5)
        for layer in self.context:
            features = features + layer(features)
        nouns, looks, patterns = self.heads(features).split((1 + len(NOUNS), len(LOOKS), len(PATTERNS)), dim=1)
        return nouns, looks, patterns

    @torch.no_grad()
    def findings(self, images: Tensor) -> list[list[Finding]]:
        """What stands in each image (B, 3, H, W): every noun that covers four cells or more."""
        nouns, looks, patterns = self(images)
        verdicts: list[list[Finding]] = []
        for noun, look, pattern in zip(nouns.argmax(1), looks.log_softmax(1), patterns.log_softmax(1), strict=True):
            verdicts.append([])
            for index in noun.unique().tolist():
                cells = noun == index
                count = int(cells.sum())
                if index > 0 and count >= _LEAST_CELLS:
                    its_look = LOOKS[int(look[:, cells].mean(1).argmax())]
                    its_pattern = PATTERNS[int(pattern[:, cells].mean(1).argmax())]
                    verdicts[-1].append(Finding(NOUNS[index - 1], its_look, its_pattern, count))
        return verdicts


def cell_labels(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A scene's image (3, H, W) uint8 and its labels (3, H/8, W/8): noun + 1 or 0, look, pattern.

    An object has the cells that it covers half of; those covered by a fifth to a half count for no loss.
    """
    spec = sample_scene(seed)
    image, masks = render(spec)
    side = image.shape[0] // _CELL
    labels = np.full((3, side, side), _IGNORED, dtype=np.int64)
    shares = np.stack([mask.reshape(side, _CELL, side, _CELL).mean(axis=(1, 3)) for mask in masks])
    labels[0][shares.sum(axis=0) < 0.2] = 0
    for obj, share in zip(spec.objects, shares, strict=True):
        look, pattern = look_of(obj)
        inside = share >= 0.5
        labels[0][inside] = 1 + NOUNS.index(obj.noun)
        labels[1][inside] = LOOKS.index(look)
        labels[2][inside] = PATTERNS.index(pattern)
    return image.transpose(2, 0, 1), labels


def _softened(images: Tensor, rng: torch.Generator) -> Tensor:
    """The images as a decoder might give them: some coarser, all a little off in tone, with faint noise."""
    parts = []
    for part in images.chunk(_COARSENESSES):
        scale = float(torch.rand(1, generator=rng))
        if scale < 0.6:
            side = part.shape[-1]
            small = F.interpolate(part, size=int(side * (0.35 + scale)), mode="area")
            part = F.interpolate(small, size=side, mode="bilinear")
        parts.append(part)
    images = torch.cat(parts)
    tone = 1 + 0.12 * (torch.rand(len(images), 3, 1, 1, generator=rng) - 0.5)
    shift = 0.06 * (torch.rand(len(images), 3, 1, 1, generator=rng) - 0.5)
    grain = 0.02 * torch.randn(images.shape, generator=rng)
    return (images * tone + shift + grain).clamp(0, 1)


def train_judge(
    checkpoint: Path, *, steps: int, batch: int = 32, scenes: int = 16_000, report: Callable[[str], None]
) -> Judge:
    """A judge trained on ``scenes`` drawings, going on from ``checkpoint`` when it exists.

    Raises:
        ValueError: for more scenes than are set aside for it, or fewer than a batch.
    """
    if not batch <= scenes <= len(JUDGE_SEEDS):
        raise ValueError(f"scenes: got {scenes}, requires {batch} to {len(JUDGE_SEEDS)}")
    torch.manual_seed(1)
    judge = Judge().train()
    parameters = [{"params": list(judge.parameters()), "peak": 2e-3}]
    optimizer = torch.optim.AdamW(parameters, weight_decay=0.01)
    state = TrainingState(judge, [optimizer], Average(judge, 0.0), checkpoint)
    state.resume()
    if state.step < steps:
        report(f"judge: drawing {scenes} scenes")
        drawn = [cell_labels(seed) for seed in JUDGE_SEEDS[:scenes]]
        pictures = torch.from_numpy(np.stack([image for image, _ in drawn]))
        labels = torch.from_numpy(np.stack([label for _, label in drawn]))
    while state.step < steps:
        rng = step_rng(1, state.step)
        state.set_rates(steps)
        rows = torch.randint(scenes, (batch,), generator=rng)
        images, truth = pictures[rows].float() / 255, labels[rows]
        if float(torch.rand(1, generator=rng)) < 0.5:
            images, truth = images.flip(3), truth.flip(3)
        with torch.autocast("cpu", torch.bfloat16):
            scores = judge(_softened(images, rng))
        losses = [
            F.cross_entropy(score.float(), truth[:, kind], ignore_index=_IGNORED) for kind, score in enumerate(scores)
        ]
        loss = torch.stack(losses).sum()
        loss.backward()
        state.update()
        if state.step % 100 == 0 or state.step == steps:
            noun, look, pattern = (f"{value.item():.3f}" for value in losses)
            report(f"judge: step {state.step}/{steps} noun {noun}, look {look}, pattern {pattern}")
            state.save()
    return judge.eval()
