"""LocInv, Algorithm 1: tokens and null text tuned in turn at every timestep, on the way back from z_T.

As separate stages, tokens are tuned along the pivots z_t and null text afterwards; interleaved, both see the
latents z̄_t that sampling really passes through. With any method but null-text the two are the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backbones.stable_diffusion import EditModel
from ..cost import CostTracker
from ..ddim import step_pairs
from ..inversion.ddim_inversion import Inversion
from ..inversion.null_text import (
    NullTextSettings,
    check_guidance,
    null_text_step,
    reconstruct_by,
    with_null_text,
)
from ..options import NullMethod
from ..text.prompt import empty_prompt
from .losses import AttentionObjective
from .token_optimizer import TokenTuner, TuningSettings, optimize_tokens


def locinv(
    model: EditModel,
    inversion: Inversion,
    positions: Sequence[int],
    objective: AttentionObjective,
    *,
    guidance: float = 7.5,
    null_method: NullMethod = "direct",
    interleaved: bool = True,
    tuning: TuningSettings | None = None,
    null_text: NullTextSettings | None = None,
    tracker: CostTracker | None = None,
) -> Inversion:
    """Algorithm 1 after its line 3: from the DDIM inversion to {V_t} and {∅_t}.

    `positions` are the tuned tokens' places in the source prompt and `objective` their loss. `interleaved`
    only matters to null-text: it tunes V_t at z̄_t rather than at the pivot z_t.
    """
    check_guidance(guidance)
    inversion.check_model(model)
    inversion = inversion.on(model.device)
    tracker = tracker or CostTracker()
    if null_method != "null-text" or not interleaved:
        tuned = optimize_tokens(model, inversion, positions, objective, tuning, tracker=tracker)
        return reconstruct_by(null_method, model, tuned, guidance, null_text, tracker=tracker)
    tuner = TokenTuner(model, inversion.prompt, tuple(positions), objective, tuning or TuningSettings())
    settings = null_text or NullTextSettings()
    null = model.encode_prompt(empty_prompt(model.tokenizer).token_ids).float()
    vectors = tuner.initial_vectors()
    z = inversion.pivot(0)
    tuned_vectors, nulls, trajectory = [], [], [z]
    with torch.inference_mode(False), torch.enable_grad():
        for i, pair in enumerate(step_pairs(inversion.timesteps)):
            with tracker.stage("tokens"):
                if i < tuner.settings.tuned_steps(inversion.steps):
                    vectors = tuner.tune(z, pair[0], i, vectors, tracker)
                tracker.report(i + 1, inversion.steps, z)
            with tracker.stage("null-text"):
                with torch.no_grad():
                    context = tuner.context(vectors)
                target = inversion.pivot(i + 1).clone()
                null, z = null_text_step(model, z.clone(), pair, context, null, target, i, guidance, settings, tracker)
                tracker.report(i + 1, inversion.steps, z)
            tuned_vectors.append(vectors)
            nulls.append(null)
            trajectory.append(z)
    tuned = inversion.with_tokens(tuner.positions, torch.stack(tuned_vectors))
    return with_null_text(tuned, nulls, trajectory, guidance)
