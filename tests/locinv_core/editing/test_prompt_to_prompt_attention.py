"""The plan and the control by themselves: word ranges, mapping, factors, the maps that are kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from pinpoint.locinv_core.backbones.attention import AttentionLayer
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.editing.attention_control import (
    AttentionPlan,
    PromptToPromptControl,
    plan_attention,
)
from pinpoint.locinv_core.editing.edit import edit
from pinpoint.locinv_core.editing.settings import EditSettings, step_of
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion
from pinpoint.locinv_core.text.prompt import Prompt, parse_prompt
from pinpoint.locinv_core.text.word_alignment import align
from pinpoint.tests.fixtures.slow_prompt_to_prompt import unet_with

Parse = Callable[[str], Prompt]
CROSS = AttentionLayer("cross", "cross", "down", 1, 2)
SELF = AttentionLayer("self", "self", "down", 1, 2)
FINE = AttentionLayer("fine", "self", "down", 0, 2)


@pytest.fixture(name="parse")
def _parse(tiny_model: EditModel) -> Parse:
    return lambda text: parse_prompt(text, tiny_model.tokenizer, nouns=[], bindings=[])


def planned(parse: Parse, source: str, targets: list[str], steps: int = 10, **settings) -> AttentionPlan:
    prompts = [parse(text) for text in targets]
    alignments = [align(parse(source), prompt) for prompt in prompts]
    return plan_attention(prompts, alignments, EditSettings(**settings), steps, [CROSS, SELF, FINE], 1)


@pytest.mark.parametrize(
    ("share", "steps", "expected"),
    [(0.0, 50, 0), (1.0, 50, 50), (0.8, 50, 40), (0.07, 100, 7), (0.29, 100, 29), (0.33, 10, 3), (0.2, 3, 1)],
)
def test_a_share_is_the_nearest_step(share, steps, expected):
    assert step_of(share, steps) == expected


def test_a_words_range_replaces_the_common_one_for_its_tokens_alone(parse):
    # tokens: 1 a, 2 fox, 3 and, 4 a, 5 dog
    plan = planned(
        parse, "a cat and a dog", ["a fox and a dog"], cross_replace_steps={"default_": 0.5, "fox": (0.2, 0.8)}
    )
    common = [1, 1, 1, 1, 1, 0, 0, 0, 0, 0]
    fox = [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert plan.weights[:, 0, 2].tolist() == fox
    for position in (0, 1, 3, 4, 5, 6, 76):
        assert plan.weights[:, 0, position].tolist() == common


def test_a_range_covers_every_token_of_its_word_and_the_occurrence_that_was_named(parse):
    # tokens: 1 a, 2 mountain, 3 lion, 4 and, 5 a, 6 lion
    plan = planned(
        parse,
        "a cat and a dog",
        ["a mountain lion and a lion"],
        cross_replace_steps={"default_": 0.0, "mountain lion": 0.1, "lion#2": (0.9, 1)},
    )
    assert plan.weights[0, 0].nonzero().flatten().tolist() == [2, 3]
    assert plan.weights[9, 0].nonzero().flatten().tolist() == [6]


def test_an_inserted_word_keeps_its_own_map_in_every_step(parse):
    # tokens: 1 a, 2 red, 3 cat
    plan = planned(parse, "a cat", ["a red cat"], cross_replace_steps={"default_": 1.0, "red": (0, 1)})
    assert plan.weights[:, 0, 2].tolist() == [0.0] * 10
    assert bool((plan.weights[:, 0, [0, 1, 3, 4]] == 1).all())


def test_a_factor_holds_for_the_targets_that_have_the_word(parse):
    plan = planned(parse, "a cat", ["a red cat", "a cat", "a red, red cat"], equalizer={"red": 3.0})
    assert [row.tolist() for row in (plan.factors != 1).nonzero()] == [[0, 2], [2, 2]]
    assert plan.factors[0, 2] == plan.factors[2, 2] == 3.0


def control_for(plan: AttentionPlan) -> PromptToPromptControl:
    return PromptToPromptControl(plan, 0, map_layers=[CROSS], device=torch.device("cpu"))


def small_plan(weights: list[float], factors: list[float], self_steps: int = 1) -> AttentionPlan:
    """Three tokens: target 0 is source 0, target 1 the mean of source 1 and 2, target 2 has none."""
    mapper = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.5, 0.0]])
    return AttentionPlan(
        mapper[None], torch.tensor([[weights]]), torch.tensor([factors]), self_steps, frozenset({"self"})
    )


def test_cross_attention_is_mixed_and_weighed_as_worked_out_by_hand():
    rows = torch.tensor([[0.5, 0.3, 0.2], [0.6, 0.2, 0.2], [0.1, 0.2, 0.7]])  # source, unconditional, target
    probabilities = rows[:, None, None].expand(3, 2, 4, 3).clone()
    control = control_for(small_plan([1.0, 0.5, 0.0], [1.0, 2.0, 3.0]))
    changed = control.probabilities(CROSS, probabilities)
    # 1·0.5; 2·(½·(0.3+0.2)/2 + ½·0.2) = 0.45; 3·0.7
    expected = torch.tensor([0.5, 0.45, 2.1])
    torch.testing.assert_close(changed[2], expected.expand(2, 4, 3))
    assert torch.equal(changed[:2], probabilities[:2])
    maps = control.maps()
    torch.testing.assert_close(maps, torch.stack([rows[0].expand(4, 3), expected.expand(4, 3)]))


def test_self_attention_takes_the_sources_probabilities_and_its_own_values():
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(3, 2, 6, 4, generator=generator) for _ in range(3))
    control = control_for(small_plan([1.0] * 3, [1.0] * 3))
    q, k, v = control.inputs(SELF, query, key, value)
    got = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    probabilities = torch.softmax(query @ key.mT / 2, dim=-1)
    torch.testing.assert_close(got[2], probabilities[0] @ value[2])
    torch.testing.assert_close(got[:2], (probabilities @ value)[:2])
    assert not control.needs_probabilities(SELF)


def test_self_attention_is_left_alone_on_finer_grids_and_after_its_share():
    query = torch.randn(3, 2, 6, 4)
    plan = small_plan([1.0] * 3, [1.0] * 3, self_steps=0)
    for control, layer in ((control_for(plan), SELF), (control_for(replace(plan, self_steps=1)), FINE)):
        q, k, _ = control.inputs(layer, query, query, query)
        assert q is query and k is query


def test_levels_from_that_of_the_word_maps_on_have_their_self_attention_replaced(parse):
    assert planned(parse, "a cat", ["a dog"]).self_layers == {"self"}


def test_layers_that_are_neither_changed_nor_read_keep_the_fused_kernel():
    other = replace(CROSS, name="other")
    assert control_for(small_plan([1.0, 0, 0], [1.0] * 3)).needs_probabilities(other)
    assert control_for(small_plan([0.0] * 3, [1.0, 2.0, 1.0])).needs_probabilities(other)
    idle = control_for(small_plan([0.0] * 3, [1.0] * 3))
    assert not idle.needs_probabilities(other) and idle.needs_probabilities(CROSS)


def test_a_pass_that_missed_a_layer_has_no_maps():
    with pytest.raises(RuntimeError, match="0 of 1"):
        control_for(small_plan([1.0] * 3, [1.0] * 3)).maps()


# --- through a model --------------------------------------------------------------------------------------


def inversion_of(model: EditModel, prompt: Prompt, steps: int = 3) -> Inversion:
    latents = torch.randn(steps + 1, 4, 16, 24, generator=torch.Generator().manual_seed(8))
    return Inversion(latents, model.schedule.timesteps(steps), prompt, model.fingerprint, null_method="direct")


def test_maps_are_what_diffusers_own_attention_shows_at_the_layers_read(tiny_model, parse):
    source = parse("a mountain lion and a cat, and a cat")
    inversion = inversion_of(tiny_model, source)
    result = edit(tiny_model, inversion, [parse("a fox")])
    context = tiny_model.encode_prompt(source)
    means = []
    for i, timestep in enumerate(inversion.timesteps):
        seen: dict[str, torch.Tensor] = {}

        def keep(name: str, p: torch.Tensor, seen: dict[str, torch.Tensor] = seen) -> torch.Tensor:
            seen[name] = p
            return p

        unet_with(tiny_model, inversion.pivot(i), timestep, context, keep)
        # Level 1 of 16×24 latents is a grid of 8×12; there is one such layer down and two up.
        read = [p for name, p in seen.items() if name.endswith("attn2") and p.shape[2] == 96 and "mid" not in name]
        assert len(read) == 3
        means.append(torch.stack(read).mean(dim=(0, 1, 2)))
    expected = torch.stack(means).mean(dim=0).reshape(8, 12, 77)
    # tokens: 1 a, 2 mountain, 3 lion, 4 and, 5 a, 6 cat, 7 comma, 8 and, 9 a, 10 cat
    assert list(result.source_maps) == ["a", "mountain", "lion", "and", "a#2", "cat", "and#2", "a#3", "cat#2"]
    for name, token in (("lion", 3), ("cat", 6), ("cat#2", 10)):
        torch.testing.assert_close(result.source_maps[name], expected[..., token], rtol=1e-4, atol=1e-6)


def test_a_word_of_several_tokens_has_the_mean_of_their_maps(tiny_model, parse):
    inversion = inversion_of(tiny_model, parse("a cat"))
    target = parse("an axolotl")
    tokens = target.find("axolotl").tokens
    assert len(tokens) > 1
    # Every token of the swapped word takes the whole map of "cat" when it follows in all steps.
    result = edit(tiny_model, inversion, [target], EditSettings(cross_replace_steps=1.0))
    torch.testing.assert_close(result.target_maps[0]["axolotl"], result.source_maps["cat"])


def test_a_factor_of_one_is_no_edit_and_one_of_zero_silences_the_word(tiny_model, parse):
    inversion = inversion_of(tiny_model, parse("a cat"))
    target = [parse("a red cat")]
    plain = edit(tiny_model, inversion, target)
    same = edit(tiny_model, inversion, target, EditSettings(equalizer={"red": 1.0}))
    assert torch.equal(plain.latents, same.latents)
    silent = edit(tiny_model, inversion, target, EditSettings(equalizer={"red": 0.0}))
    assert not bool(silent.target_maps[0]["red"].any())
    assert float((silent.latents - plain.latents).abs().max()) > 1e-3
