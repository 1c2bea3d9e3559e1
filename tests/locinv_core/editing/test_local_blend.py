"""The local blend: which objects an edit touches, where they are, and that nothing changes elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.editing.edit import edit
from pinpoint.locinv_core.editing.edited_objects import edited_objects
from pinpoint.locinv_core.editing.local_blend import LocalBlend, latent_mask, plan_blend, strong
from pinpoint.locinv_core.editing.settings import EditSettings
from pinpoint.locinv_core.inversion.ddim_inversion import Inversion
from pinpoint.locinv_core.localization.priors import LocalizationPrior, from_boxes, from_masks, merge
from pinpoint.locinv_core.text.prompt import Prompt, parse_prompt
from pinpoint.locinv_core.text.word_alignment import align

STEPS = 5
BOX = (16, 20, 32, 32)
PRIOR = from_boxes({"cat": BOX}, (64, 64))

Parse = Callable[..., Prompt]


@pytest.fixture(name="parse")
def _parse(tiny_model: EditModel) -> Parse:
    """parse(text, nouns, bindings): every noun and binding is said, so that no parser has a part in it."""

    def make(text: str, nouns: str = "", bindings: tuple[tuple[str, str], ...] = ()) -> Prompt:
        return parse_prompt(text, tiny_model.tokenizer, nouns=nouns.split(), bindings=bindings)

    return make


@pytest.fixture(name="inversion")
def _inversion(tiny_model: EditModel, parse: Parse) -> Inversion:
    latents = torch.randn(STEPS + 1, 4, 16, 16, generator=torch.Generator().manual_seed(8))
    source = parse("a red cat and a dog", "cat dog", (("red", "cat"),))
    timesteps = tiny_model.schedule.timesteps(STEPS)
    return Inversion(latents, timesteps, source, tiny_model.fingerprint, null_method="direct")


# --- the objects that an edit touches ----------------------------------------------------------------------

RED_CAT = ("a red cat and a dog", "cat dog", (("red", "cat"),))


def boxes(*words: str) -> LocalizationPrior | None:
    return from_boxes(dict.fromkeys(words, BOX), (64, 64)) if words else None


@pytest.mark.parametrize(
    ("source", "target", "places", "old", "new", "placed", "unplaced"),
    [
        # a noun swapped
        (RED_CAT, ("a red fox and a dog", "fox dog"), ["cat"], "cat", "fox", ["cat"], []),
        (RED_CAT, ("a red cat and a cow", "cat cow"), ["cat"], "dog", "cow", [], ["dog"]),
        # an adjective swapped or left out: its noun
        (RED_CAT, ("a blue cat and a dog", "cat dog"), ["cat"], "cat", "cat", ["cat"], []),
        (RED_CAT, ("a cat and a dog", "cat dog"), ["cat", "dog"], "cat", "cat", ["cat"], []),
        # … unless it has a place of its own
        (RED_CAT, ("a blue cat and a dog", "cat dog"), ["red"], "red", "blue", ["red"], []),
        # an adjective put in, known by the target's pairs
        (
            RED_CAT,
            ("a red cat and a wooden dog", "cat dog", (("wooden", "dog"),)),
            ["dog"],
            "dog",
            "dog",
            ["dog"],
            [],
        ),
        # two objects, one with a place
        (RED_CAT, ("a red fox and a cow", "fox cow"), ["cat"], "cat dog", "fox cow", ["cat"], ["dog"]),
        # an object put in has no place
        (RED_CAT, ("a red cat and a dog and a tree", "cat dog tree"), ["cat"], "", "tree", [], ["tree"]),
        # … but one beside a word that has is of the same object
        (RED_CAT, ("a red cat statue and a dog", "statue dog"), ["cat"], "cat", "cat statue", ["cat"], []),
        # an object taken away
        (RED_CAT, ("a red cat", "cat"), ["dog"], "dog", "", ["dog"], []),
        # articles go along and have no place
        (RED_CAT, ("an elephant and a dog", "elephant dog"), ["cat"], "cat", "elephant", ["cat"], []),
        # one word for two
        (
            ("a mountain lion", "lion"),
            ("a fox", "fox"),
            ["mountain lion"],
            "mountain lion",
            "fox",
            ["mountain lion"],
            [],
        ),
        # the source's noun is known by its place alone, the target's not at all
        (("a zzyzx", ""), ("a qwop", ""), ["zzyzx"], "zzyzx", "qwop", ["zzyzx"], []),
        # neither noun nor adjective: the words themselves
        (("a cat sits", "cat"), ("a cat jumps", "cat"), ["cat"], "sits", "jumps", [], ["sits"]),
        # nothing
        (RED_CAT, ("a red cat and a dog", "cat dog"), ["cat"], "", "", [], []),
        # the second of two
        (
            ("a cat and a cat", "cat cat#2"),
            ("a cat and a fox", "cat fox"),
            ["cat#2"],
            "cat",
            "fox",
            ["cat#2"],
            [],
        ),
    ],
)
def test_an_edit_touches_the_nouns_that_differ_and_those_of_adjectives_that_do(
    parse, source, target, places, old, new, placed, unplaced
):
    before, after = parse(*source), parse(*target)
    objects = edited_objects(before, after, align(before, after), prior=boxes(*places))
    assert " ".join(before.words[i].text for i in objects.source) == old
    assert " ".join(after.words[j].text for j in objects.target) == new
    assert list(objects.with_prior) == placed
    assert list(objects.without_prior) == unplaced


def test_a_word_that_is_only_weighed_is_edited_too(parse):
    prompt = parse(*RED_CAT)
    objects = edited_objects(prompt, prompt, align(prompt, prompt), prior=PRIOR, emphasised=[1])
    assert [prompt.words[i].text for i in objects.source] == ["cat"]
    assert objects.with_prior == ("cat",) and objects.without_prior == ()


# --- places -----------------------------------------------------------------------------------------------


def test_a_place_is_every_latent_cell_that_a_mask_touches():
    mask = torch.zeros(32, 32)
    mask[7, 8] = 1  # cells are 8 pixels: row 0, column 1
    mask[31, 31] = 1
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[0, 1] = expected[3, 3] = True
    assert torch.equal(latent_mask(from_masks({"cat": mask}), ["cat"], (4, 4), 0), expected)


def test_a_place_grows_on_every_side_and_stops_at_the_edge():
    mask = torch.zeros(64, 48)
    mask[0, 20] = 1
    expected = torch.zeros(8, 6, dtype=torch.bool)
    expected[0:3, 0:5] = True
    assert torch.equal(latent_mask(from_masks({"cat": mask}), ["cat"], (8, 6), 2), expected)


def test_places_of_several_words_are_joined():
    prior = merge(from_boxes({"cat": (0, 0, 4, 4)}, (16, 16)), from_boxes({"dog": (12, 12, 16, 16)}, (16, 16)))
    both = latent_mask(prior, ["cat", "dog"], (4, 4), 0)
    assert both.nonzero().tolist() == [[0, 0], [3, 3]]


def test_a_map_is_strong_where_its_share_of_the_maximum_exceeds_the_threshold():
    word_map = torch.tensor([[0.1, 0.04], [0.02, 0.2]])
    assert strong(word_map, 0.3, 0, (2, 2)).tolist() == [[True, False], [False, True]]
    assert strong(word_map, 0.5, 0, (2, 2)).tolist() == [[False, False], [False, True]]
    assert not bool(strong(torch.zeros(2, 2), 0.0, 0, (2, 2)).any())


def test_a_map_is_interpolated_between_its_cells():
    # One row 0, 1 on four columns: 0, ¼, ¾, 1 (cell centres at −¼, ¼, ¾, 1¼, clamped).
    word_map = torch.tensor([[0.0, 0.5]])
    assert strong(word_map, 0.24, 0, (1, 4)).tolist() == [[False, True, True, True]]
    assert strong(word_map, 0.26, 0, (1, 4)).tolist() == [[False, False, True, True]]


def test_a_map_is_pooled_before_it_is_compared():
    word_map = torch.zeros(1, 5)
    word_map[0, 0] = 1.0
    assert strong(word_map, 0.3, 1, (1, 5)).tolist() == [[True, True, False, False, False]]


# --- the plan ---------------------------------------------------------------------------------------------


def planned(
    source: Prompt, target: Prompt, mode: str, prior: LocalizationPrior | None, **settings
) -> LocalBlend | None:
    chosen = EditSettings(local_blend=mode, **settings)  # type: ignore[arg-type]
    return plan_blend(source, target, align(source, target), chosen, prior, latent_size=(8, 8), cell=1)


def test_auto_blends_by_the_prior_where_all_that_is_edited_has_one(parse):
    source = parse(*RED_CAT)
    fox = parse("a red fox and a dog", "fox dog")
    plan = planned(source, fox, "auto", PRIOR)
    assert plan is not None and plan.prior_mask is not None
    assert planned(source, fox, "auto", None) is None
    assert planned(source, fox, "auto", boxes("dog")) is None
    assert planned(source, parse("a red fox and a cow", "fox cow"), "auto", PRIOR) is None
    assert planned(source, source, "auto", PRIOR) is None


@pytest.mark.parametrize("blend", ["prior", "prior+map"])
def test_a_blend_by_the_prior_names_the_objects_that_have_none(parse, blend):
    source, target = parse(*RED_CAT), parse("a red fox and a cow", "fox cow")
    with pytest.raises(ValueError, match="requires a prior for dog, but the prior has cat"):
        planned(source, target, blend, PRIOR)
    with pytest.raises(ValueError, match="requires a prior for cat, dog, but there is no prior"):
        planned(source, target, blend, None)


@pytest.mark.parametrize("blend", ["prior", "prior+map", "map"])
def test_a_blend_of_an_edit_that_changes_nothing_is_refused(parse, blend):
    source = parse(*RED_CAT)
    with pytest.raises(ValueError, match="edits nothing"):
        planned(source, source, blend, PRIOR)


def maps_with(strong_tokens: dict[int, tuple[int, int]]) -> torch.Tensor:
    """(8, 8, 77) maps with one cell of 1 for each token."""
    maps = torch.zeros(8, 8, 77)
    for token, (row, column) in strong_tokens.items():
        maps[row, column, token] = 1.0
    return maps


@pytest.mark.parametrize("blend", ["prior", "prior+map", "map"])
def test_the_mask_is_of_the_prior_of_the_maps_or_of_both(parse, blend):
    # tokens: 1 a, 2 red, 3 cat/fox, 4 and, 5 a, 6 dog
    source, target = parse(*RED_CAT), parse("a red fox and a dog", "fox dog")
    plan = planned(source, target, blend, PRIOR, blend_grow=0)
    assert plan is not None
    mask = plan.mask(maps_with({3: (0, 0), 6: (7, 7)}), maps_with({3: (0, 7), 6: (7, 0)}), (8, 8))
    expected = torch.zeros(8, 8, dtype=torch.bool)
    if blend != "map":
        expected[2:4, 2:4] = True  # the box in cells of 8 pixels, outwards
    if blend != "prior":
        expected[0, 7] = True  # the fox's map
    if blend == "map":
        expected[0, 0] = True  # and the cat's
    assert torch.equal(mask, expected)


# --- through the edit -------------------------------------------------------------------------------------


def place_by_hand(grow: int) -> torch.Tensor:
    """BOX in latent cells of 4 pixels, grown by `grow` cells of the maps, which are 2 latent cells wide."""
    expected = torch.zeros(16, 16)
    by = 2 * grow
    expected[5 - by : 8 + by, 4 - by : 8 + by] = 1
    return expected


@pytest.mark.parametrize("grow", [0, 1])
@pytest.mark.parametrize("blend", ["auto", "prior"])
def test_outside_the_grown_prior_the_edit_is_the_source_to_the_bit(tiny_model, parse, inversion, blend, grow):
    target = parse("a red fox and a dog", "fox dog")
    settings = EditSettings(local_blend=blend, blend_grow=grow)
    result = edit(tiny_model, inversion, [target], settings, prior=PRIOR)
    place = place_by_hand(grow)
    assert result.blend_masks is not None
    assert torch.equal(result.blend_masks, place[None])
    same = (result.latents == inversion.latents[:1]).all(dim=1)[0]
    assert torch.equal(same, place == 0)


def test_blending_waits_for_its_start(tiny_model, parse, inversion):
    target = parse("a red fox and a dog", "fox dog")
    previews: list[torch.Tensor] = []
    tracker = CostTracker(lambda stage, step, steps, z: previews.append(z.clone()))
    edit(tiny_model, inversion, [target], EditSettings(blend_start=0.4), prior=PRIOR, tracker=tracker)
    outside = place_by_hand(1) == 0
    kept = [
        bool((z[0][:, outside] == inversion.latents[STEPS - 1 - i][:, outside]).all()) for i, z in enumerate(previews)
    ]
    assert kept == [False, False, True, True, True]


def test_a_start_at_the_end_never_blends(tiny_model, parse, inversion):
    target = parse("a red fox and a dog", "fox dog")
    never = edit(tiny_model, inversion, [target], EditSettings(blend_start=1.0), prior=PRIOR)
    off = edit(tiny_model, inversion, [target], EditSettings(local_blend="off"), prior=PRIOR)
    assert never.blend_masks is None and off.blend_masks is None
    assert torch.equal(never.latents, off.latents)


def test_every_target_has_the_place_of_its_own_edit(tiny_model, parse, inversion):
    prior = merge(PRIOR, from_boxes({"dog": (48, 48, 64, 64)}, (64, 64)))
    targets = [
        parse("a red fox and a dog", "fox dog"),
        parse("a red cat and a cow", "cat cow"),
        parse("a red cat and a dog and a tree", "cat dog tree"),
    ]
    result = edit(tiny_model, inversion, targets, EditSettings(blend_grow=0), prior=prior)
    assert result.blend_masks is not None
    corner = torch.zeros(16, 16)
    corner[12:, 12:] = 1
    assert torch.equal(result.blend_masks, torch.stack([place_by_hand(0), corner, torch.ones(16, 16)]))
    free = edit(tiny_model, inversion, targets, EditSettings(local_blend="off"), prior=prior)
    torch.testing.assert_close(result.latents[2], free.latents[2])


def test_a_blend_by_maps_keeps_the_source_where_both_words_are_weak(tiny_model, parse, inversion):
    target = parse("a red fox and a dog", "fox dog")
    settings = EditSettings(local_blend="map", blend_threshold=0.9, blend_grow=0)
    result = edit(tiny_model, inversion, [target], settings)
    # At the last step the running means are those that the edit reports.
    upsample = torch.nn.Upsample(size=(16, 16), mode="bilinear")
    expected = torch.zeros(16, 16, dtype=torch.bool)
    for word_map in (result.source_maps["cat"], result.target_maps[0]["fox"]):
        expected |= upsample(word_map[None, None] / word_map.max())[0, 0] > 0.9
    assert 0 < int(expected.sum()) < 256
    assert result.blend_masks is not None
    assert torch.equal(result.blend_masks[0].bool(), expected)
    assert torch.equal(result.latents[0][:, ~expected], inversion.latents[0][:, ~expected])


def test_a_blend_without_its_prior_is_refused_before_any_pass(tiny_model, parse, inversion):
    tracker = CostTracker()
    target = parse("a red cat and a cow", "cat cow")
    with pytest.raises(ValueError, match="prior for dog"):
        edit(tiny_model, inversion, [target], EditSettings(local_blend="prior"), prior=PRIOR, tracker=tracker)
    assert tracker.total == 0


def test_the_source_branch_of_plain_ddim_is_what_is_kept_outside(tiny_model, parse, inversion):
    target = parse("a red fox and a dog", "fox dog")
    result = edit(tiny_model, replace(inversion, null_method="none"), [target], prior=PRIOR)
    outside = place_by_hand(1) == 0
    assert torch.equal(result.latents[0][:, outside], result.source_latents[0][:, outside])
    assert not torch.equal(result.source_latents, inversion.latents[:1])
