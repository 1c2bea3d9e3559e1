"""LocInv, Algorithm 1: localization-aware inversion. The comments give the paper's line numbers.

Line 3 is `ddim_invert`, and the losses of lines 9 to 11 are in `losses`. As separate stages, which the paper does
not have, all tokens are optimized at the pivots z_t, before any null text. With a null method other than
null-text the source branch is at the pivots anyhow, and line 14 takes no optimization.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from ..backbones.base import Backbone
from ..cost import CostTracker
from ..ddim import step_pairs
from ..guidance import check_guidance
from ..inversion.ddim_inversion import Inversion
from ..inversion.null_text import NullTextOptimizer, NullTextSettings, reconstruct_by, with_null_text
from ..options import NullMethod
from .losses import AttentionObjective
from .plan import TuningPlan
from .token_optimizer import TokenOptimizer, TuningSettings


@dataclass(frozen=True)
class LocInvSettings:
    """How Algorithm 1 is run. `interleaved` False makes tokens and null text separate stages."""

    guidance: float = 7.5
    """The scale w of line 4, 0 to 100."""
    null_method: NullMethod = "direct"
    """The paper's is null-text."""
    interleaved: bool = True
    tokens: TuningSettings = field(default_factory=TuningSettings)
    null_text: NullTextSettings = field(default_factory=NullTextSettings)


def locinv(
    model: Backbone,
    inversion: Inversion,
    plan: TuningPlan,
    settings: LocInvSettings | None = None,
    *,
    tracker: CostTracker | None = None,
) -> Inversion:
    """From the DDIM inversion {z_t} to the same with {V_t} (T, K, D), and, by null-text, {∅_t} (T, L, D).

    `plan` has the K tokens of the source prompt and their loss. Null text that `inversion` had is dropped.
    Raises ValueError for an inversion of another model and for guidance out of bounds.
    """
    settings, tracker = settings or LocInvSettings(), tracker or CostTracker()
    check_guidance(settings.guidance)
    inversion.check_model(model)
    inversion = inversion.on(model.device)
    optimizes_null = settings.null_method == "null-text" and settings.interleaved
    tokens = TokenOptimizer(model, inversion.prompt, plan.positions, settings.tokens, tracker)  # line 5
    null_text = NullTextOptimizer(model, settings.guidance, settings.null_text, tracker)
    z = inversion.pivot(0)  # line 6: z̄_T = z_T, ∅_T = τ_θ("")
    vectors, trajectory = [], [z]
    null = [null_text.initial_context()] if optimizes_null else []
    with torch.inference_mode(False), torch.enable_grad():
        for i, (timestep, following) in enumerate(step_pairs(inversion.timesteps)):  # line 7
            with tracker.stage("tokens"):
                if i < settings.tokens.tuned_steps(inversion.steps):
                    tokens.start_timestep(z, timestep)
                    _optimize_tokens(tokens, plan.objective, i)
                vectors.append(tokens.vectors.detach())  # line 15: V_{t-1} ← V_t
                tracker.report(i + 1, inversion.steps, z)
            if optimizes_null:
                with tracker.stage("null-text"):
                    with torch.no_grad():
                        context = tokens.context()
                    target = inversion.pivot(i + 1).clone()
                    step = (i, timestep, following)
                    null_context, z = null_text.optimize(step, z.clone(), context, null[-1], target)  # lines 13, 14
                    null.append(null_context)  # line 15: ∅_{t-1} ← ∅_t
                    tracker.report(i + 1, inversion.steps, z)
                    trajectory.append(z)
            else:
                z = inversion.pivot(i + 1)
    optimized = inversion.with_tokens(plan.positions, torch.stack(vectors))  # line 18
    if optimizes_null:
        return with_null_text(optimized, null[1:], trajectory, settings.guidance)
    return reconstruct_by(
        settings.null_method, model, optimized, settings.guidance, settings.null_text, tracker=tracker
    )


def _optimize_tokens(tokens: TokenOptimizer, objective: AttentionObjective, i: int) -> None:
    """Lines 8 to 12, for V_t at z̄_t: gradient steps until every loss is under its threshold of step i."""
    for _ in range(tokens.settings.inner_steps):
        losses = objective(tokens.attention_maps(), i)  # lines 8, 9: C_t = τ_θ(P_t); L_sim, L_ovl, L_adj
        if losses.satisfied:  # line 10: while L_sim ≥ TH_sim or L_ovl ≥ TH_ovl or L_adj ≥ TH_adj
            return
        tokens.descend(losses.total)  # line 11: V_t ← V_t − ∇L
    if tokens.settings.solver == "fast":  # ours: its long steps may overshoot
        with torch.no_grad():
            tokens.keep_best(objective(tokens.attention_maps(), i).total)
