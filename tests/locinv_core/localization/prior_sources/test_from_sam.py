"""Outlines by Segment Anything: what the library's own forward pass gives for the same boxes and points."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

pytest.importorskip("segment_anything", reason="the extra `sam` is not installed")

from segment_anything import sam_model_registry

from pinpoint.locinv_core.localization.prior_sources import from_sam as module
from pinpoint.locinv_core.localization.prior_sources.from_sam import (
    MODELS,
    SamPrompt,
    boxes_of,
    load_segment_anything,
    prior_from_segment_anything,
)
from pinpoint.locinv_core.localization.priors import from_boxes, from_masks
from pinpoint.tests.fixtures.tiny_editors import smooth_image
from pinpoint.tests.fixtures.tiny_locators import tiny_sam

BOX = (10.0, 6.0, 40.0, 30.0)


@pytest.fixture(name="sam", scope="module")
def _sam():
    return tiny_sam()


def by_the_library(sam, image, *, several=False, **prompts):
    """(the masks of the library's batched forward pass, how good it holds each of them to be)."""
    pixels = (image[0] * 255).round()  # 64 pixels wide: its transform would leave it as it is
    asked = {"image": pixels, "original_size": tuple(image.shape[-2:]), **prompts}
    with torch.no_grad():
        answer = sam([asked], multimask_output=several)[0]
    return answer["masks"][0].float(), answer["iou_predictions"][0]


def test_a_box_gives_the_library_s_outline(sam):
    image = smooth_image(48, 64)
    wanted, _ = by_the_library(sam, image, boxes=torch.tensor([BOX]))
    assert 0 < float(wanted.mean()) < 1
    prior = prior_from_segment_anything(sam, image, {"Cat": SamPrompt(boxes=(BOX,))})
    assert prior.words == ("cat",) and prior.kind == "segment"
    assert torch.equal(prior.mask("cat"), wanted[0])


def test_boxes_of_one_word_are_joined_and_words_are_apart(sam):
    image, other = smooth_image(), (30.0, 30.0, 60.0, 62.0)
    first, second = (by_the_library(sam, image, boxes=torch.tensor([box]))[0][0] for box in (BOX, other))
    prior = prior_from_segment_anything(
        sam, image, {"cat": SamPrompt(boxes=(BOX, other)), "star": SamPrompt(boxes=(other,))}
    )
    assert torch.equal(prior.mask("cat"), torch.maximum(first, second))
    assert torch.equal(prior.mask("star"), second)


def test_a_single_point_gives_the_surest_of_three_outlines(sam):
    image = smooth_image()
    points = {"point_coords": torch.tensor([[[20.0, 33.0]]]), "point_labels": torch.tensor([[1]])}
    masks, sureness = by_the_library(sam, image, several=True, **points)
    assert len(masks) == 3
    prior = prior_from_segment_anything(sam, image, {"cat": SamPrompt(on=((20.0, 33.0),))})
    assert torch.equal(prior.mask("cat"), masks[sureness.argmax()])


def test_points_on_and_off_the_object_and_a_box_are_asked_together(sam):
    image = smooth_image()
    wanted, _ = by_the_library(
        sam,
        image,
        boxes=torch.tensor([BOX]),
        point_coords=torch.tensor([[[20.0, 20.0], [12.0, 8.0]]]),
        point_labels=torch.tensor([[1, 0]]),
    )
    place = SamPrompt(boxes=(BOX,), on=((20.0, 20.0),), off=((12.0, 8.0),))
    assert torch.equal(prior_from_segment_anything(sam, image, {"cat": place}).mask("cat"), wanted[0])


@pytest.mark.parametrize("file", ["s.safetensors", "s.pth", "S.PT"])
def test_a_saved_model_outlines_as_the_one_it_was_saved_from(sam, tmp_path, monkeypatch, file):
    monkeypatch.setattr(module, "MODELS", {32: "tiny"})
    monkeypatch.setitem(sam_model_registry, "tiny", tiny_sam)
    weights = {name: weight.contiguous() for name, weight in sam.state_dict().items()}
    (save_file if file.endswith("safetensors") else torch.save)(weights, tmp_path / file)
    loaded = load_segment_anything(tmp_path / file)
    image = smooth_image()
    wanted, _ = by_the_library(sam, image, boxes=torch.tensor([BOX]))
    prior = prior_from_segment_anything(loaded, image, {"cat": SamPrompt(boxes=(BOX,))})
    assert torch.equal(prior.mask("cat"), wanted[0])


@pytest.mark.parametrize("kind", ["vit_b", "vit_l", "vit_h"])
def test_the_published_models_are_known_by_their_width(kind):
    with torch.device("meta"):
        assert MODELS[sam_model_registry[kind]().image_encoder.pos_embed.shape[-1]] == kind


class Payload:
    """What a hostile pickle holds: opened by pickle itself, it would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_of_a_pickle_only_weights_are_read(tmp_path, monkeypatch):
    torch.save({"weight": Payload(tmp_path / "ran")}, tmp_path / "hostile.pth")
    with pytest.raises(ValueError, match=r"'hostile\.pth' cannot be read as weights alone: Weights only load failed"):
        load_segment_anything(tmp_path / "hostile.pth")
    assert not (tmp_path / "ran").exists()
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match="holds no weights by name"):
        load_segment_anything(tmp_path / "list.pth")
    monkeypatch.setattr(torch, "__version__", "2.5.1")
    with pytest.raises(ValueError, match=r"torch 2\.5\.1 cannot read safely; requires torch 2\.6"):
        load_segment_anything(tmp_path / "list.pth")


def test_another_network_and_what_is_no_file_are_refused(tmp_path):
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="not Segment Anything's"):
        load_segment_anything(tmp_path / "other.safetensors")
    for file in ("broken.safetensors", "broken.pth"):
        (tmp_path / file).write_bytes(b"\x10\0\0\0\0\0\0\0nothing")
        with pytest.raises(ValueError, match="cannot be read"):
            load_segment_anything(tmp_path / file)
    with pytest.raises(ValueError, match=r"requires a \.safetensors, \.pth or \.pt file"):
        load_segment_anything(tmp_path / "none.safetensors")


def test_bad_places_are_refused_before_any_work():
    image = smooth_image()
    for place, message in (
        (SamPrompt(boxes=((0.0, 0.0, 65.0, 10.0),)), "leaves the image"),
        (SamPrompt(on=((3.0, 64.0),)), r"3,64 of 'cat' is outside the image of 64x64"),
    ):
        with pytest.raises(ValueError, match=message):
            prior_from_segment_anything(torch.nn.Identity(), image, {"cat": place})
    with pytest.raises(ValueError, match="got none"):
        prior_from_segment_anything(torch.nn.Identity(), image, {})
    with pytest.raises(ValueError, match="neither a box nor a point"):
        SamPrompt(off=((1.0, 1.0),))
    with pytest.raises(ValueError, match="2 boxes and points"):
        SamPrompt(boxes=(BOX, BOX), on=((1.0, 1.0),))


def test_boxes_around_a_prior_s_places_are_tight():
    mask = torch.zeros(20, 30)
    mask[4:9, 7:20] = 1
    mask[6, 5] = 1
    assert boxes_of(from_masks({"cat": mask})) == {"cat": SamPrompt(boxes=((5.0, 4.0, 20.0, 9.0),))}
    assert boxes_of(from_boxes({"cat": (0, 0, 30, 20)}, (20, 30)))["cat"].boxes == ((0.0, 0.0, 30.0, 20.0),)
