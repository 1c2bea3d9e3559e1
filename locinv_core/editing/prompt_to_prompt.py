"""The Prompt-to-Prompt edit (Hertz et al. 2022): sample targets beside the source, with its attention.

The source branch costs one pass a step where its next latents are known, so n targets cost 1 + 2n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange, repeat
from torch import Tensor

from ..backbones.base import Backbone
from ..cost import CostTracker
from ..ddim import Schedule, step_pairs
from ..guidance import guided_noise
from ..inversion.ddim_inversion import Inversion
from ..localization.attention_maps import maps_of_all_words
from ..localization.priors import LocalizationPrior
from ..text.prompt import Prompt, empty_prompt
from ..text.word_alignment import Alignment, align
from .attention_control import AttentionPlan, PromptToPromptControl, SourceAttention, plan_attention
from .edited_objects import kept_words
from .local_blend import LocalBlend, plan_blend
from .settings import EditSettings, step_of


@dataclass(frozen=True)
class Edit:
    """The ends of the branches, for n targets; `Backbone.decode` makes images of them.

    Maps are means over steps, heads and the layers that word maps are read from, (rows, columns) by word; the
    second cat of a prompt is "cat#2". A target's are those after the control. A method that runs no source
    branch has no maps of it.
    """

    latents: Tensor
    """(n, C, h, w) float32: the targets."""
    source_latents: Tensor
    """(1, C, h, w) float32: the source branch, which is the reconstruction."""
    source_maps: Mapping[str, Tensor]
    target_maps: tuple[Mapping[str, Tensor], ...]
    blend_masks: Tensor | None
    """(n, h, w) float32, 1 where a target could differ at the last step; None if nothing was blended."""


class SamplingStep(Protocol):
    """How latents go from one timestep to the next, (start, end), given the predicted noise."""

    @property
    def always_guided(self) -> bool:
        """Whether targets have an unconditional prediction at guidance 1, too."""
        ...

    def target(
        self, latents: Tensor, conditional: Tensor, unconditional: Tensor | None, timesteps: tuple[int, int]
    ) -> Tensor:
        """The n targets' latents (n, C, h, w)."""
        ...

    def source(
        self, latents: Tensor, conditional: Tensor, unconditional: Tensor | None, timesteps: tuple[int, int]
    ) -> Tensor:
        """The source's latents (1, C, h, w), where they are not known beforehand."""
        ...


@dataclass(frozen=True)
class GuidedStep:
    """A DDIM step under classifier-free guidance."""

    schedule: Schedule
    guidance: float
    always_guided: bool = False

    def target(
        self, latents: Tensor, conditional: Tensor, unconditional: Tensor | None, timesteps: tuple[int, int]
    ) -> Tensor:
        """LocInv Eq. 3, then LocInv Eq. 2."""
        noise = guided_noise(conditional, unconditional, self.guidance)
        return self.schedule.ddim_step(latents, noise, *timesteps)

    source = target


@dataclass(frozen=True)
class EditPlan:
    """An edit towards n targets, made out before the first pass."""

    settings: EditSettings
    targets: tuple[Prompt, ...]
    alignments: tuple[Alignment, ...]
    attention: AttentionPlan
    blends: tuple[LocalBlend | None, ...]


def plan_edit(
    model: Backbone,
    inversion: Inversion,
    targets: Sequence[Prompt],
    settings: EditSettings,
    prior: LocalizationPrior | None = None,
) -> EditPlan:
    """Make out an edit. Raises ValueError as `plan_attention`, `plan_blend` and `check_edit`."""
    check_edit(model, inversion, targets, prior)
    source, finest = inversion.prompt, model.map_layers[0].level
    alignments = tuple(align(source, target) for target in targets)
    size = inversion.latents.shape[-2], inversion.latents.shape[-1]
    return EditPlan(
        settings,
        tuple(targets),
        alignments,
        plan_attention(targets, alignments, settings, inversion.steps, model.layers, finest),
        tuple(
            plan_blend(source, target, alignment, settings, prior, size, cell=2**finest)
            for target, alignment in zip(targets, alignments, strict=True)
        ),
    )


@torch.no_grad()
def prompt_to_prompt(
    model: Backbone,
    inversion: Inversion,
    plan: EditPlan,
    *,
    sampling: SamplingStep | None = None,
    source_attention: SourceAttention | None = None,
    tracker: CostTracker | None = None,
) -> Edit:
    """Sample the targets of a plan beside the source.

    `sampling` takes the place of plain guided DDIM steps, and `source_attention` that of the source's own
    cross-attention where targets follow it.
    """
    tracker = tracker or CostTracker()
    sampling = sampling or GuidedStep(model.schedule, plan.settings.guidance)
    source, targets, steps, n = inversion.prompt, plan.targets, inversion.steps, len(plan.targets)
    if not steps:
        raise ValueError("inversion: it has no steps")
    rows, _ = model.map_layers[0].grid(*inversion.latents.shape[-2:])
    total, masks = torch.zeros(()), None
    with tracker.stage("edit"):
        contexts = _Contexts(model, inversion, plan, guided=plan.settings.guidance != 1 or sampling.always_guided)
        source_z = _at_source(model, inversion, 0)
        z = repeat(source_z, "1 c h w -> n c h w", n=n)
        for i, pair in enumerate(step_pairs(inversion.timesteps)):
            # Rows: source conditional, [source unconditional], [targets unconditional], targets conditional.
            row = contexts.at(i)
            own = [source_z] * (1 + contexts.source_guided)
            latents = torch.cat([*own, z, z] if contexts.guided else [*own, z])
            control = PromptToPromptControl(
                plan.attention,
                i,
                map_layers=model.map_layers,
                device=model.device,
                source_attention=source_attention,
            )
            noise = model.predict_noise(
                latents,
                pair[0],
                row.keys,
                tracker=tracker,
                control=control,
                value_context=row.values,
                unconditional=slice(1, len(latents) - n),
            )
            z = sampling.target(z, noise[-n:], noise[-2 * n : -n] if contexts.guided else None, pair)
            if inversion.replayed(i + 1) is not None:
                source_z = _at_source(model, inversion, i + 1)
            else:
                source_z = sampling.source(source_z, noise[:1], noise[1:2] if contexts.source_guided else None, pair)

            total = total.to(noise.device) + rearrange(control.maps(), "b (y x) l -> b y x l", y=rows)
            if any(plan.blends) and i >= step_of(plan.settings.blend_start, steps):
                masks = _blend_masks(plan.blends, total / (i + 1), z)
                z = torch.where(rearrange(masks, "n h w -> n 1 h w"), z, source_z)
            tracker.report(i + 1, steps, z)
    maps = total / steps
    return Edit(
        latents=z,
        source_latents=source_z,
        source_maps=maps_of_all_words(maps[0], source),
        target_maps=tuple(maps_of_all_words(maps[1 + k], target) for k, target in enumerate(targets)),
        blend_masks=None if masks is None else masks.float(),
    )


@dataclass(frozen=True)
class _Row:
    """Contexts (B, L, D) of one pass; `values` is None where the values have the keys' context."""

    keys: Tensor
    values: Tensor | None


class _Contexts:
    """The contexts of every row of every step.

    `guided` says whether the targets have unconditional rows, `source_guided` whether the source has one.
    """

    def __init__(self, model: Backbone, inversion: Inversion, plan: EditPlan, *, guided: bool) -> None:
        self._model, self._inversion, self._targets = model, inversion, plan.targets
        self._plain = [model.encode_prompt(target) for target in plan.targets]
        self._keys_only = plan.settings.target_embeddings == "keys"
        carries = plan.settings.target_embeddings != "original" and inversion.token_vectors is not None
        self._carried = [
            carried_positions(inversion, target, alignment) if carries else ()
            for target, alignment in zip(plan.targets, plan.alignments, strict=True)
        ]
        self._source = inversion.context(model, 0) if inversion.token_vectors is None else None
        self._empty = model.encode_prompt(empty_prompt(model.tokenizer))
        self.guided = guided
        # With a negative prompt the source's two predictions are one, and guidance cancels.
        self.source_guided = guided and not inversion.has_negative_prompt and inversion.replayed(0) is None

    def at(self, step: int) -> _Row:
        source = self._inversion.context(self._model, step) if self._source is None else self._source
        rows = [source]
        if self.guided:
            unconditional = self._unconditional(step, source)
            count = len(self._targets) + self.source_guided
            rows.append(unconditional.to(source).expand(count, -1, -1))
        plain = torch.cat([*rows, *self._plain])
        if not any(self._carried):
            return _Row(plain, None)
        optimized = torch.cat([*rows, *(self._optimized(k, step) for k in range(len(self._targets)))])
        return _Row(optimized, plain if self._keys_only else None)

    def _unconditional(self, step: int, source: Tensor) -> Tensor:
        if self._inversion.null_text is not None and self._inversion.null_method == "null-text":
            return self._inversion.null_text[step][None]
        return source if self._inversion.has_negative_prompt else self._empty

    def _optimized(self, target: int, step: int) -> Tensor:
        pairs, vectors = self._carried[target], self._inversion.token_vectors
        if not pairs or vectors is None:
            return self._plain[target]
        picked = vectors[step, [k for k, _ in pairs]].to(self._model.device)
        return self._model.encode_prompt(self._targets[target], picked, [position for _, position in pairs])


def carried_positions(inversion: Inversion, target: Prompt, alignment: Alignment) -> tuple[tuple[int, int], ...]:
    """(k, target position) for every optimized vector k whose word the target keeps.

    A swapped word keeps its own embedding, and an optimized word that the target lacks is left out.
    """
    source = inversion.prompt
    pairs: dict[int, int] = {}
    for i, j in kept_words(source, target, alignment):
        old, new = source.words[i].tokens, target.words[j].tokens
        if len(old) == len(new):
            pairs.update(zip(old, new, strict=True))
    return tuple((k, pairs[p]) for k, p in enumerate(inversion.token_positions) if p in pairs)


def check_edit(
    model: Backbone, inversion: Inversion, targets: Sequence[Prompt], prior: LocalizationPrior | None
) -> None:
    """Raise ValueError unless targets and prior fit the inversion, and that the model."""
    inversion.check_model(model)
    if not targets:
        raise ValueError("targets: got none, requires at least one prompt")
    for target in targets:
        if len(target.token_ids) != len(inversion.prompt.token_ids):
            raise ValueError(
                f"target {target.text!r}: it has {len(target.token_ids)} padded tokens, requires the"
                f" {len(inversion.prompt.token_ids)} of the source prompt"
            )
    if prior is not None:
        prior.check_against(inversion.prompt)
        height, width = (side * model.latent_factor for side in inversion.latents.shape[-2:])
        if prior.size != (height, width):
            raise ValueError(
                f"prior: its masks have {prior.size[1]}x{prior.size[0]} pixels, requires the inverted image's"
                f" {width}x{height}"
            )


def _blend_masks(blends: Sequence[LocalBlend | None], maps: Tensor, z: Tensor) -> Tensor:
    """(n, h, w) bool from the running means (1 + n, rows, columns, L); without a blend all True."""
    height, width = z.shape[-2:]
    everywhere = torch.ones(height, width, dtype=torch.bool, device=z.device)
    return torch.stack(
        [
            everywhere if blend is None else blend.mask(maps[0], maps[1 + k], (height, width)).to(z.device)
            for k, blend in enumerate(blends)
        ]
    )


def _at_source(model: Backbone, inversion: Inversion, step: int) -> Tensor:
    """Where the source branch is known to be at the start of a step, (1, C, h, w); at step 0 always z_T."""
    replayed = inversion.replayed(step)
    return (inversion.pivot(step) if replayed is None else replayed).to(model.device, torch.float32).clone()
