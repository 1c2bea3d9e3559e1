"""SD inpainting: against diffusers' pipeline, by counting, and opened from its folder."""

from __future__ import annotations

import json

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.editors.base import seeded_noise
from pinpoint.region_core.editors.inpaint import EDITOR, InpaintEditor, load_inpaint_model
from pinpoint.tests.fixtures.tiny_editors import box_masks, small_model, smooth_image, write_inpaint_folder
from pinpoint.tests.fixtures.tiny_models import write_tiny_folder

PROMPT = "a red fox in the snow"
BOXES = ((8, 8, 40, 40), (24, 0, 64, 32), (0, 40, 16, 64))


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory):
    return write_inpaint_folder(tmp_path_factory.mktemp("inpainting"))


@pytest.fixture(name="model", scope="module")
def _model():
    return small_model(unet_channels=9)


@pytest.fixture(name="image", scope="module")
def _image():
    return smooth_image()


def diffusers_inpaint(model, image, mask, *, guidance, steps, strength, start):
    pipeline = StableDiffusionInpaintPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=DDIMScheduler.from_config(dict(model.schedule.config)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline(
        prompt=PROMPT,
        image=image,
        mask_image=mask,
        height=image.shape[-2],
        width=image.shape[-1],
        strength=strength,
        guidance_scale=guidance,
        num_inference_steps=steps,
        latents=start,
        output_type="pt",
    ).images


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("strength", "guidance"), [(1.0, 7.5), (0.5, 2.0), (0.5, 1.0)])
def test_without_the_blend_it_is_diffusers_inpainting(image, prediction, strength, guidance):
    model = small_model(prediction, unet_channels=9)
    masks = box_masks(BOXES[0])
    ours = InpaintEditor(model, strength, guidance, steps=4, blend=False).edit(image, masks, PROMPT, seed=3)
    start = seeded_noise((1, 4, 16, 16), 3)
    if strength < 1:
        scheduler = DDIMScheduler.from_config(dict(model.schedule.config))
        scheduler.set_timesteps(4)
        start = scheduler.add_noise(model.encode(image), start, scheduler.timesteps[2:3])
    theirs = diffusers_inpaint(model, image, masks, guidance=guidance, steps=4, strength=strength, start=start)
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_with_the_blend_the_background_is_the_reconstruction_by_the_vae(model, image, monkeypatch):
    """Seen where the latents are decoded: the decoder itself mixes what is near."""
    decoded = []
    plain = type(model).decode

    def watched(self, latents):
        decoded.append(latents)
        return plain(self, latents)

    monkeypatch.setattr(type(model), "decode", watched)
    InpaintEditor(model, steps=3).edit(image, box_masks(*BOXES), PROMPT, seed=0)
    source = model.encode(image)[0]
    for latents, (x0, y0, x1, y1) in zip(torch.cat(decoded), BOXES, strict=True):
        outside = torch.ones(16, 16, dtype=torch.bool)
        outside[y0 // 4 : y1 // 4, x0 // 4 : x1 // 4] = False
        assert torch.equal(latents[:, outside], source[:, outside])
        assert (latents[:, ~outside] != source[:, ~outside]).float().mean() > 0.99


def test_a_composite_keeps_every_pixel_outside(model, image):
    masks = box_masks(*BOXES)
    edited = InpaintEditor(model, steps=2, composite=True).edit(image, masks, PROMPT, seed=0)
    outside = (masks == 0).expand_as(edited)
    assert torch.equal(edited[outside], image.expand_as(edited)[outside])


def test_the_cost_is_two_passes_a_step_and_a_mask(model, image):
    tracker = CostTracker()
    with tracker.stage("candidates"):
        InpaintEditor(model, strength=0.5, steps=6).edit(image, box_masks(*BOXES), PROMPT, seed=0, tracker=tracker)
    assert tracker.forward_equivalents == {"candidates": 3 * 2 * 3}


def test_masks_in_a_batch_give_what_each_gives_alone(model, image):
    masks = box_masks(*BOXES)
    single = InpaintEditor(model, steps=3)
    alone = torch.cat([single.edit(image, mask[None], PROMPT, seed=5) for mask in masks])
    for batch in (2, 8):
        together = InpaintEditor(model, steps=3, batch=batch).edit(image, masks, PROMPT, seed=5)
        torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_a_seed_decides_the_edit(model, image):
    editor = InpaintEditor(model, steps=3)
    first, again, other = (editor.edit(image, box_masks(BOXES[0]), PROMPT, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01


@pytest.mark.parametrize(
    "changed",
    [
        {"strength": 0.5},
        {"guidance": 1.5},
        {"steps": 6},
        {"negative": "a dog"},
        {"feather": 9.0},
        {"blend": False},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_an_effect(model, image, changed):
    usual = {"steps": 8, "composite": True}
    first, second = (
        InpaintEditor(model, **settings).edit(image, box_masks(BOXES[0]), PROMPT, seed=0)
        for settings in (usual, {**usual, **changed})
    )
    assert (first - second).abs().max() > 1e-3


def test_a_folder_opens_as_what_was_saved_with_the_settings_passed_on(folder, image):
    editor = EDITOR.load(folder, device="cpu", strength=0.5, guidance=3.0, steps=4, negative="dull")
    assert (editor.strength, editor.guidance, editor.steps, editor.negative) == (0.5, 3.0, 4, "dull")
    assert editor.model.unet.config.in_channels == 9
    masks = box_masks(BOXES[0])
    assert editor.edit(image, masks, PROMPT, seed=0).shape == image.shape


def test_another_unet_is_refused_by_one_line_before_its_weights_are_read(tmp_path):
    folder = write_tiny_folder(tmp_path / "plain")
    (folder / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"reads 4 channels, requires 9 \(an inpainting model\)") as caught:
        load_inpaint_model(folder, device="cpu")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="reads 4 channels, requires 9"):
        InpaintEditor(small_model())


def test_a_unet_for_more_latent_channels_requires_as_many_more(folder, tmp_path):
    """Embedded models have eight latent channels; an inpainting UNet for them reads seventeen."""
    config = json.loads((folder / "vae" / "config.json").read_text())
    for part in ("unet", "text_encoder", "tokenizer", "scheduler", "vae"):
        (tmp_path / part).symlink_to(folder / part)
    (tmp_path / "vae").unlink()
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text(json.dumps({**config, "latent_channels": 8}))
    with pytest.raises(ValueError, match="reads 9 channels, requires 17"):
        load_inpaint_model(tmp_path, device="cpu")


@pytest.mark.parametrize(
    ("name", "message"),
    [("embedded", "does not read a mask"), ("nowhere", "no such folder"), ("", "no such folder")],
)
def test_what_is_no_inpainting_folder_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        load_inpaint_model(name, device="cpu")


def test_pickled_weights_are_refused(folder, tmp_path):
    for part in ("vae", "text_encoder", "tokenizer", "scheduler"):
        (tmp_path / part).symlink_to(folder / part)
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text((folder / "unet" / "config.json").read_text())
    (tmp_path / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(ValueError, match="can run code"):
        load_inpaint_model(tmp_path, device="cpu")
