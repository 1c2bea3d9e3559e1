"""Training the embedded vision transformer by self-distillation without labels (DINO, Caron et al., 2021).

A student sees large and small views of a picture, a teacher, the running average of the student, the large
ones; the student learns to say what the teacher says of another view. Sharpened, and shared out evenly over
the outputs by Sinkhorn's iterations (SwAV, Caron et al., 2020; DINOv2, Oquab et al., 2023), the teacher's
answers neither become all the same nor all even; with a running centre instead, as in the first DINO, they
became all even at this size. Two things are made for drawn scenes. The views of a picture
lie around one place where much is drawn, found by the strength of its edges: here the ground fills most of a
picture, and views from anywhere would share nothing else. And each view is lit by its own smooth field of
colours, so that ground and sky are no easy sign of the picture that a view comes from.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from transformers import ViTConfig, ViTModel

from ...locinv_core.embedded.training_state import TrainingState
from ...locinv_core.embedded.training_workers import STEPS_WORTH_COMPILING, compiled, rank, share
from .exporting import write_vit
from .fitting import Report, fit, gathered
from .recipe import VitRecipe
from .views import edge_energy, light_fields, look, mirrored, salient_windows, softened, toned, uniform

__all__ = ["SelfDistilled", "build_vit", "distillation_loss", "shared_out", "train_vit"]

_LARGE_SIDES, _LARGE_SHIFT = (60.0, 112.0), 12.0
_SMALL_SIDES, _SMALL_SHIFT = (26.0, 52.0), 16.0
_LIGHT, _GREY = 0.3, 0.15


def build_vit(recipe: VitRecipe) -> ViTModel:
    """A new vision transformer, without the pooling layer, which nothing here would train."""
    config = ViTConfig(
        hidden_size=recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=4 * recipe.width,
        image_size=recipe.side,
        patch_size=recipe.patch,
        layer_norm_eps=1e-6,
    )
    return ViTModel(config, add_pooling_layer=False)


class SelfDistilled(nn.Module):
    """The transformer with the head that is only for training."""

    def __init__(self, recipe: VitRecipe) -> None:
        super().__init__()
        self.backbone = build_vit(recipe)
        self.head = nn.Sequential(
            nn.Linear(recipe.width, recipe.hidden),
            nn.GELU(),
            nn.Linear(recipe.hidden, recipe.hidden),
            nn.GELU(),
            nn.Linear(recipe.hidden, recipe.bottleneck),
        )
        last = weight_norm(nn.Linear(recipe.bottleneck, recipe.prototypes, bias=False))
        last.parametrizations.weight.original0.data.fill_(1)
        last.parametrizations.weight.original0.requires_grad_(False)
        self.last = last

    def forward(self, views: Tensor) -> Tensor:
        """Outputs (B, P) for views (B, 3, H, W) in [0, 1]."""
        seen = self.backbone(pixel_values=2 * views - 1, interpolate_pos_encoding=True)
        return self.last(F.normalize(self.head(seen.last_hidden_state[:, 0]).float(), dim=-1))


def shared_out(outputs: Tensor, temperature: float, *, iterations: int = 3) -> Tensor:
    """Answers (B, P) from outputs (B, P): each row sums to 1, and no output has more than its part of them.

    Sinkhorn's iterations on exp(outputs / temperature): columns are scaled to B / P, then rows to 1.
    """
    scaled = (outputs.double() - outputs.amax()) / temperature
    answers = scaled.exp().clamp(min=1e-300)
    for _ in range(iterations):
        answers = answers / answers.sum(dim=0, keepdim=True) * (len(answers) / answers.shape[1])
        answers = answers / answers.sum(dim=1, keepdim=True)
    return answers.to(outputs.dtype)


def distillation_loss(student: list[Tensor], teacher: list[Tensor], temperature: float) -> Tensor:
    """Mean cross-entropy of student and teacher over pairs of different views.

    Args:
        student: outputs (B, P) of each view, the large ones first, in the teacher's order. teacher: answers
            (B, P) of each large view, rows summing to 1. temperature: the student's.
    """
    said = [F.log_softmax(output / temperature, dim=-1) for output in student]
    pairs = [
        -(answer.detach() * guess).sum(dim=-1).mean()
        for k, answer in enumerate(teacher)
        for n, guess in enumerate(said)
        if k != n
    ]
    return torch.stack(pairs).mean()


def _lit(views: Tensor, mine: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """This worker's views (b, 3, s, s), rows ``mine`` of ``count``, mirrored, softened, toned and lit."""
    mirror = torch.rand(count, generator=rng) < 0.5
    soft = uniform((count,), -1.0, 1.0, rng).clamp(min=0)
    gains = uniform((count, 1), 0.7, 1.3, rng) * uniform((count, 3), 0.75, 1.25, rng)
    shifts = uniform((count, 3), -0.1, 0.1, rng)
    fields = light_fields(uniform((count,), 0.0, _LIGHT, rng), rng)
    grey = (torch.rand(count, generator=rng) < _GREY).float()
    views = softened(mirrored(views, mirror[mine]), soft[mine])
    views = torch.lerp(views, views.mean(1, keepdim=True).expand_as(views), grey[mine].view(-1, 1, 1, 1))
    light = F.interpolate(fields[mine], size=views.shape[-2:], mode="bicubic", align_corners=True)
    return toned(views + light, gains[mine], shifts[mine])


def _views(pictures: Tensor, recipe: VitRecipe, rng: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """This worker's share of a batch: the large views and the small ones, each (b, 3, s, s)."""
    count, size = recipe.batch, pictures.shape[-1]
    rows = torch.randint(len(pictures), (count,), generator=rng)
    drawn = pictures[rows]
    energy = edge_energy(drawn, 8)
    large, places = salient_windows(energy, 2, _LARGE_SIDES, _LARGE_SHIFT, rng, size=size)
    small, _ = salient_windows(
        energy, recipe.locals, _SMALL_SIDES, _SMALL_SHIFT, rng, size=size, centres=places
    )
    made = []
    for windows, views, side in ((large, 2, recipe.large), (small, recipe.locals, recipe.small)):
        of_picture = share(torch.arange(count * views).view(count, views))  # a picture's views stay together
        mine = of_picture.T.flatten()
        seen = look(drawn[mine // views], windows[mine], side)
        made.append(list(_lit(seen, mine, count * views, rng).chunk(views)))
    return made[0], made[1]


def train_vit(
    pictures: Tensor, recipe: VitRecipe, checkpoint: Path, out: Path, *, seed: int, report: Report
) -> None:
    """Train on pictures (N, 3, H, W) uint8, going on from ``checkpoint`` if it exists.

    Worker 0 writes the teacher's transformer into ``out`` at every checkpoint.
    """
    torch.manual_seed(seed)
    model = SelfDistilled(recipe).train()
    model.backbone.set_attn_implementation("eager")  # on a CPU, faster backward than the fused kernel

    see = compiled(model) if recipe.steps >= STEPS_WORTH_COMPILING else model
    teacher = SelfDistilled(recipe).eval().requires_grad_(False)
    teacher.backbone.set_attn_implementation("eager")
    answer = compiled(teacher) if recipe.steps >= STEPS_WORTH_COMPILING else teacher

    def loss_of(state: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        large, small = _views(pictures, recipe, rng)
        both = torch.cat(large)
        state.average.copy_to(teacher)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                known = answer(both).float()
            outputs = [*see(both).float().chunk(2)]
            if small:
                outputs += see(torch.cat(small)).float().chunk(len(small))
        # Rows are gathered view by view, so that each worker finds its own again.
        every = torch.cat([gathered(part) for part in known.chunk(2)])
        answers = [share(part) for part in shared_out(every, recipe.teacher_temperature).chunk(2)]
        loss = distillation_loss(outputs, answers, recipe.student_temperature)
        with torch.no_grad():
            certain = torch.cat(answers)
            entropy = -(certain * certain.clamp(min=1e-12).log()).sum(dim=-1).mean()
            agreed = (outputs[0].argmax(1) == outputs[1].argmax(1)).float().mean()
        return loss, f"teacher's entropy {entropy.item():.2f} views agree {agreed.item():.0%}"

    fit(
        "vit",
        model,
        loss_of,
        steps=recipe.steps,
        rate=recipe.rate_of_ends,
        muon=recipe.rate,
        average=recipe.momentum,
        checkpoint=checkpoint,
        seed=seed,
        report=report,
        save_steps=recipe.save_steps,
        snapshot=lambda trained: write_vit(trained.backbone, out),
    )
    if rank() == 0:
        report(f"vit: written to {out}")
