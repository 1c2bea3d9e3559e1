"""Sampling targets beside their source, which lends them what it sees: the loop that methods share.

The source stands on the pivots of its inversion at every step, as published code that keeps the inverted
latents has it; so it ends in the image itself, and costs one pass a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from ...locinv_core.backbones.attention import AttentionControl, AttentionLayer, MapReader
from ...locinv_core.backbones.base import Backbone
from ...locinv_core.cost import CostTracker
from ...locinv_core.ddim import step_pairs
from ...locinv_core.editing.prompt_to_prompt import Edit
from ...locinv_core.guidance import guided_noise
from ...locinv_core.inversion.ddim_inversion import Inversion
from ...locinv_core.localization.attention_maps import maps_of_all_words
from ...locinv_core.text.prompt import Prompt, empty_prompt

SOURCE_ROW = 0
"""The source's place in the batch; all the other rows are the targets', without and with their prompts."""

Hold = Callable[[int], AbstractContextManager[AttentionControl]]
"""Step i = 0 … T−1 → what holds the UNet while that step's pass runs, and the control of its attention."""


class InTurn(AttentionControl):
    """Several controls as one: each is given what the one before it made."""

    def __init__(self, *controls: AttentionControl) -> None:
        self._controls = controls

    def needs_probabilities(self, layer: AttentionLayer) -> bool:
        return any(control.needs_probabilities(layer) for control in self._controls)

    def inputs(self, layer: AttentionLayer, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        for control in self._controls:
            query, key, value = control.inputs(layer, query, key, value)
        return query, key, value

    def probabilities(self, layer: AttentionLayer, probabilities: Tensor) -> Tensor:
        for control in self._controls:
            if control.needs_probabilities(layer):
                probabilities = control.probabilities(layer, probabilities)
        return probabilities


def of_source(rows: Tensor) -> Tensor:
    """(B, …) with every row replaced by the source's."""
    return rows[SOURCE_ROW].expand_as(rows)


def edit_beside_source(
    model: Backbone,
    inversion: Inversion,
    targets: Sequence[Prompt],
    guidance: float,
    hold: Hold,
    tracker: CostTracker,
) -> Edit:
    """Sample n targets from z_T with guidance, each step in one pass with the source, held by `hold`.

    A step costs 1 + 2n passes, at guidance 1 it costs 1 + n.
    """
    n, guided = len(targets), guidance != 1
    with tracker.stage("edit"):
        conditions = [model.encode_prompt(target) for target in targets]
        if guided:
            conditions = [model.encode_prompt(empty_prompt(model.tokenizer))] * n + conditions
        copies = len(conditions) // n
        z = inversion.pivot(0).to(model.device).expand(n, -1, -1, -1)
        total: Tensor | None = None
        for i, (timestep, following) in enumerate(step_pairs(inversion.timesteps)):
            # Rows: source, [targets unconditional], targets conditional.
            latents = torch.cat([inversion.pivot(i).to(z), *[z] * copies])
            context = torch.cat([inversion.context(model, i), *conditions])
            reader = MapReader(model.map_layers)
            with hold(i) as control:
                both, without = InTurn(control, reader), slice(1, len(latents) - n)
                noise = model.predict_noise(
                    latents, timestep, context, tracker=tracker, control=both, unconditional=without
                )
            unconditional = noise[1 : 1 + n] if guided else None
            noise = guided_noise(noise[-n:], unconditional, guidance)
            z = model.schedule.ddim_step(z, noise, start=timestep, end=following)
            maps = reader.mean()
            kept = torch.cat([maps[SOURCE_ROW][None], maps[-n:]])
            total = kept if total is None else total + kept
            tracker.report(i + 1, inversion.steps, z)
    if total is None:
        raise ValueError("inversion: it has no steps")
    mean = (total / inversion.steps).unflatten(1, model.map_layers[0].grid(*z.shape[-2:]))
    return Edit(
        latents=z,
        source_latents=inversion.pivot(inversion.steps).to(z),
        source_maps=maps_of_all_words(mean[0], inversion.prompt),
        target_maps=tuple(maps_of_all_words(mean[1 + k], target) for k, target in enumerate(targets)),
        blend_masks=None,
    )
