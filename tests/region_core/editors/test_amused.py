"""aMUSEd edits: against diffusers' own inpainting, token by token, by counting, and opened from a folder."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from diffusers import AmusedInpaintPipeline, AmusedScheduler

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.editors.amused import EDITOR, AmusedEditor, load_amused_model, masked_first
from pinpoint.tests.fixtures.tiny_editors import (
    CODES,
    MASK_TOKEN,
    TOKEN_PIXELS,
    box_masks,
    smooth_image,
    write_amused_folder,
)

PROMPT = "a red fox in the snow"
BOXES = ((8, 8, 40, 40), (24, 0, 64, 32), (0, 40, 16, 64))


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    return write_amused_folder(tmp_path_factory.mktemp("amused"))


@pytest.fixture(name="model", scope="module")
def _model(folder):
    return load_amused_model(folder, device="cpu")


@pytest.fixture(name="image", scope="module")
def _image():
    return smooth_image()


def outside_of(box):
    x0, y0, x1, y1 = (side // TOKEN_PIXELS for side in box)
    outside = torch.ones(16, 16, dtype=torch.bool)
    outside[y0:y1, x0:x1] = False
    return outside


def cells_of_boxes():
    return torch.stack([~outside_of(box) for box in BOXES])


@pytest.mark.parametrize(("guidance", "steps"), [(10.0, 5), (1.0, 3)])
def test_an_edit_of_the_whole_box_is_the_one_that_diffusers_makes(model, image, guidance, steps):
    pipeline = AmusedInpaintPipeline(
        vqvae=model.vqvae,
        tokenizer=model.tokenizer,
        text_encoder=model.text_encoder,
        transformer=model.transformer,
        scheduler=AmusedScheduler(mask_token_id=MASK_TOKEN),
    )
    pipeline.set_progress_bar_config(disable=True)
    masks = box_masks(BOXES[0])
    theirs = pipeline(
        PROMPT,
        image,
        masks,
        guidance_scale=guidance,
        num_inference_steps=steps,
        generator=torch.Generator().manual_seed(7),
        output_type="pt",
    ).images
    ours = AmusedEditor(model, guidance=guidance, steps=steps).edit(image, masks, PROMPT, seed=7)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_the_images_of_tokens_are_what_the_vq_model_reconstructs(model, image):
    theirs = model.vqvae(image).sample.clamp(0, 1)
    torch.testing.assert_close(model.decode(model.encode(image)), theirs)


def conditions(model):
    return [
        (torch.randn(1, 77, 32, generator=g), torch.randn(1, 32, generator=g))
        for g in (torch.Generator().manual_seed(1), torch.Generator().manual_seed(2))
    ]


def test_tokens_outside_the_box_are_the_images_own(model, image):
    source = model.encode(image)
    tokens = AmusedEditor(model).edit_tokens(source, cells_of_boxes(), conditions(model), seed=0, steps=4)
    for one, box in zip(tokens, BOXES, strict=True):
        outside = outside_of(box)
        assert torch.equal(one[outside], source[0][outside])
        assert (one[~outside] != source[0][~outside]).any()
        assert int(one.max()) < CODES


def test_only_the_masked_tokens_change_and_strength_says_how_many_there_are(model, image):
    cells = cells_of_boxes()
    sizes = [64, 80, 24]
    assert cells.flatten(1).sum(dim=1).tolist() == sizes
    for strength, counts in ((1.0, sizes), (0.5, [32, 40, 12]), (0.01, [1, 1, 1])):
        chosen = masked_first(cells, strength, seed=3)
        assert chosen.flatten(1).sum(dim=1).tolist() == counts
        assert not (chosen & ~cells).any()
    source = model.encode(image)
    half = masked_first(cells, 0.5, seed=3)
    tokens = AmusedEditor(model, strength=0.5).edit_tokens(source, cells, conditions(model), seed=3, steps=2)
    assert torch.equal(tokens[~half], source.expand(3, -1, -1)[~half])


def test_the_cost_is_two_passes_a_step_and_a_mask(model, image):
    tracker = CostTracker()
    with tracker.stage("candidates"):
        AmusedEditor(model, steps=5).edit(image, box_masks(*BOXES), PROMPT, seed=0, tracker=tracker)
    assert tracker.forward_equivalents == {"candidates": 5 * 2 * 3}
    tracker = CostTracker()
    with tracker.stage("candidates"):
        AmusedEditor(model, guidance=1.0).edit(image, box_masks(*BOXES), PROMPT, seed=0, steps=2, tracker=tracker)
    assert tracker.forward_equivalents == {"candidates": 2 * 1 * 3}


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_masks_in_a_batch_give_what_each_gives_alone(model, image, batch):
    masks = box_masks(*BOXES)
    together = AmusedEditor(model, steps=4, strength=0.8, batch=batch).edit(image, masks, PROMPT, seed=5)
    single = AmusedEditor(model, steps=4, strength=0.8)
    alone = torch.cat([single.edit(image, mask[None], PROMPT, seed=5) for mask in masks])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_a_seed_decides_the_edit(model, image):
    editor = AmusedEditor(model, steps=3)
    first, again, other = (editor.edit(image, box_masks(BOXES[0]), PROMPT, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01


@pytest.mark.parametrize(
    "changed",
    [{"strength": 0.4}, {"guidance": 2.0}, {"steps": 7}, {"negative": "a dog"}, {"feather": 9.0}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_an_effect(model, image, changed):
    usual = {"steps": 4, "composite": True}
    first, second = (
        AmusedEditor(model, **settings).edit(image, box_masks(BOXES[0]), PROMPT, seed=0)
        for settings in (usual, {**usual, **changed})
    )
    assert (first - second).abs().max() > 1e-3


def test_the_prompt_has_an_effect(model, image):
    editor = AmusedEditor(model, steps=3)
    fox, house = (editor.edit(image, box_masks(BOXES[0]), text, seed=0) for text in (PROMPT, "a house"))
    assert (fox - house).abs().max() > 1e-3


def test_a_composite_keeps_every_pixel_outside(model, image):
    masks = box_masks(*BOXES)
    edited = AmusedEditor(model, steps=2, composite=True).edit(image, masks, PROMPT, seed=0)
    outside = (masks == 0).expand_as(edited)
    assert torch.equal(edited[outside], image.expand_as(edited)[outside])


def test_an_image_of_any_size_comes_back_in_its_size(model):
    image = smooth_image(66, 91)
    masks = box_masks((60, 40, 91, 66), size=(66, 91))
    assert AmusedEditor(model, steps=2).edit(image, masks, PROMPT, seed=0).shape == image.shape


def test_a_cancel_passes_through_at_once(model, image):
    class Cancelled(Exception):
        pass

    def progress(stage, step, steps, preview):
        assert preview is None  # tokens are no latents
        if step == 2:
            raise Cancelled

    tracker = CostTracker(progress)
    with pytest.raises(Cancelled):
        AmusedEditor(model, steps=9).edit(image, box_masks(BOXES[0]), PROMPT, seed=0, tracker=tracker)
    assert tracker.total == 2 * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 0.0}, "strength: got 0"),
        ({"guidance": float("nan")}, "guidance: got nan"),
        ({"steps": 0}, "steps: got 0"),
        ({"batch": 0}, "batch: got 0"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        AmusedEditor(model, **settings)


@pytest.mark.parametrize(("prompt", "message"), [(" ", "empty"), ("fox " * 90, "too long")])
def test_a_prompt_that_cannot_be_read_whole_is_refused(model, image, prompt, message):
    tracker = CostTracker()
    with pytest.raises(ValueError, match=message):
        AmusedEditor(model).edit(image, box_masks(BOXES[0]), prompt, seed=0, tracker=tracker)
    assert tracker.total == 0


def test_settings_are_passed_on_to_the_editor_that_is_opened(folder):
    editor = EDITOR.load(folder, device="cpu", strength=0.5, guidance=3.0, steps=4)
    assert (editor.strength, editor.guidance, editor.steps) == (0.5, 3.0, 4)


def test_a_folder_without_a_part_is_refused_by_its_name(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "vqvae")
    with pytest.raises(ValueError, match="lacks vqvae"):
        load_amused_model(tmp_path / "model", device="cpu")


def test_pickled_weights_are_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    weights = tmp_path / "model" / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    with pytest.raises(ValueError, match="cannot be opened"):
        load_amused_model(tmp_path / "model", device="cpu")


def test_a_mask_token_that_is_also_a_code_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "model")
    path = tmp_path / "model" / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "mask_token_id": 5}))
    with pytest.raises(ValueError, match="mask token is 5"):
        load_amused_model(tmp_path / "model", device="cpu")


def test_a_model_that_is_nowhere_is_refused(tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        load_amused_model(tmp_path / "nothing", device="cpu")
