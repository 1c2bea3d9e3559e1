"""LocInv as an editor: the same edit as LocInv's own, its passes counted by hand, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.imaging.composite import composite
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.locinv_core.pipeline import EditRequest, localized_edit
from pinpoint.locinv_core.recipe import LOCINV
from pinpoint.region_core.editors.locinv import VARIANTS, LocInvEditor
from pinpoint.tests.fixtures.tiny_editors import box_masks, small_model, smooth_image

SOURCE, TARGET = "a red fox in the snow", "a red cat in the snow"
BOXES = ((8, 8, 40, 40), (24, 0, 64, 32))


@pytest.fixture(name="model", scope="module")
def _model():
    return small_model()


@pytest.fixture(name="image", scope="module")
def _image():
    return smooth_image()


def test_an_edit_is_locinvs_with_the_box_as_the_place_of_the_changed_word(model, image):
    ours = LocInvEditor(model, SOURCE, guidance=3, steps=4).edit(image, box_masks(*BOXES), TARGET, seed=0)
    for made, box in zip(ours, BOXES, strict=True):
        prior = from_boxes({"fox": box}, (64, 64))
        method = LOCINV
        request = EditRequest(image, SOURCE, TARGET, prior, steps=4, settings=method.settings(guidance=3))
        theirs = composite(image, localized_edit(model, request).edited, prior.mask("fox"), 2.0)
        torch.testing.assert_close(made[None], theirs, atol=1e-5, rtol=0)
        outside = prior.mask("fox") == 0
        assert torch.equal(made[:, outside], image[0][:, outside])


def test_the_image_is_inverted_once_for_each_number_of_steps(model, image):
    editor, masks = LocInvEditor(model, SOURCE, steps=4), box_masks(*BOXES)
    queries = model.share(model.map_layers[-1], 16, 16)

    def cost(masks, steps=None):
        """(of the inversion, of the edits)"""
        tracker = CostTracker()
        with tracker.stage("edits"):
            editor.edit(image, masks, TARGET, 0, steps=steps, tracker=tracker)
        return tracker.forward_equivalents.get("inversion", 0), tracker.forward_equivalents["edits"]

    # A query pass a step, and three branches: the source's, and the target's two.
    assert cost(masks[:1]) == pytest.approx((4, 4 * queries + 3 * 4))
    assert cost(masks[1:]) == pytest.approx((0, 4 * queries + 3 * 4))
    # The words are tuned to a mask once.
    assert cost(masks) == pytest.approx((0, 2 * 3 * 4))
    assert cost(masks[:1], 2) == pytest.approx((2, 2 * queries + 3 * 2))
    assert cost(masks[1:], 2) == pytest.approx((0, 2 * queries + 3 * 2))
    other = 1 - image
    tracker = CostTracker()
    editor.edit(other, masks[:1], TARGET, 0, tracker=tracker)
    assert tracker.total == pytest.approx(4 + 4 * queries + 3 * 4)


def test_seeds_are_takes_with_other_settings_and_come_round_again(model, image):
    editor, masks = LocInvEditor(model, SOURCE, guidance=6, steps=5), box_masks(BOXES[0])
    takes = [editor.edit(image, masks, TARGET, seed) for seed in range(editor.variants)]
    assert torch.equal(editor.edit(image, masks, TARGET, editor.variants), takes[0])
    by_hand = [
        {"guidance": 6.0, "cross_replace_steps": 0.8, "self_replace_steps": 0.4},
        {"guidance": 3.5, "cross_replace_steps": 0.8, "self_replace_steps": 0.4},
        {"guidance": 2.0, "cross_replace_steps": 0.8, "self_replace_steps": 0.4},
        {"guidance": 2.5, "cross_replace_steps": 0.4, "self_replace_steps": 0.2},
    ]
    prior = from_boxes({"fox": BOXES[0]}, (64, 64))
    for made, settings in zip(takes, by_hand, strict=True):
        request = EditRequest(image, SOURCE, TARGET, prior, steps=5, settings=LOCINV.settings(**settings))
        theirs = composite(image, localized_edit(model, request).edited, prior.mask("fox"), 2.0)
        torch.testing.assert_close(made, theirs, atol=1e-5, rtol=0)
    assert len({take.numpy().tobytes() for take in takes}) == 4


def test_no_guidance_is_no_guidance_in_every_take(model, image):
    assert [take.settings(1.0).guidance for take in VARIANTS] == [1.0] * 4
    assert [take.settings(0.0).guidance for take in VARIANTS] == [0.0] * 4


def test_a_word_may_be_named_where_the_texts_do_not_tell(model, image):
    both = "a blue cat in the sand"
    masks = box_masks(BOXES[0])
    with pytest.raises(ValueError, match="requires one that changes one noun"):
        LocInvEditor(model, SOURCE, steps=2).edit(image, masks, both, 0)
    tracker = CostTracker()
    with pytest.raises(ValueError, match="requires one that changes one noun"):
        LocInvEditor(model, SOURCE, steps=2).edit(image, masks, SOURCE, 0, tracker=tracker)
    assert tracker.total == 0
    editor = LocInvEditor(model, SOURCE, word="fox", steps=2)
    assert editor.word_of(both) == "fox"
    assert editor.edit(image, masks, both, 0).shape == image.shape
    with pytest.raises(ValueError, match="dog"):
        LocInvEditor(model, SOURCE, word="dog")


@pytest.mark.parametrize(("settings", "message"), [({"steps": 0}, "steps"), ({"guidance": -1}, "guidance")])
def test_settings_out_of_bounds_are_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        LocInvEditor(model, SOURCE, **settings)
