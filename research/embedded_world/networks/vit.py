"""Training the embedded vision transformer by self-distillation without labels, in DINO's layout.

A student sees large and small views of an image (Caron et al., 2021), a teacher, the running average of the
student, the large ones; the student learns to tell, of another view, which of the batch's images the teacher
saw. That is the loss of MoCo v3 (Chen et al., 2021): with DINO's own, trainings of minutes came to attention on
the ground. Each view lies around an object and shows the objects on the ground of another scene (as Ryali et
al., 2021, swap backgrounds), so that they are all that the views of an image share.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ViTConfig, ViTModel

from ..scenes.dataset import SceneParts
from ..scenes.views import look, mirrored, softened, toned, uniform, windows_on_objects
from ..training.fitting import Run, fit
from ..training.recipe import VitRecipe
from ..training.state import TrainingState
from ..training.workers import gathered, share
from .exporting import tower_settings, write_vit

_LARGE_SIDES, _LARGE_SHIFT = (60.0, 112.0), 12.0
_SMALL_SIDES, _SMALL_SHIFT = (26.0, 52.0), 16.0


def build_vit(recipe: VitRecipe) -> ViTModel:
    """A new vision transformer, without the pooling layer, which nothing here would train."""
    shape = tower_settings(recipe.width, recipe.layers, recipe.heads)
    config = ViTConfig(**shape, image_size=recipe.side, patch_size=recipe.patch, layer_norm_eps=1e-6)
    return ViTModel(config, add_pooling_layer=False)


class SelfDistilled(nn.Module):
    """The transformer with the head that is only for training."""

    def __init__(self, recipe: VitRecipe) -> None:
        super().__init__()
        self.backbone = build_vit(recipe)
        self.head = nn.Sequential(
            *(nn.Linear(recipe.width, recipe.hidden), nn.GELU()),
            *(nn.Linear(recipe.hidden, recipe.hidden), nn.GELU()),
            nn.Linear(recipe.hidden, recipe.bottleneck),
        )

    def forward(self, views: Tensor) -> Tensor:
        """Unit vectors (B, d) for views (B, 3, H, W) in [0, 1]."""
        seen = self.backbone(pixel_values=2 * views - 1, interpolate_pos_encoding=True)
        return F.normalize(self.head(seen.last_hidden_state[:, 0]).float(), dim=-1)


def distillation_loss(student: list[Tensor], teacher: list[Tensor], temperature: float) -> Tensor:
    """Mean cross-entropy, over pairs of different views, of the student's guess at the teacher's image.

    With s of one view and t of another, row i of softmax(s tᵀ / τ) should be certain of column i.

    Args:
        student: unit vectors (B, d) of each view, the large ones first, in the teacher's order. teacher: of
            each large view; no gradient reaches it. temperature: τ.
    """
    own = torch.arange(len(teacher[0]))
    pairs = [
        F.cross_entropy(guess @ known.detach().T / temperature, own)
        for k, known in enumerate(teacher)
        for n, guess in enumerate(student)
        if k != n
    ]
    return torch.stack(pairs).mean()


def _varied(views: Tensor, mine: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """This worker's views (b, 3, s, s), rows ``mine`` of ``count``, mirrored, softened and toned."""
    mirror = torch.rand(count, generator=rng) < 0.5
    soft = uniform((count,), -1.0, 1.0, rng).clamp(min=0)
    gains = uniform((count, 1), 0.85, 1.15, rng) * uniform((count, 3), 0.92, 1.08, rng)
    shifts = uniform((count, 3), -0.05, 0.05, rng)
    return toned(softened(mirrored(views, mirror[mine]), soft[mine]), gains[mine], shifts[mine])


def _views(parts: SceneParts, recipe: VitRecipe, rng: torch.Generator) -> tuple[list[Tensor], list[Tensor]]:
    """This worker's share of a batch: the large views and the small ones, each (b, 3, s, s)."""
    count, size = recipe.batch, parts.masks.shape[-1]
    rows = torch.randint(len(parts), (count,), generator=rng)
    shown = F.avg_pool2d(parts.masks[rows].float(), 8)
    large, places = windows_on_objects(shown, 2, _LARGE_SIDES, _LARGE_SHIFT, rng, size=size)
    small, _ = windows_on_objects(shown, recipe.locals, _SMALL_SIDES, _SMALL_SHIFT, rng, size=size, centres=places)
    made = []
    for windows, views, side in ((large, 2, recipe.large), (small, recipe.locals, recipe.small)):
        grounds = torch.randint(len(parts), (count * views,), generator=rng)
        of_image = share(torch.arange(count * views).view(count, views))  # an image's views stay together
        mine = of_image.T.flatten()
        seen = look(parts.on_ground(rows[mine // views], grounds[mine]), windows[mine], side)
        made.append(list(_varied(seen, mine, count * views, rng).chunk(views)))
    return made[0], made[1]


def train_vit(parts: SceneParts, recipe: VitRecipe, run: Run) -> None:
    """Train on scenes taken apart; what is written is the teacher's transformer."""
    torch.manual_seed(run.seed)
    model = SelfDistilled(recipe).train()
    teacher = SelfDistilled(recipe).eval().requires_grad_(False)
    for one in (model, teacher):
        one.backbone.set_attn_implementation("eager")  # on a CPU, faster backward than the fused kernel

    def loss_of(state: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        large, small = _views(parts, recipe, rng)
        both = torch.cat(large)
        state.average.copy_to(teacher)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                known = teacher(both).float()
            outputs = [*model(both).float().chunk(2)]
            if small:
                outputs += model(torch.cat(small)).float().chunk(len(small))
        # Rows are gathered view by view: every worker takes the same loss of the whole batch.
        teachers = [gathered(part) for part in known.chunk(2)]
        students = [gathered(part) for part in outputs]
        with torch.no_grad():
            nearest = (students[0] @ teachers[1].T).argmax(1)
            right = (nearest == torch.arange(len(nearest))).float().mean()
        loss = distillation_loss(students, teachers, recipe.temperature)
        return loss, f"right {right.item():.0%} of {len(nearest)}"

    fit("vit", model, loss_of, recipe, run, snapshot=lambda trained: write_vit(trained.backbone, run.out))
