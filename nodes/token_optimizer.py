"""Optimize Tokens, and LocInv's Algorithm 1 in one node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from comfy_api.latest import io

from ..locinv_core.options import SOLVERS
from .bridge import types
from .bridge.inputs import (
    choice,
    guidance_input,
    image_input,
    model_input,
    null_input,
    number,
    prompt_input,
    steps_input,
    switch,
    whole,
)
from .bridge.outputs import inversion_output
from .inversion import invert

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localization.priors import LocalizationPrior
    from ..locinv_core.localization.token_optimizer import TuningSettings
    from ..locinv_core.options import NullMethod, Solver
    from ..locinv_core.text.prompt import Prompt
    from .bridge.memory import ManagedModel
    from .bridge.payloads import InvertedImage


def _optimizer_inputs() -> list[io.Input]:
    """solver, bind_adjectives, inner_steps."""
    return [
        choice(
            "solver",
            SOLVERS,
            "'fast' optimizes against attention queries taken once at each step, with no gradient through the"
            " UNet; 'exact' is as published: better founded, and many times as slow.",
            "fast",
        ),
        switch(
            "bind_adjectives",
            False,
            "Also bind each adjective to its object, so that the attention of both covers the same region (LocInv"
            " Eq. 8). For edits that change a colour or a material; leave it off for swaps.",
        ),
        whole(
            "inner_steps",
            0,
            (0, 31),
            "Optimization steps at each timestep, at most; it stops early when the losses are under their"
            " thresholds. 0 is the solver's own: 16 for fast, 31 for exact.",
        ),
    ]


class OptimizeTokens(io.ComfyNode):
    """Optimizes token embeddings so that cross-attention stays inside the prior."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointOptimizeTokens",
            display_name="Optimize Tokens",
            category="Pinpoint/tokens",
            description="Optimizes the embeddings of the prompt's words, step by step, so that the cross-attention"
            " of each stays inside its mask or box. The model itself stays as it is.",
            inputs=[
                types.Inversion.Input("inversion", tooltip="From DDIM Invert."),
                types.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="The mask or box of each word's object. Required by 'locinv'; 'dpl' takes only its words.",
                ),
                choice(
                    "objective",
                    ["locinv", "dpl"],
                    "'locinv' draws each word's attention into its prior. 'dpl' (Dynamic Prompt Learning) has no"
                    " prior: it keeps the objects' attention apart from each other and from the background.",
                    "locinv",
                ),
                *_optimizer_inputs(),
                number(
                    "learning_rate",
                    0.0,
                    (0.0, 100.0, 0.1),
                    "How far an optimization step goes, in units of the model's own word vectors. 0 is the solver's"
                    " own: 20 for fast, whose steps grow shorter at each timestep, 5 for exact.",
                ),
                number(
                    "share",
                    1.0,
                    (0.01, 1.0, 0.01),
                    "The share of the steps, from the noisiest on, in which tokens are optimized; later steps keep"
                    " the last vectors. Less is faster.",
                ),
            ],
            outputs=[inversion_output()],
        )

    @classmethod
    def execute(
        cls,
        inversion: InvertedImage,
        objective: str,
        solver: Solver,
        bind_adjectives: bool,
        prior: LocalizationPrior | None = None,
        **chosen: Any,
    ) -> io.NodeOutput:
        from ..locinv_core.localization.algorithm1 import LocInvSettings, locinv
        from ..locinv_core.localization.plan import placed_bindings, plan_tuning
        from ..methods.dpl import plan_dpl
        from .bridge.progress import node_tracker

        settings = _settings(solver, chosen)
        if objective == "locinv" and prior is None:
            raise ValueError("prior: got none; objective 'locinv' requires a prior: connect a mask or a box")
        source = inversion.inversion.prompt
        padded = None if prior is None else inversion.padded(prior)
        tracker = node_tracker("tokens")
        with inversion.model.ready() as model:
            if objective == "dpl" or padded is None:
                plan = plan_dpl(model, inversion.inversion, padded, tracker=tracker)
            else:
                bindings = placed_bindings(source, padded) if bind_adjectives else ()
                plan = plan_tuning(source, padded, model.grid(*padded.size), bindings)
            alone = LocInvSettings(null_method="none", tokens=settings)
            optimized = locinv(model, inversion.inversion, plan, alone, tracker=tracker)
        tracker.show_cost()
        return io.NodeOutput(inversion.with_inversion(optimized))


class LocInv(io.ComfyNode):
    """Algorithm 1 of LocInv in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLocInv",
            display_name="LocInv",
            category="Pinpoint/inversion",
            description="DDIM Invert, Optimize Tokens and Null-Text Inversion in one node, as LocInv's"
            " Algorithm 1 has them: tokens and null text are optimized in turn at every step.",
            inputs=[
                model_input(),
                image_input(),
                prompt_input(),
                types.Prior.Input("prior", tooltip="The mask or box of each word's object."),
                steps_input(),
                guidance_input(),
                null_input("null_text"),
                *_optimizer_inputs(),
                switch(
                    "interleaved",
                    True,
                    "Only for 'null-text': optimize the tokens at the latents that sampling passes through, as"
                    " published; off, tokens first and null text after.",
                ),
            ],
            outputs=[inversion_output()],
        )

    @classmethod
    def execute(
        cls,
        model: ManagedModel,
        image: Tensor,
        prompt: Prompt,
        prior: LocalizationPrior,
        steps: int,
        guidance: float,
        null_text: NullMethod,
        solver: Solver,
        bind_adjectives: bool,
        inner_steps: int,
        interleaved: bool,
    ) -> io.NodeOutput:
        from ..locinv_core.localization.algorithm1 import LocInvSettings, locinv
        from ..locinv_core.localization.plan import placed_bindings, plan_tuning

        prior.check_against(prompt)
        tokens = _settings(solver, {"inner_steps": inner_steps})
        settings = LocInvSettings(guidance, null_text, interleaved, tokens)
        later = ["tokens", "null-text"] if null_text == "null-text" else ["tokens"]
        inverted, tracker = invert(model, image, prompt, steps, *later, prior=prior)
        padded = inverted.padded(prior)
        with model.ready() as ready:
            bindings = placed_bindings(prompt, padded) if bind_adjectives else ()
            plan = plan_tuning(prompt, padded, ready.grid(*padded.size), bindings)
            optimized = locinv(ready, inverted.inversion, plan, settings, tracker=tracker)
        tracker.show_cost()
        return io.NodeOutput(inverted.with_inversion(optimized))


NODES = [OptimizeTokens, LocInv]


def _settings(solver: Solver, chosen: dict[str, Any]) -> TuningSettings:
    """The solver's settings with those that are chosen: 0 leaves its own."""
    from dataclasses import replace

    from ..locinv_core.localization.token_optimizer import TuningSettings

    return replace(TuningSettings.for_solver(solver), **{name: value for name, value in chosen.items() if value})
