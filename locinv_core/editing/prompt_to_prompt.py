"""The Prompt-to-Prompt edit (Hertz et al. 2022): sample targets beside the source, attending as it does.

The source branch costs one pass a step where its next latents are known, so n targets cost 1 + 2n.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones.stable_diffusion import EditModel
from ..cost import CostTracker
from ..ddim import step_pairs
from ..guidance import guided_noise
from ..inversion.ddim_inversion import Inversion
from ..localization.priors import LocalizationPrior
from ..text.prompt import Prompt, empty_prompt, same_word
from ..text.word_alignment import Alignment, align
from .attention_control import PromptToPromptControl, plan_attention
from .attribute_preservation import kept_places
from .local_blend import BlendPlan, kept_words, plan_blend, words_in
from .proximal import ProximalStep
from .settings import EditSettings, step_of

__all__ = ["Edit", "EditSettings", "edit"]


@dataclass(frozen=True)
class Edit:
    """The ends of the branches, for n targets; `EditModel.decode` makes images of them.

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


@torch.no_grad()
def edit(
    model: EditModel,
    inversion: Inversion,
    targets: Sequence[Prompt],
    settings: EditSettings | None = None,
    *,
    prior: LocalizationPrior | None = None,
    tracker: CostTracker | None = None,
) -> Edit:
    """Edit an inverted image towards each of n target prompts.

    A step costs 1 + 2n passes with Direct Inversion, null-text and both kinds of negative prompt, 2 + 2n
    without any; at guidance 1 (proximal aside) 1 + n. Null text is used with any guidance, though it
    reconstructs at the one that it was fitted for; the source branch replays what it was then.
    prior: places of source words at the image's size, for the local blend and `EditSettings.attribute_attention`.
    Raises ValueError for an inversion of another model, no targets or ones of another tokenizer, words of the
    settings that no target has, a prior of another size than the image, and a blend without its prior.
    """
    settings = settings or EditSettings()
    tracker = tracker or CostTracker()
    targets = tuple(targets)
    check_edit(model, inversion, targets, prior)
    source, steps, n = inversion.prompt, inversion.steps, len(targets)
    alignments = [align(source, target) for target in targets]
    plan = plan_attention(targets, alignments, settings, steps, model.layers, model.map_layers[0].level)
    height, width = inversion.latents.shape[-2:]
    kept = kept_places(model, inversion, targets, alignments, settings, prior)
    blends = _blend_plans(model, source, targets, alignments, settings, prior, (height, width))

    with tracker.stage("edit"):
        contexts = _Contexts(model, inversion, targets, alignments, settings)
        source_z = _at_source(model, inversion, 0)
        z = source_z.expand(n, -1, -1, -1)
        read_grid = model.map_layers[0].grid(*z.shape[-2:])
        total: Tensor | None = None
        masks: Tensor | None = None
        for i, (timestep, following) in enumerate(step_pairs(inversion.timesteps)):
            # Rows: source conditional, [source unconditional], [targets unconditional], targets conditional.
            row = contexts.at(i)
            own = [source_z] * (1 + contexts.source_guided)
            latents = torch.cat([*own, z, z] if contexts.guided else [*own, z])
            control = PromptToPromptControl(
                plan,
                i,
                source_row=0,
                target_rows=slice(len(latents) - n, None),
                map_layers=model.map_layers,
                device=model.device,
                kept=kept,
            )
            noise = model.predict_noise(
                latents, timestep, row.keys, tracker=tracker, control=control, value_context=row.values
            )
            conditional = noise[-n:]
            unconditional = noise[-2 * n : -n] if contexts.guided else None

            if contexts.proximal:
                proximal = ProximalStep(model.schedule, settings, inversion.pivot(steps).to(z))
                z = proximal.target(z, conditional, unconditional, (timestep, following))
                source_z = proximal.source(source_z, noise[:1], (timestep, following))
            else:
                guided = guided_noise(conditional, unconditional, settings.guidance)
                z = model.schedule.ddim_step(z, guided, start=timestep, end=following)
                if inversion.replayed(i + 1) is not None:
                    source_z = _at_source(model, inversion, i + 1)
                else:
                    base = noise[1:2] if contexts.source_guided else None
                    guided = guided_noise(noise[:1], base, settings.guidance)
                    source_z = model.schedule.ddim_step(source_z, guided, start=timestep, end=following)

            total = control.maps() if total is None else total + control.maps()
            if any(blends) and i >= step_of(settings.blend_start, steps):
                masks = _blend_masks(blends, (total / (i + 1)).unflatten(1, read_grid), z)
                z = torch.where(masks[:, None], z, source_z)
            tracker.report(i + 1, steps, z)

    if total is None:
        raise ValueError("inversion: it has no steps")
    maps = (total / steps).unflatten(1, read_grid)
    return Edit(
        latents=z,
        source_latents=source_z,
        source_maps=named_maps(source, maps[0]),
        target_maps=tuple(named_maps(target, maps[1 + k]) for k, target in enumerate(targets)),
        blend_masks=None if masks is None else masks.float(),
    )


@dataclass(frozen=True)
class _Row:
    """Contexts (B, L, D) of one pass; `values` is None where the values have the keys' context."""

    keys: Tensor
    values: Tensor | None


class _Contexts:
    """What every row of every step reads."""

    def __init__(
        self,
        model: EditModel,
        inversion: Inversion,
        targets: Sequence[Prompt],
        alignments: Sequence[Alignment],
        settings: EditSettings,
    ) -> None:
        self._model = model
        self._inversion = inversion
        self._targets = targets
        self._plain = [model.encode_prompt(target.token_ids) for target in targets]
        self._keys_only = settings.target_embeddings == "keys"
        carried = settings.target_embeddings != "original" and inversion.token_vectors is not None
        self._carried = [
            carried_positions(inversion, target, alignment) if carried else ()
            for target, alignment in zip(targets, alignments, strict=True)
        ]
        self._source = inversion.context(model, 0) if inversion.token_vectors is None else None
        self._empty = model.encode_prompt(empty_prompt(model.tokenizer).token_ids)
        self.proximal = inversion.null_method == "proximal"
        negative = self.proximal or inversion.null_method == "negative-prompt"
        self._negative = negative
        self.guided = settings.guidance != 1 or self.proximal
        """Whether the targets have unconditional rows."""
        # With a negative prompt the source's two predictions are one, and guidance cancels.
        self.source_guided = self.guided and not negative and inversion.replayed(0) is None
        """Whether the source has one."""

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
        tuned = torch.cat([*rows, *(self._tuned(k, step) for k in range(len(self._targets)))])
        return _Row(tuned, plain if self._keys_only else None)

    def _unconditional(self, step: int, source: Tensor) -> Tensor:
        if self._inversion.null_text is not None and self._inversion.null_method == "null-text":
            return self._inversion.null_text[step][None]
        return source if self._negative else self._empty

    def _tuned(self, target: int, step: int) -> Tensor:
        pairs, vectors = self._carried[target], self._inversion.token_vectors
        if not pairs or vectors is None:
            return self._plain[target]
        picked = vectors[step, [k for k, _ in pairs]].to(self._model.device)
        return self._model.encode_prompt(self._targets[target].token_ids, picked, [position for _, position in pairs])


def carried_positions(inversion: Inversion, target: Prompt, alignment: Alignment) -> tuple[tuple[int, int], ...]:
    """(k, target position) for every tuned vector k whose word the target keeps.

    A swapped word keeps its own embedding, and a tuned word that the target lacks is left out.
    """
    source = inversion.prompt
    pairs: dict[int, int] = {}
    for i, j in kept_words(source, target, alignment):
        old, new = source.words[i].tokens, target.words[j].tokens
        if len(old) == len(new):
            pairs.update(zip(old, new, strict=True))
    return tuple((k, pairs[p]) for k, p in enumerate(inversion.token_positions) if p in pairs)


def check_edit(
    model: EditModel, inversion: Inversion, targets: Sequence[Prompt], prior: LocalizationPrior | None
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


def check_choices(
    model: EditModel,
    source: Prompt,
    targets: Sequence[Prompt],
    settings: EditSettings,
    prior: LocalizationPrior | None = None,
) -> None:
    """Raise ValueError, before there is an inversion, for what `edit` would refuse of the settings: a word
    that no target has, a blend without its prior."""
    alignments = [align(source, target) for target in targets]
    plan_attention(targets, alignments, settings, 1, model.layers, model.map_layers[0].level)
    height, width = (0, 0) if prior is None else prior.size
    latent_size = height // model.latent_factor, width // model.latent_factor
    _blend_plans(model, source, targets, alignments, settings, prior, latent_size)


def _blend_plans(
    model: EditModel,
    source: Prompt,
    targets: Sequence[Prompt],
    alignments: Sequence[Alignment],
    settings: EditSettings,
    prior: LocalizationPrior | None,
    latent_size: tuple[int, int],
) -> list[BlendPlan | None]:
    return [
        plan_blend(
            source,
            target,
            alignment,
            settings.local_blend,
            prior=prior,
            emphasised=words_in(target, settings.equalizer),
            threshold=settings.blend_threshold,
            grow=settings.blend_grow,
            latent_size=latent_size,
            cell=2 ** model.map_layers[0].level,
        )
        for target, alignment in zip(targets, alignments, strict=True)
    ]


def _blend_masks(blends: Sequence[BlendPlan | None], maps: Tensor, z: Tensor) -> Tensor:
    """(n, h, w) bool from the running means (1 + n, rows, columns, L); without a blend all True."""
    height, width = z.shape[-2:]
    everywhere = torch.ones(height, width, dtype=torch.bool, device=z.device)
    return torch.stack(
        [
            everywhere if blend is None else blend.mask(maps[0], maps[1 + k], (height, width)).to(z.device)
            for k, blend in enumerate(blends)
        ]
    )


def _at_source(model: EditModel, inversion: Inversion, step: int) -> Tensor:
    """Where the source branch is known to be at the start of a step, (1, C, h, w); at step 0 always z_T."""
    replayed = inversion.replayed(step)
    return (inversion.pivot(step) if replayed is None else replayed).to(model.device, torch.float32).clone()


def named_maps(prompt: Prompt, maps: Tensor) -> dict[str, Tensor]:
    """(rows, columns) on the CPU by word, from maps (rows, columns, L)."""
    named: dict[str, Tensor] = {}
    for index, word in enumerate(prompt.words):
        occurrence = sum(same_word(word.text, other.text) for other in prompt.words[: index + 1])
        name = word.text if occurrence == 1 else f"{word.text}#{occurrence}"
        named[name] = maps[..., list(word.tokens)].mean(dim=-1).cpu()
    return named
