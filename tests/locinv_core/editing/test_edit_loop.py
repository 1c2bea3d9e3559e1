"""The edit's loop: what it costs, what the branches become, and what it refuses."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.editing.edit import edit
from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion, ddim_invert
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.text.prompt import Prompt, empty_prompt
from pinpoint.tests.fixtures.slow_prompt_to_prompt import SlowPlan, slow_edit
from pinpoint.tests.locinv_core.editing.setting import FREE, SIDE, STEPS, L

# --- cost -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize(
    ("method", "source_passes"),
    [("direct", 1), ("null-text", 1), ("negative-prompt", 1), ("proximal", 1), ("none", 2)],
)
def test_a_step_costs_the_sources_passes_and_two_for_each_target(tiny_model, parse, inverted, method, source_passes, n):
    tracker = CostTracker()
    edit(tiny_model, inverted(method), [parse("a fox and a dog")] * n, tracker=tracker)
    assert tracker.forward_equivalents == {"edit": STEPS * (source_passes + 2 * n)}


@pytest.mark.parametrize("method", ["direct", "null-text", "negative-prompt", "none"])
def test_at_guidance_1_nothing_runs_unconditionally(tiny_model, parse, inverted, method):
    tracker = CostTracker()
    edit(tiny_model, inverted(method), [parse("a fox")] * 2, EditSettings(guidance=1.0), tracker=tracker)
    assert tracker.total == STEPS * 3


def test_progress_counts_every_step_and_shows_the_targets(tiny_model, parse, inverted):
    seen = []
    tracker = CostTracker(lambda *report: seen.append(report))
    result = edit(tiny_model, inverted(), [parse("a fox"), parse("a cow")], tracker=tracker)
    assert [(stage, step, steps) for stage, step, steps, _ in seen] == [("edit", i, STEPS) for i in range(1, STEPS + 1)]
    assert torch.equal(seen[-1][3], result.latents)


# --- the branches -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_at_guidance_1_without_injection_it_is_plain_ddim_sampling_of_the_target(kind, tiny_model, tiny_v_model, parse):
    model = tiny_model if kind == "epsilon" else tiny_v_model
    z0 = torch.randn(1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(5))
    inversion = ddim_invert(model, z0, parse("a cat"), STEPS)
    target = parse("two yellow foxes")
    result = edit(model, inversion, [target], replace(FREE, guidance=1.0))

    scheduler = DDIMScheduler.from_config(dict(model.schedule.config))
    scheduler.set_timesteps(STEPS)
    with torch.no_grad():
        context = model.text_encoder(torch.tensor([target.token_ids]))[0]
        z = inversion.latents[-1:]
        for t in scheduler.timesteps:
            z = scheduler.step(model.unet(z, t, encoder_hidden_states=context).sample, t, z).prev_sample
    torch.testing.assert_close(result.latents, z, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_target_that_is_the_source_stays_on_the_source_branch(tiny_model, parse, inverted, guidance):
    settings = EditSettings(guidance=guidance)
    result = edit(tiny_model, inverted("none"), [parse("a cat and a dog")], settings)
    torch.testing.assert_close(result.latents, result.source_latents, rtol=1e-3, atol=1e-4)


def test_direct_inversion_ends_the_source_branch_in_the_image_itself(tiny_model, parse, inverted):
    inversion = inverted("direct")
    assert torch.equal(edit(tiny_model, inversion, [parse("a fox")]).source_latents, inversion.latents[:1])


def test_null_text_replays_the_branch_of_its_optimisation(tiny_model, parse, inverted, spy):
    inversion = inverted("null-text")
    spy.latents.clear()
    result = edit(tiny_model, inversion, [parse("a fox")], FREE)
    assert torch.equal(result.source_latents, inversion.trajectory[:1])
    for i, latents in enumerate(spy.latents):
        assert torch.equal(latents[0], inversion.trajectory[STEPS - i])


def test_the_whole_edit_is_what_a_plain_slow_version_makes(tiny_model, parse, inverted):
    """Swap, both replacements, a word's own range and a factor, with Direct Inversion."""
    inversion = inverted("direct", "a cat and a dog")  # tokens: 1 a, 2 cat, 3 and, 4 a, 5 dog
    target = parse("a fox and a dog")
    settings = EditSettings(
        guidance=3.0,
        cross_replace_steps={"default_": 0.6, "fox": (0.2, 1.0)},
        self_replace_steps=0.4,
        equalizer={"dog": 2.0},
        local_blend="off",
    )
    weights = torch.zeros(STEPS, L)
    weights[:3] = 1  # 0.6 of 5 steps
    weights[:, 2] = torch.tensor([0.0, 1, 1, 1, 1])
    factors = torch.ones(L)
    factors[5] = 2.0
    # Maps are read on level 1, 8×8 cells; the 16×16 layers keep their own self-attention.
    coarse = frozenset(s.name for s in tiny_model.layers if s.kind == "self" and s.level == 1)
    assert 0 < len(coarse) < sum(s.kind == "self" for s in tiny_model.layers)
    contexts = tuple(
        tiny_model.encode_prompt(p) for p in (inversion.prompt, target, empty_prompt(tiny_model.tokenizer))
    )
    pivots = [inversion.latents[STEPS - i][None] for i in range(STEPS + 1)]
    expected = slow_edit(tiny_model, pivots, contexts, SlowPlan(torch.eye(L), weights, factors, 2, coarse), 3.0)
    result = edit(tiny_model, inversion, [target], settings)
    torch.testing.assert_close(result.latents, expected, rtol=1e-3, atol=1e-3)
    # and each of the four has a part in it
    for without in (
        replace(settings, cross_replace_steps={"default_": 0.0, "fox": (0.2, 1.0)}),
        replace(settings, self_replace_steps=0.0),
        replace(settings, cross_replace_steps=0.6),
        replace(settings, equalizer={}),
    ):
        other = edit(tiny_model, inversion, [target], without)
        assert float((other.latents - expected).abs().max()) > 5e-3, without


@pytest.mark.parametrize("method", ["direct", "none"])
def test_several_targets_in_one_batch_are_what_they_are_alone(tiny_model, parse, inverted, method):
    inversion = inverted(method)
    texts = ["a fox and a dog", "a cat and a big brown dog", "a cat"]
    settings = EditSettings(guidance=3.0, cross_replace_steps={"fox": 0.5}, equalizer={"brown": 2.0})
    together = edit(tiny_model, inversion, [parse(t) for t in texts], settings)
    for k, text in enumerate(texts):
        mine = replace(
            settings,
            cross_replace_steps={"fox": 0.5} if "fox" in text else 0.8,
            equalizer={w: v for w, v in settings.equalizer.items() if w in text},
        )
        alone = edit(tiny_model, inversion, [parse(text)], mine)
        torch.testing.assert_close(together.latents[k : k + 1], alone.latents, rtol=1e-3, atol=1e-3)
        assert list(together.target_maps[k]) == list(alone.target_maps[0])


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        ("none", ["source", "empty", "empty", "empty", "fox", "cow"]),
        ("direct", ["source", "empty", "empty", "fox", "cow"]),
        ("null-text", ["source", "null", "null", "fox", "cow"]),
        ("negative-prompt", ["source", "source", "source", "fox", "cow"]),
        ("proximal", ["source", "source", "source", "fox", "cow"]),
    ],
)
def test_each_method_gives_the_unconditional_rows_their_context(tiny_model, parse, inverted, spy, method, rows):
    inversion = inverted(method)
    spy.keys.clear()
    fox, cow = parse("a fox"), parse("a cow")
    edit(tiny_model, inversion, [fox, cow])
    encode = tiny_model.encode_prompt
    for i, keys in enumerate(spy.keys):
        contexts = {
            "source": encode(inversion.prompt)[0],
            "empty": encode(empty_prompt(tiny_model.tokenizer))[0],
            "null": inversion.null_text[i] if inversion.null_text is not None else None,
            "fox": encode(fox)[0],
            "cow": encode(cow)[0],
        }
        assert len(keys) == len(rows)
        for got, name in zip(keys, rows, strict=True):
            assert torch.equal(got, contexts[name]), name


# --- what it leaves alone ---------------------------------------------------------------------------------


def test_an_edit_changes_neither_the_model_nor_the_inversion(tiny_model, parse, inverted):
    inversion = inverted()
    weights = {name: w.clone() for name, w in tiny_model.unet.state_dict().items()}
    latents, processors = inversion.latents.clone(), tiny_model.unet.attn_processors
    prior = from_boxes({"cat": (0, 0, 32, 32)}, (64, 64))
    result = edit(tiny_model, inversion, [parse("a fox and a dog")], EditSettings(local_blend="prior"), prior=prior)
    result.latents.zero_(), result.source_latents.zero_()
    assert torch.equal(inversion.latents, latents)
    assert all(torch.equal(w, weights[name]) for name, w in tiny_model.unet.state_dict().items())
    assert tiny_model.unet.attn_processors == processors


def test_a_cancel_passes_through_and_leaves_the_model_as_it_was(tiny_model, parse, inverted):
    class Cancelled(Exception):
        pass

    def stop(stage: str, step: int, steps: int, preview_latents: Tensor | None) -> None:
        if step == 2:
            raise Cancelled

    processors = tiny_model.unet.attn_processors
    tracker = CostTracker(stop)
    with pytest.raises(Cancelled):
        edit(tiny_model, inverted(), [parse("a fox")], tracker=tracker)
    assert tiny_model.unet.attn_processors == processors
    assert tracker.total == 2 * 3 and tracker.current == "other"


def test_an_error_inside_a_pass_leaves_the_model_as_it_was(tiny_model, parse, monkeypatch):
    processors = tiny_model.unet.attn_processors

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken layer")

    monkeypatch.setattr(tiny_model.unet.up_blocks[0], "forward", broken)
    with pytest.raises(RuntimeError, match="broken layer"):
        edit(tiny_model, _random_inversion(tiny_model, parse("a cat")), [parse("a fox")])
    assert tiny_model.unet.attn_processors == processors


def _random_inversion(model: EditModel, prompt: Prompt) -> Inversion:
    latents = torch.randn(STEPS + 1, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(8))
    return Inversion(latents, model.schedule.timesteps(STEPS), prompt, model.fingerprint, null_method="direct")


def test_it_runs_in_inference_mode_and_leaves_nothing_that_autograd_refuses(tiny_model, parse, inverted):
    inversion = inverted()
    with torch.inference_mode():
        edit(tiny_model, inversion, [parse("a fox")])
    context = tiny_model.encode_prompt(inversion.prompt).clone().requires_grad_()
    tiny_model.predict_noise(inversion.pivot(0), 1, context).sum().backward()
    assert context.grad is not None


def test_a_half_precision_model_keeps_latents_in_float32(tiny_model, parse, inverted):
    model = replace(
        tiny_model,
        unet=deepcopy(tiny_model.unet).to(torch.bfloat16),
        text_encoder=deepcopy(tiny_model.text_encoder).to(torch.bfloat16),
        _shares={},
    )
    inversion = replace(_random_inversion(model, parse("a cat")), fingerprint=model.fingerprint)
    settings = EditSettings(local_blend="map", equalizer={"fox": 2.0})
    result = edit(model, inversion, [parse("a fox")], settings)
    assert result.latents.dtype == result.source_latents.dtype == torch.float32
    assert bool(result.latents.isfinite().all())


# --- bad input --------------------------------------------------------------------------------------------


def test_an_inversion_of_another_model_is_refused(tiny_model, parse, inverted):
    with pytest.raises(ValueError, match="fingerprint"):
        edit(tiny_model, replace(inverted(), fingerprint="another"), [parse("a fox")])


def test_no_targets_are_refused(tiny_model, inverted):
    with pytest.raises(ValueError, match="targets: got none"):
        edit(tiny_model, inverted(), [])


def test_a_target_of_another_tokenizer_is_refused(tiny_model, parse, inverted):
    short = replace(parse("a fox"), token_ids=parse("a fox").token_ids[:32])
    with pytest.raises(ValueError, match="32 padded tokens, requires the 77"):
        edit(tiny_model, inverted(), [short])


@pytest.mark.parametrize("setting", [{"cross_replace_steps": {"cow": 1.0}}, {"equalizer": {"cow": 2.0}}])
def test_a_word_that_no_target_has_is_refused_with_the_words_there_are(tiny_model, parse, inverted, setting):
    tracker = CostTracker()
    with pytest.raises(ValueError, match=r"'cow' is in no target prompt.*a, fox.*two, dogs"):
        edit(tiny_model, inverted(), [parse("a fox"), parse("two dogs")], EditSettings(**setting), tracker=tracker)
    assert tracker.total == 0


def test_a_prior_of_another_size_or_word_is_refused(tiny_model, parse, inverted):
    small = from_boxes({"cat": (0, 0, 16, 16)}, (32, 48))
    with pytest.raises(ValueError, match="48x32 pixels, requires the inverted image's 64x64"):
        edit(tiny_model, inverted(), [parse("a fox")], prior=small)
    other = from_boxes({"cow": (0, 0, 16, 16)}, (64, 64))
    with pytest.raises(ValueError, match="cow"):
        edit(tiny_model, inverted(), [parse("a fox")], prior=other)
