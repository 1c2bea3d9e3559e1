"""Imagic, InstructPix2Pix and LEDITS++ from an image: what they read of a task, and what they leave."""

from __future__ import annotations

import copy
import dataclasses
import gc
from functools import partial

import pytest
import torch
from diffusers import UNet2DConditionModel

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.localization.priors import from_boxes
from pinpoint.methods import imagic, instruct_pix2pix
from pinpoint.methods import ledits_pp as ledits
from pinpoint.methods.imagic import ImagicSettings
from pinpoint.methods.instruct_pix2pix import InstructPix2PixSettings
from pinpoint.methods.ledits_pp import LeditsSettings
from pinpoint.methods.types import EditTask, MethodModels
from pinpoint.tests.fixtures.tiny_editors import small_model, smooth_image

SHORT = ImagicSettings(steps=2, embedding_steps=1, tuning_steps=2, tuning_rate=1e-3)


@pytest.fixture(name="models", scope="module")
def _models():
    return MethodModels(model=small_model(), instruct=small_model(unet_channels=8))


@pytest.fixture(name="task")
def _task():
    return EditTask(smooth_image(50, 70), "a red cat and a dog", "a red fox and a dog")


def test_the_latents_given_decode_to_the_edit(models, task):
    runs = (
        (models.model, partial(imagic.edit_task, models, task, SHORT)),
        (models.model, partial(ledits.edit_task, models, task, LeditsSettings(steps=2))),
        (models.instruct, partial(instruct_pix2pix.edit_task, models, task, InstructPix2PixSettings(steps=2))),
    )
    for model, edit in runs:
        outcome = edit(0, CostTracker())
        # Sides are padded to multiples of 8 pixels, and a cell of the latents is 4 wide.
        assert outcome.latents.shape == (1, 4, 14, 18)
        assert torch.equal(model.decode(outcome.latents)[..., :50, :70], outcome.edited)


def test_imagic_leaves_the_model_as_it_was_and_its_copy_is_gone_without_a_collection(models, task):
    unet = models.model.unet
    before = copy.deepcopy(unet.state_dict())
    gc.collect()
    gc.disable()
    try:
        there = living_unets()
        outcome = imagic.edit_task(models, task, SHORT, 0, CostTracker())
        assert living_unets() == there
    finally:
        gc.enable()
    assert not torch.equal(outcome.edited, task.image)
    assert all(torch.equal(weight, before[name]) for name, weight in unet.state_dict().items())
    assert not any(weight.requires_grad or weight.grad is not None for weight in unet.parameters())


def living_unets() -> set[int]:
    return {id(held) for held in gc.get_objects() if isinstance(held, UNet2DConditionModel)}


def test_imagic_reads_the_target_alone(models, task):
    edits = [
        imagic.edit_task(models, dataclasses.replace(task, source=source), SHORT, 0, CostTracker()).edited
        for source in ("", "a red cat and a dog")
    ]
    assert torch.equal(*edits)
    assert imagic.target_of(models, task, SHORT).text == "a red fox and a dog"


def test_an_instruction_goes_before_the_two_texts(models, task):
    settings = InstructPix2PixSettings(steps=2)
    assert instruct_pix2pix.instruction_of(models, task, settings).text == "turn the red cat into a red fox"
    told = dataclasses.replace(task, source="", target="", instruction="make it winter")
    assert instruct_pix2pix.instruction_of(models, told, settings).text == "make it winter"


def test_concepts_stay_in_the_cells_that_the_mask_half_covers(models, task):
    mask = torch.zeros(50, 70)
    mask[8:14, 20:41] = 1
    concepts, place = ledits.plan_of(models, dataclasses.replace(task, mask=mask), LeditsSettings(within_mask=True))
    assert [(concept.prompt.text, concept.removed) for concept in concepts] == [
        ("red cat", True),
        ("red fox", False),
    ]
    # Cells are four pixels wide: rows 12 and 13 are half of one, column 40 is a quarter of one.
    wanted = torch.zeros(14, 18)
    wanted[2:4, 5:10] = 1
    assert place is not None and torch.equal(place, wanted)
    # Without being told to, it looks at no mask.
    assert ledits.plan_of(models, dataclasses.replace(task, mask=mask), LeditsSettings())[1] is None


BAD = {
    "no target for Imagic": (imagic.edit_task, {"target": " "}, SHORT, "prompt is empty"),
    "too many steps of Imagic": (imagic.edit_task, {}, ImagicSettings(steps=1001), "steps: got 1001"),
    "no order": (instruct_pix2pix.edit_task, {"instruction": " "}, InstructPix2PixSettings(), "prompt is empty"),
    "too many steps of InstructPix2Pix": (
        instruct_pix2pix.edit_task,
        {},
        InstructPix2PixSettings(steps=1001),
        "steps: got 1001",
    ),
    "no source": (ledits.edit_task, {"source": ""}, LeditsSettings(), "prompt is empty"),
    "no place": (ledits.edit_task, {}, LeditsSettings(within_mask=True), "mask: got none"),
    "a mask of another size": (
        ledits.edit_task,
        {"mask": torch.ones(64, 64)},
        LeditsSettings(within_mask=True),
        r"mask: got the shape \(64, 64\), requires the image's \(50, 70\)",
    ),
    "a prior of another size": (
        ledits.edit_task,
        {"prior": from_boxes({"cat": (8, 8, 40, 36)}, (64, 64))},
        LeditsSettings(within_mask=True),
        "prior: its masks have 64x64 pixels, requires the image's 70x50",
    ),
    "a prior of another word": (
        ledits.edit_task,
        {"prior": from_boxes({"owl": (8, 8, 40, 36)}, (50, 70))},
        LeditsSettings(within_mask=True),
        "'owl'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_is_said_before_the_image_is_encoded(models, task, case, monkeypatch):
    edit, changes, settings, message = BAD[case]

    def encode(self: object, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the image was encoded")

    monkeypatch.setattr(type(models.model), "encode", encode)
    with pytest.raises(ValueError, match=message):
        edit(models, dataclasses.replace(task, **changes), settings, 0, CostTracker())


def test_a_unet_that_reads_no_image_is_refused_before_it_is_given_one(models, task, monkeypatch):
    monkeypatch.setattr(type(models.model), "encode", None)
    plain = MethodModels(instruct=models.model)
    with pytest.raises(ValueError, match=r"model 'small': its UNet reads 4 channels, requires 8"):
        instruct_pix2pix.edit_task(plain, task, InstructPix2PixSettings(), 0, CostTracker())
