"""Optimize Tokens, and LocInv's Algorithm 1 in one node."""

from __future__ import annotations

from typing import TYPE_CHECKING

from comfy_api.latest import io

from ..locinv_core.options import NULL_METHODS, SOLVERS, NullMethod, Solver
from .bridge import types as sockets
from .bridge.inputs import guidance_input, image_input, model_input, prompt_input, steps_input
from .inversion import NULL_TOOLTIP, inversion_output, invert

if TYPE_CHECKING:
    from torch import Tensor

    from ..locinv_core.localization.priors import LocalizationPrior
    from ..locinv_core.text.prompt import Prompt
    from .bridge.inverted_image import InvertedImage
    from .bridge.managed_model import ManagedModel

OBJECTIVES = ["locinv", "dpl"]


def _solver_input() -> io.Input:
    return io.Combo.Input(
        "solver",
        options=list(SOLVERS),
        default="fast",
        tooltip="'fast' tunes against attention queries taken once at each step, with no gradient through the"
        " UNet; 'exact' is as published: better founded, and many times as slow.",
    )


def _inner_steps_input() -> io.Input:
    return io.Int.Input(
        "inner_steps",
        default=0,
        min=0,
        max=31,
        tooltip="Tuning steps at each timestep, at most; it stops early when the words are in place. 0 is the"
        " solver's own: 16 for fast, 31 for exact.",
    )


def _bind_input() -> io.Input:
    return io.Boolean.Input(
        "bind_adjectives",
        default=False,
        tooltip="Also tie each adjective to its object, so that both look at the same place. For edits that"
        " change a colour or a material; leave it off for swaps.",
    )


class OptimizeTokens(io.ComfyNode):
    """Tunes the words until they look where their objects are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointOptimizeTokens",
            display_name="Optimize Tokens",
            category="Pinpoint/tokens",
            description="Tunes the words of the prompt, step by step, until each looks only at its own place."
            " The model itself stays as it is.",
            inputs=[
                sockets.Inversion.Input("inversion", tooltip="From DDIM Invert."),
                sockets.Prior.Input(
                    "prior",
                    optional=True,
                    tooltip="Where the words' objects are. 'locinv' needs it; 'dpl' takes only its words.",
                ),
                io.Combo.Input(
                    "objective",
                    options=OBJECTIVES,
                    default="locinv",
                    tooltip="'locinv' draws each word's attention into its prior. 'dpl' (Dynamic Prompt"
                    " Learning) knows no places: it keeps the objects apart from each other and from the"
                    " background.",
                ),
                _solver_input(),
                _bind_input(),
                _inner_steps_input(),
                io.Float.Input(
                    "learning_rate",
                    default=0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    tooltip="How far a tuning step goes, in units of the model's own word vectors. 0 is the"
                    " solver's own: 20 for fast, whose steps grow shorter at each timestep, 5 for exact.",
                ),
                io.Float.Input(
                    "share",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="The share of the steps, from the noisiest on, in which words are tuned; later"
                    " steps keep the last vectors. Less is faster.",
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
        inner_steps: int,
        learning_rate: float,
        share: float,
        prior: LocalizationPrior | None = None,
    ) -> io.NodeOutput:
        from dataclasses import replace

        from ..locinv_core.localization.algorithm1 import LocInvSettings, locinv
        from ..locinv_core.localization.plan import placed_bindings, plan_tuning
        from ..locinv_core.localization.token_optimizer import TuningSettings
        from ..methods.dpl import plan_dpl
        from .bridge.progress import node_run

        settings = TuningSettings.for_solver(solver)
        settings = replace(
            settings,
            inner_steps=inner_steps or settings.inner_steps,
            learning_rate=learning_rate or settings.learning_rate,
            share=share,
        )
        if objective == "locinv" and prior is None:
            raise ValueError("prior: got none; 'locinv' tunes words towards their places, requires a mask or a box")
        source = inversion.inversion.prompt
        framed = None if prior is None else inversion.framed(prior)
        tracker = node_run("tokens")
        with inversion.model.ready() as model:
            if objective == "dpl" or framed is None:
                plan = plan_dpl(model, inversion.inversion, framed, tracker=tracker)
            else:
                bindings = placed_bindings(source, framed) if bind_adjectives else ()
                plan = plan_tuning(source, framed, model.grid(*framed.size), bindings)
            alone = LocInvSettings(null_method="none", tokens=settings)
            tuned = locinv(model, inversion.inversion, plan, alone, tracker=tracker)
        tracker.show_cost()
        return io.NodeOutput(inversion.with_inversion(tuned))


class LocInv(io.ComfyNode):
    """Algorithm 1 of LocInv in one node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PinpointLocInv",
            display_name="LocInv",
            category="Pinpoint/inversion",
            description="DDIM Invert, Optimize Tokens and Null-Text Inversion in one node, as LocInv's"
            " Algorithm 1 has them: words and null text are tuned in turn at every step.",
            inputs=[
                model_input(),
                image_input(),
                prompt_input(),
                sockets.Prior.Input("prior", tooltip="Where the words' objects are."),
                steps_input(),
                guidance_input(),
                io.Combo.Input("null_text", options=list(NULL_METHODS), default="direct", tooltip=NULL_TOOLTIP),
                _solver_input(),
                _bind_input(),
                _inner_steps_input(),
                io.Boolean.Input(
                    "interleaved",
                    default=True,
                    tooltip="Only for 'null-text': tune the words at the latents that sampling passes"
                    " through, as published; off, words first and null text after.",
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
        from dataclasses import replace

        from ..locinv_core.localization.algorithm1 import LocInvSettings, locinv
        from ..locinv_core.localization.plan import placed_bindings, plan_tuning
        from ..locinv_core.localization.token_optimizer import TuningSettings

        prior.check_against(prompt)
        settings = TuningSettings.for_solver(solver)
        settings = replace(settings, inner_steps=inner_steps or settings.inner_steps)
        later = ["tokens", "null-text"] if null_text == "null-text" else ["tokens"]
        inverted, tracker = invert(model, image, prompt, steps, *later, prior=prior)
        framed = inverted.framed(prior)
        with model.ready() as ready:
            bindings = placed_bindings(prompt, framed) if bind_adjectives else ()
            plan = plan_tuning(prompt, framed, ready.grid(*framed.size), bindings)
            tuned = locinv(
                ready,
                inverted.inversion,
                plan,
                LocInvSettings(guidance, null_text, interleaved, settings),
                tracker=tracker,
            )
        tracker.show_cost()
        return io.NodeOutput(inverted.with_inversion(tuned))
