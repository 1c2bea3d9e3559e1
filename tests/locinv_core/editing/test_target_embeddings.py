"""What a target prompt carries of the source's tuned vectors."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from pinpoint.locinv_core.editing.edit import edit
from pinpoint.locinv_core.editing.prompt_to_prompt import carried_positions
from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion
from pinpoint.locinv_core.text.word_alignment import align
from pinpoint.tests.locinv_core.editing.setting import FREE, STEPS


def tuned(inversion: Inversion, positions: tuple[int, ...]) -> Inversion:
    vectors = torch.randn(STEPS, len(positions), 32, generator=torch.Generator().manual_seed(7))
    method = inversion.null_method
    return replace(inversion.with_tokens(positions, vectors), null_method=method)


@pytest.mark.parametrize(
    ("target", "pairs"),
    [
        ("a cat and a dog", ((0, 2), (1, 5))),
        ("a fox and a dog", ((1, 5),)),
        # one token becomes two: the dog moves along
        ("a mountain lion and a dog", ((1, 6),)),
        ("a big cat, and a dog.", ((0, 3), (1, 7))),
        ("a Cat", ((0, 2),)),
        ("two trees", ()),
    ],
)
def test_a_kept_word_carries_its_vectors_to_where_it_now_stands(tiny_model, parse, inverted, target, pairs):
    inversion = tuned(inverted(text="a cat and a dog"), (2, 5))
    prompt = parse(target)
    assert carried_positions(inversion, prompt, align(inversion.prompt, prompt)) == pairs


def test_a_swapped_word_of_several_tokens_leaves_none_of_its_vectors(tiny_model, parse, inverted):
    inversion = tuned(inverted(text="a mountain lion and a dog"), (2, 3, 6))
    prompt = parse("a cat and a dog")
    assert carried_positions(inversion, prompt, align(inversion.prompt, prompt)) == ((2, 5),)


@pytest.mark.parametrize("carry", ["original", "tuned", "keys"])
def test_carry_says_which_vectors_make_keys_and_values(tiny_model, parse, inverted, spy, carry):
    inversion = tuned(inverted("negative-prompt", "a cat and a dog"), (2, 5))
    target = parse("a mountain lion and a dog")
    spy.keys.clear(), spy.values.clear()
    edit(tiny_model, inversion, [target], EditSettings(target_embeddings=carry))
    original = tiny_model.encode_prompt(target)
    vectors = inversion.token_vectors
    assert vectors is not None
    for i in range(STEPS):
        source = tiny_model.encode_prompt(inversion.prompt, vectors[i], (2, 5))
        moved = tiny_model.encode_prompt(target, vectors[i, 1:], (6,))
        assert not torch.allclose(original, moved)
        keys = torch.cat([source, source, original if carry == "original" else moved])
        assert torch.equal(spy.keys[i], keys)
        if carry == "keys":
            assert torch.equal(spy.values[i], torch.cat([source, source, original]))
        else:
            assert spy.values[i] is None


def test_keys_alone_give_the_tuned_places_and_another_edit(tiny_model, parse, inverted):
    inversion = tuned(inverted(text="a cat and a dog"), (2, 5))
    target = [parse("a fox and a dog")]
    ends = {
        c: edit(tiny_model, inversion, target, replace(FREE, target_embeddings=c))
        for c in ("original", "tuned", "keys")
    }
    for one, other in (("original", "tuned"), ("original", "keys"), ("tuned", "keys")):
        assert float((ends[one].latents - ends[other].latents).abs().max()) > 1e-2


def test_without_tuned_vectors_every_carry_is_the_same(tiny_model, parse, inverted):
    ends = [
        edit(tiny_model, inverted(), [parse("a fox")], EditSettings(target_embeddings=carry)).latents
        for carry in ("original", "tuned", "keys")
    ]
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])
