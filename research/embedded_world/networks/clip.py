"""Training the embedded dual encoder: images and texts to one space, where what belongs together is near.

Three contrasts in a step: scenes with captions, crops of objects with phrases, and scenes with phrases. What
says the same, or is true as well, is left out of the negatives. A share of the scenes are in the batch a
second time, with one object edited, and a third time with the edit in the wrong place, which no caption is
for: a score of edits has to tell these apart. It adds up cosines, so what belongs together is also drawn to the
cosine 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from ....locinv_core.backbones.diffusers_folder import quiet_loading
from ..scenes.views import look, mirrored, softened, toned, uniform
from ..scenes.wording import (
    Window,
    botched_places,
    numpy_generator,
    true_of_object,
    true_of_scene,
    word_edited,
    word_scene,
)
from ..training.fitting import Run, fit
from ..training.recipe import ClipRecipe
from ..training.state import TrainingState
from ..training.workers import gathered, share
from .exporting import text_settings, tower_settings, write_clip
from .tokenizer import encode_texts

_PHRASES_IN_SCENES = 0.5
_TOGETHER = 2.0


def build_clip(recipe: ClipRecipe, *, vocabulary: int, length: int) -> CLIPModel:
    """A new dual encoder."""
    text = text_settings(recipe.text_width, recipe.text_layers, recipe.text_heads, vocabulary, length)
    vision = {
        **tower_settings(recipe.width, recipe.layers, recipe.heads),
        "image_size": recipe.side,
        "patch_size": recipe.patch,
        "projection_dim": recipe.embedding,
    }
    text["projection_dim"] = recipe.embedding
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=recipe.embedding))


def embed_images(model: CLIPModel, images: Tensor) -> Tensor:
    """Unit vectors (B, e) of images (B, 3, side, side) in [0, 1]."""
    pooled = model.vision_model(pixel_values=2 * images - 1).pooler_output
    return F.normalize(model.visual_projection(pooled).float(), dim=-1)


def embed_texts(model: CLIPModel, ids: Tensor) -> Tensor:
    """Unit vectors (B, e) of token ids (B, L)."""
    pooled = model.text_model(input_ids=ids).pooler_output
    return F.normalize(model.text_projection(pooled).float(), dim=-1)


def contrast(logits: Tensor, ignored: Tensor) -> Tensor:
    """Mean cross-entropy of row i for column i, with the ``ignored`` columns left out of row i's sum.

    ``logits``: (B, C), C at least B; ``ignored``: (B, C) bool, of which the diagonal is not looked at.
    """
    own = torch.eye(*logits.shape, dtype=torch.bool)
    kept = logits.masked_fill(ignored & ~own, -torch.inf)
    return F.cross_entropy(kept, torch.arange(len(logits)))


class _Batch:
    """A step's examples with their images; images and token ids are this worker's share."""

    def __init__(
        self,
        images: Tensor,
        edited: Tensor,
        seeds: Sequence[int],
        tokenizer: CLIPTokenizer,
        recipe: ClipRecipe,
        rng: torch.Generator,
    ) -> None:
        count, again = recipe.batch, recipe.pairs
        rows = torch.randint(len(images), (count - 2 * again,), generator=rng)
        twice = torch.randint(len(edited), (again,), generator=rng)
        rows = torch.cat([rows, twice, len(images) + twice])  # the edited follow all others
        words, size = numpy_generator(rng), images.shape[-1]
        turns = [divmod(row, len(images)) for row in rows.tolist()]
        examples = [(word_scene, word_edited)[turn](seeds[row], words, size=size) for turn, row in turns]
        self.examples = examples
        self.contents = [one.content for one in examples] + [one.altered_content for one in examples]
        self.names = [one.name for one in examples] + [one.altered_name for one in examples]
        whole = torch.tensor([0.0, 0.0, images.shape[-1], images.shape[-2]]).expand(count, -1)
        good = torch.tensor([example.window for example in examples])
        poor = torch.tensor([example.poor for example in examples[::2]])
        places = [botched_places(seeds[row], words, size=size) for row in twice.tolist()]
        views = count * 2 + len(poor) + again
        mirror = torch.rand(views, generator=rng) < 0.5
        soft = uniform((views,), -1, 1, rng).clamp(min=0)
        gains, shifts = uniform((views, 3), 0.92, 1.08, rng), uniform((views, 3), -0.03, 0.03, rng)

        def scene(k: int) -> Tensor:
            turn, row = turns[k]
            return (images, edited)[turn][row]

        def spoilt(k: int) -> Tensor:
            return botched(images[twice[k]], edited[twice[k]], *places[k])

        groups: list[tuple[Tensor, Callable[[int], Tensor]]] = [
            (whole, scene),
            (good, scene),
            (poor, lambda k: scene(2 * k)),
            (whole[:again], spoilt),
        ]
        parts, first = [], 0
        for windows, shown in groups:
            mine = share(torch.arange(len(windows)))
            seen = look(torch.stack([shown(k) for k in mine.tolist()]), windows[mine], recipe.side)
            mine = first + mine
            parts.append(toned(softened(mirrored(seen, mirror[mine]), soft[mine]), gains[mine], shifts[mine]))
            first += len(windows)
        self.sizes = [len(part) for part in parts]
        self.images = torch.cat(parts)
        captions = [one.caption for one in examples] + [one.altered for one in examples]
        phrases = [one.phrase for one in examples] + [one.altered_phrase for one in examples]
        self.caption_ids, self.phrase_ids = (
            share(encode_texts(tokenizer, texts, longest=True)) for texts in (captions, phrases)
        )


def botched(image: Tensor, edited: Tensor, place: Window, window: Window) -> Tensor:
    """An image (3, H, W) uint8 with what a window of the edited one shows in one place of it, uint8 too."""
    x0, y0, x1, y1 = (int(end) for end in place)
    shown = look(edited[None], torch.tensor([window]), max(y1 - y0, x1 - x0))
    part = F.interpolate(shown, size=(y1 - y0, x1 - x0), mode="bilinear")[0]
    made = image.clone()
    made[:, y0:y1, x0:x1] = (255 * part).round().to(torch.uint8)
    return made


def _same(contents: Sequence[frozenset[str]], others: Sequence[frozenset[str]]) -> Tensor:
    return torch.tensor([[content == other for other in others] for content in contents])


def edit_loss(sources: Tensor, edits: Tensor, spoilt: Tensor, captions: Tensor, scale: Tensor) -> Tensor:
    """Cross-entropy of the true edit for the highest ``scale`` · S, S = 2·S_t2i + S_i2i (Learnable Regions,
    Eq. 7), among the source itself, the true edit and the one gone wrong: unit vectors (P, e) each."""
    shown = torch.stack([edits, sources, spoilt], dim=1)
    score = 2 * (shown @ captions[:, :, None]) + shown @ sources[:, :, None]
    return F.cross_entropy(scale * score[..., 0], torch.zeros(len(edits), dtype=torch.long))


def _loss(model: CLIPModel, batch: _Batch, most_scale: float) -> tuple[Tensor, str]:
    examples, count = batch.examples, len(batch.examples)
    with torch.autocast("cpu", torch.bfloat16):
        images = embed_images(model, batch.images)
        captions, phrases = embed_texts(model, batch.caption_ids), embed_texts(model, batch.phrase_ids)
    scenes, crops, poor, spoilt = (gathered(part) for part in images.split(batch.sizes))
    captions, phrases = gathered(captions), gathered(phrases)
    scale = model.logit_scale.clamp(max=math.log(most_scale)).exp()

    same = _same(batch.contents[:count], batch.contents)
    by_scene = scale * scenes @ captions.T
    by_caption = torch.cat([by_scene[:, :count].T, scale * captions[:count] @ spoilt.T], dim=1)
    never = torch.zeros(count, len(spoilt), dtype=torch.bool)
    whole = contrast(by_scene, same) + contrast(by_caption, torch.cat([same[:, :count].T, never], dim=1))

    of_object, of_scene = true_of_object(examples, batch.names), true_of_scene(examples, batch.names)
    by_crop, by_poor = scale * crops @ phrases.T, scale * poor @ phrases[:count].T
    # A poor crop of one object may show another whole: there, other phrases may be true. Its own never counts.
    shown = of_scene[::2, :count] & ~torch.eye(count, dtype=torch.bool)[::2]
    parts = contrast(by_crop, of_object) + contrast(
        torch.cat([by_crop[:, :count], by_poor]).T, torch.cat([of_object[:, :count], shown]).T
    )

    inside = scale * scenes @ phrases.T
    found = contrast(inside, of_scene) + contrast(inside[:, :count].T, of_scene[:, :count].T)
    together = (1 - (scenes * captions[:count]).sum(1)).mean() + (1 - (crops * phrases[:count]).sum(1)).mean()
    first = count - len(spoilt)  # the edited scenes are the last of the batch, their sources come before them
    edits = edit_loss(scenes[first - len(spoilt) : first], scenes[first:count], spoilt, captions[first:count], scale)
    loss = (whole + parts + _PHRASES_IN_SCENES * found) / 2 + _TOGETHER * together + edits
    with torch.no_grad():
        right = (by_scene[:, :count].argmax(1) == torch.arange(count)).float().mean()
        figures = f"scenes {whole.item() / 2:.3f} crops {parts.item() / 2:.3f} phrases {found.item() / 2:.3f}"
        figures += f" together {1 - together.item() / 2:.3f} edits {edits.item():.3f}"
    return loss, f"{figures} right {right.item():.1%} of {count} scale {scale.item():.1f}"


def train_clip(
    images: Tensor,
    edited: Tensor,
    seeds: Sequence[int],
    tokenizer_folder: Path,
    recipe: ClipRecipe,
    run: Run,
) -> None:
    """Train on images (N, 3, H, W) uint8 of the scenes ``seeds``.

    ``edited`` (E, 3, H, W) uint8, E at most N, shows the first of them after an edit.
    """
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder)
    torch.manual_seed(run.seed)
    model = build_clip(recipe, vocabulary=len(tokenizer), length=tokenizer.model_max_length)
    if run.start is not None:
        with quiet_loading():
            model = CLIPModel.from_pretrained(run.start, local_files_only=True).float()
    model.train().requires_grad_(True)
    model.set_attn_implementation("eager")  # on a CPU, faster backward than the fused kernel

    def loss_of(state: TrainingState, rng: torch.Generator) -> tuple[Tensor, str]:
        return _loss(model, _Batch(images, edited, seeds, tokenizer, recipe, rng), recipe.scale)

    fit("clip", model, loss_of, recipe, run, snapshot=partial(write_clip, tokenizer=tokenizer_folder, folder=run.out))
