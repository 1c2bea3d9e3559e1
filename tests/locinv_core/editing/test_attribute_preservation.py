"""The word of an object whose look changes attends in its place as before it was tuned, elsewhere as tuned."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from pinpoint.locinv_core.backbones.attention import AttentionControl, controlled_attention
from pinpoint.locinv_core.editing.attribute_preservation import PreservedAttention, preserved_attention
from pinpoint.locinv_core.editing.edit import edit
from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.recipe import LOCINV
from pinpoint.locinv_core.text.prompt import Prompt, parse_prompt
from pinpoint.locinv_core.text.word_alignment import align
from pinpoint.methods import dpl
from pinpoint.tests.locinv_core.editing.setting import FREE, SIDE
from pinpoint.tests.locinv_core.editing.test_target_embeddings import tuned

TEXT = "a cat and a dog"  # tokens: 2 cat, 5 dog
FOLLOWING = EditSettings(cross_replace_steps=1.0, self_replace_steps=0.0, local_blend="off")


@pytest.fixture(name="parse")
def _parse(tiny_model):
    """Colours go with the object behind them."""

    def parse(text: str) -> Prompt:
        words = text.split()
        pairs = [(a, b) for a, b in pairwise(words) if a in ("red", "blue")]
        nouns = [word for word in words if word in ("cat", "dog", "fox", "bird")]
        return parse_prompt(text, tiny_model.tokenizer, nouns=nouns, bindings=pairs)

    return parse


@pytest.fixture(name="prior")
def _prior(tiny_model):
    """The cat is on the left half of the image, the dog in its lower right quarter."""
    side = SIDE * tiny_model.latent_factor
    half = side // 2
    return from_boxes({"cat": (0, 0, half, side), "dog": (half, half, side, side)}, (side, side))


@pytest.fixture(name="places")
def _places(tiny_model, parse, inverted, prior):
    """places(targets, …): those of an inversion with both words tuned."""
    inversion = tuned(inverted(text=TEXT), (2, 5))

    def make(*targets: str, **settings) -> PreservedAttention | None:
        prompts = [parse(target) for target in targets]
        alignments = [align(inversion.prompt, prompt) for prompt in prompts]
        given = settings.pop("prior", prior)
        return preserved_attention(
            tiny_model, inversion, prompts, alignments, EditSettings(local_blend="off", **settings), given
        )

    return make


def softmax(scores: list[float]) -> list[float]:
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def test_scores_in_the_place_are_those_before_tuning_as_worked_out_by_hand(tiny_model):
    layer = next(layer for layer in tiny_model.layers if layer.kind == "cross")
    # One head, two cells, three words: the last is kept in the second cell, by the first target alone.
    query = torch.tensor([[[1.0, 0.0], [0.0, 2.0]]])
    key = torch.tensor([[[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]])
    inside = torch.zeros(2, 2, 1, dtype=torch.bool)
    inside[0, 1, 0] = True
    places = PreservedAttention(
        (2,), {layer.name: torch.tensor([[[3.0, 4.0]]])}, {layer.name: 0.5}, {layer.name: inside}
    )
    found = places.probabilities(layer, query, key)
    outside = [softmax([0.05, 0.15, 0.25]), softmax([0.2, 0.4, 0.6])]
    expected = torch.tensor([[[outside[0], softmax([0.2, 0.4, 4.0])]], [outside]])
    torch.testing.assert_close(found, expected)


class Watching(AttentionControl):
    """Keeps queries, keys and probabilities of every cross-attention layer."""

    def __init__(self) -> None:
        self.seen: dict[str, tuple[Tensor, Tensor]] = {}
        self.attention: dict[str, Tensor] = {}

    def needs_probabilities(self, layer):
        return layer.kind == "cross"

    def inputs(self, layer, query, key, value):
        if layer.kind == "cross":
            self.seen[layer.name] = query, key
        return query, key, value

    def probabilities(self, layer, probabilities):
        self.attention[layer.name] = probabilities
        return probabilities


@torch.no_grad()
def test_every_layer_has_the_words_own_keys_and_its_own_grid(tiny_model, parse, places, inverted, prior):
    """With the whole image as the places and no word tuned, it is the plain attention of the layer."""
    found = places("a red cat and a blue dog")
    context = tiny_model.encode_prompt(parse(TEXT))
    plain = Watching()
    z = inverted(text=TEXT).latents[:1]
    with controlled_attention(tiny_model.unet, tiny_model.layers, plain):
        tiny_model.unet(z, 500, encoder_hidden_states=context)
    cross = [layer for layer in tiny_model.layers if layer.kind == "cross"]
    assert len({layer.level for layer in cross}) > 1
    for layer in cross:
        query, key = plain.seen[layer.name]
        same = found.probabilities(layer, query[0], key[0])[0]
        torch.testing.assert_close(same, plain.attention[layer.name][0], atol=1e-5, rtol=1e-4)
        # With other keys for all words, those in their places are back, and only there.
        other = found.probabilities(layer, query[0], torch.zeros_like(key[0]))[0]
        rows, columns = layer.grid(SIDE, SIDE)
        score = other.log()
        tokens = len(parse(TEXT).token_ids)
        flat = (score[..., [2, 5]] - score[..., [1]]).abs() < 1e-5
        cat = torch.zeros(rows, columns, dtype=torch.bool)
        cat[:, : columns // 2] = True
        dog = torch.zeros(rows, columns, dtype=torch.bool)
        dog[rows // 2 :, columns // 2 :] = True
        changed = ~flat.all(dim=0)
        assert torch.equal(changed[:, 0], cat.flatten()) and torch.equal(changed[:, 1], dog.flatten())
        torch.testing.assert_close(other.sum(dim=-1), torch.ones(layer.heads, rows * columns))
        assert other.shape == (layer.heads, rows * columns, tokens)


def test_each_target_keeps_the_objects_whose_look_it_changes(tiny_model, places):
    found = places("a fox and a blue dog", "a cat and a blue fox", "a red cat and a dog", "a red cat and a blue dog")
    assert found.positions == (2, 5)
    name = tiny_model.map_layers[0].name
    assert found.inside[name].any(dim=1).tolist() == [
        [False, True],
        [False, False],
        [True, False],
        [True, True],
    ]


def test_a_reweighted_object_is_kept(tiny_model, places):
    found = places("a cat and a dog", equalizer={"cat": 2.0})
    assert found.inside[tiny_model.map_layers[0].name].any(dim=1).tolist() == [[True, False]]


def test_of_a_phrase_the_words_that_stay_are_kept(tiny_model, parse, inverted):
    """tokens: 2 red, 3 cat; both were tuned as one phrase."""
    side = SIDE * tiny_model.latent_factor
    prior = from_boxes({"red cat": (0, 0, side // 2, side)}, (side, side))
    inversion = tuned(inverted(text="a red cat and a dog"), (2, 3))
    target = parse("a blue cat and a dog")
    found = preserved_attention(
        tiny_model, inversion, [target], [align(inversion.prompt, target)], EditSettings(), prior
    )
    red, cat = found.inside[tiny_model.map_layers[0].name][0].T
    assert found.positions == (2, 3) and not bool(red.any())
    assert bool(cat.any()) and not bool(cat.all())


@pytest.mark.parametrize(
    ("targets", "settings"),
    [
        (["a fox and a bird"], {}),
        (["a fox and a dog"], {}),
        (["a red cat and a dog"], {"prior": None}),
        (["a red cat and a dog"], {"attribute_attention": "tuned"}),
        (["a red cat and a dog"], {"target_embeddings": "tuned"}),
        (["a red cat and a dog"], {"target_embeddings": "keys"}),
    ],
)
def test_there_is_nothing_to_keep(places, targets, settings):
    assert places(*targets, **settings) is None


def test_words_that_were_not_tuned_have_nothing_to_keep(tiny_model, parse, inverted, prior):
    target = parse("a red cat and a dog")
    plain = inverted(text=TEXT)
    for inversion, kept in ((plain, None), (tuned(plain, (5,)), None), (tuned(plain, (2,)), (2,))):
        found = preserved_attention(
            tiny_model, inversion, [target], [align(inversion.prompt, target)], EditSettings(), prior
        )
        assert kept == (None if found is None else found.positions)


def test_with_places_everywhere_targets_attend_as_the_untuned_word_does(tiny_model, parse, inverted):
    """A tuned inversion whose only tuned word is kept and is everywhere: its map is the untuned one of the
    same queries, so the end is nearer to that of the untuned inversion than with the tuned map."""
    side = SIDE * tiny_model.latent_factor
    everywhere = from_boxes({"cat": (0, 0, side, side)}, (side, side))
    plain = inverted(text=TEXT)
    moved = tuned(plain, (2,))
    target = [parse("a red cat and a dog")]
    wanted = edit(tiny_model, plain, target, FOLLOWING, prior=everywhere)
    ends = {
        name: edit(tiny_model, moved, target, replace(FOLLOWING, attribute_attention=name), prior=everywhere)
        for name in ("original", "tuned")
    }
    tuned_ends = edit(tiny_model, moved, target, FOLLOWING)
    assert torch.equal(ends["tuned"].latents, tuned_ends.latents)  # without a prior there is no place
    away = {name: float((end.latents - wanted.latents).norm()) for name, end in ends.items()}
    assert away["original"] < 0.75 * away["tuned"]
    # The source's own maps are those of the tuned word.
    assert torch.equal(ends["original"].source_maps["cat"], ends["tuned"].source_maps["cat"])


def test_a_swap_of_every_word_that_was_tuned_is_as_it_was(tiny_model, parse, inverted, prior):
    moved = tuned(inverted(text=TEXT), (2,))
    target = [parse("a fox and a dog")]
    ends = [
        edit(tiny_model, moved, target, replace(FOLLOWING, attribute_attention=name), prior=prior).latents
        for name in ("original", "tuned")
    ]
    assert torch.equal(*ends)


def test_targets_that_do_not_follow_are_as_they_were(tiny_model, parse, inverted, prior):
    moved = tuned(inverted(text=TEXT), (2, 5))
    target = [parse("a red cat and a dog")]
    ends = [
        edit(tiny_model, moved, target, replace(FREE, attribute_attention=name), prior=prior).latents
        for name in ("original", "tuned")
    ]
    assert torch.equal(*ends)


def test_dpl_knows_no_places():
    assert dpl.RECIPE.settings().attribute_attention == "tuned"
    assert LOCINV.settings().attribute_attention == "original"
