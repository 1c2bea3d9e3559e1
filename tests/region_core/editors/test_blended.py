"""Blended latent diffusion: against diffusers' own blending, by counting, and by what must not change."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, StableDiffusionInpaintPipeline

from pinpoint.locinv_core.cost import CostTracker
from pinpoint.region_core.editors.base import cells_of, kept_steps, seeded_noise
from pinpoint.region_core.editors.blended import BlendedEditor
from pinpoint.tests.fixtures.tiny_editors import box_masks, small_model, smooth_image

PROMPT = "a red fox in the snow"
BOXES = ((8, 8, 40, 40), (24, 0, 64, 32), (0, 40, 16, 64))


@pytest.fixture(name="model", scope="module")
def _model():
    return small_model()


@pytest.fixture(name="image", scope="module")
def _image():
    return smooth_image()


def diffusers_blend(model, image, mask, *, strength, guidance, steps, noise, negative=None):
    """The image that diffusers makes of one mask, starting from and blending with `noise`.

    Where diffusers is given its noise it starts from it whatever the strength, so the start is mixed here.
    """
    scheduler = DDIMScheduler.from_config(dict(model.schedule.config))
    pipeline = StableDiffusionInpaintPipeline(
        vae=model.vae,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
        unet=model.unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    plain = pipeline.prepare_latents

    def with_our_noise(*arguments, **named):
        *_, source = plain(*arguments, **named)
        scheduler.set_timesteps(steps)
        first = scheduler.timesteps[steps - int(steps * strength)].reshape(1)
        start = noise if strength == 1 else scheduler.add_noise(source, noise, first)
        return start, noise, source

    pipeline.prepare_latents = with_our_noise
    return pipeline(
        prompt=PROMPT,
        negative_prompt=negative,
        image=image,
        mask_image=mask,
        height=image.shape[-2],
        width=image.shape[-1],
        strength=strength,
        guidance_scale=guidance,
        num_inference_steps=steps,
        output_type="pt",
    ).images


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize(("strength", "guidance"), [(1.0, 7.5), (0.5, 3.0), (0.5, 1.0)])
def test_an_edit_is_the_one_that_diffusers_makes_by_the_same_noise(image, prediction, strength, guidance):
    model = small_model(prediction)
    masks = box_masks(BOXES[0])
    ours = BlendedEditor(model, strength, guidance, steps=4).edit(image, masks, PROMPT, seed=3)
    noise = seeded_noise((1, 4, 16, 16), 3)
    theirs = diffusers_blend(model, image, masks, strength=strength, guidance=guidance, steps=4, noise=noise)
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=0)


def test_outside_the_mask_the_latents_are_the_images_own_bit_for_bit(model, image):
    editor = BlendedEditor(model, steps=4)
    source = model.encode(image)
    cells = cells_of(box_masks(*BOXES), model.latent_factor)
    latents = editor.edit_latents(source, cells, torch.randn(2, 77, 32), seed=0)
    for one, inside in zip(latents, cells[:, 0] > 0, strict=True):
        assert torch.equal(one[:, ~inside], source[0][:, ~inside])
        assert (one[:, inside] != source[0][:, inside]).float().mean() > 0.99


def test_a_composite_keeps_every_pixel_outside_and_edits_those_inside(model, image):
    masks = box_masks(*BOXES)
    edited = BlendedEditor(model, steps=3, composite=True).edit(image, masks, PROMPT, seed=0)
    outside = (masks == 0).expand_as(edited)
    assert torch.equal(edited[outside], image.expand_as(edited)[outside])
    assert (edited[~outside] != image.expand_as(edited)[~outside]).float().mean() > 0.9


def test_without_the_composite_the_background_is_the_reconstruction(model, image):
    plain, composited = (
        BlendedEditor(model, steps=3, composite=c).edit(image, box_masks(BOXES[0]), PROMPT, seed=0)
        for c in (False, True)
    )
    corner = (slice(None), slice(None), slice(48, 64), slice(48, 64))
    assert torch.equal(composited[corner], image[corner])
    assert not torch.equal(plain[corner], image[corner])


@pytest.mark.parametrize(
    ("steps", "strength", "guidance", "passes"),
    [
        (10, 0.75, 7.5, 7 * 2 * 3),  # ⌊7.5⌋ steps, two branches, three masks
        (10, 1.0, 1.0, 10 * 1 * 3),
        (4, 0.1, 2.0, 1 * 2 * 3),  # never fewer than one step
    ],
)
def test_the_cost_is_two_passes_a_step_and_a_mask(model, image, steps, strength, guidance, passes):
    tracker = CostTracker()
    editor = BlendedEditor(model, strength, guidance, steps=steps)
    with tracker.stage("candidates"):
        editor.edit(image, box_masks(*BOXES), PROMPT, seed=0, tracker=tracker)
    assert tracker.forward_equivalents == {"candidates": passes}


def test_strength_is_the_share_of_the_steps_whatever_floating_point_makes_of_it():
    assert [kept_steps(100, share) for share in (0.29, 0.57, 0.999, 1.0)] == [29, 57, 99, 100]


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_masks_in_a_batch_give_what_each_gives_alone(model, image, batch):
    masks = box_masks(*BOXES)
    together = BlendedEditor(model, steps=3, batch=batch).edit(image, masks, PROMPT, seed=5)
    single = BlendedEditor(model, steps=3)
    alone = torch.cat([single.edit(image, mask[None], PROMPT, seed=5) for mask in masks])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_in_a_window_an_edit_is_that_of_the_enlarged_part_and_the_rest_is_the_image(model, image):
    mask = torch.zeros(1, 1, *image.shape[-2:])
    mask[..., 8:24, 16:32] = 1  # 16 x 16 pixels: at a factor of 2 its window is 32 x 32
    assert tuple(image.shape[-2:]) == (64, 64)
    window = BlendedEditor(model, steps=3, window=2.0, feather=0).edit(image, mask, PROMPT, seed=5)

    part = F.interpolate(
        image[..., :32, 8:40], size=(64, 64), mode="bicubic", align_corners=False, antialias=True
    ).clamp(0, 1)
    of_part = torch.zeros_like(mask)
    of_part[..., 16:48, 16:48] = 1
    edited = BlendedEditor(model, steps=3).edit(part, of_part, PROMPT, seed=5)
    small = F.interpolate(edited, size=(32, 32), mode="bicubic", align_corners=False, antialias=True)
    expected = image.clone()
    expected[..., 8:24, 16:32] = small.clamp(0, 1)[..., 8:24, 8:24]
    torch.testing.assert_close(window, expected, atol=1e-4, rtol=0)


def test_where_the_window_is_the_whole_image_only_the_composite_is_new(model, image):
    whole = torch.ones(1, 1, *image.shape[-2:])
    windowed, plain = (
        BlendedEditor(model, steps=3, **settings).edit(image, whole, PROMPT, seed=5)
        for settings in ({"window": 1.5}, {"composite": True})
    )
    assert torch.equal(windowed, plain)


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_windows_in_a_batch_give_what_each_gives_alone(model, image, batch):
    masks = box_masks(*BOXES)
    together = BlendedEditor(model, steps=3, batch=batch, window=1.5).edit(image, masks, PROMPT, seed=5)
    single = BlendedEditor(model, steps=3, window=1.5)
    alone = torch.cat([single.edit(image, mask[None], PROMPT, seed=5) for mask in masks])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=0)


def test_a_seed_decides_the_edit(model, image):
    editor = BlendedEditor(model, steps=3)
    first, again, other = (editor.edit(image, box_masks(BOXES[0]), PROMPT, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert (first - other).abs().max() > 0.01


@pytest.mark.parametrize(
    "changed",
    [{"strength": 0.5}, {"guidance": 1.5}, {"steps": 6}, {"negative": "a dog"}, {"feather": 9.0}],
    ids=lambda changed: next(iter(changed)),
)
def test_every_setting_has_an_effect(model, image, changed):
    usual = {"steps": 8, "strength": 0.75, "guidance": 7.5, "composite": True}
    first, second = (
        BlendedEditor(model, **settings).edit(image, box_masks(BOXES[0]), PROMPT, seed=0)
        for settings in (usual, {**usual, **changed})
    )
    assert (first - second).abs().max() > 1e-3


def test_steps_and_prompt_of_a_call_have_an_effect(model, image):
    editor = BlendedEditor(model, steps=8)
    usual = editor.edit(image, box_masks(BOXES[0]), PROMPT, seed=0)
    fewer = editor.edit(image, box_masks(BOXES[0]), PROMPT, seed=0, steps=4)
    other = editor.edit(image, box_masks(BOXES[0]), "a house", seed=0)
    assert torch.equal(fewer, BlendedEditor(model, steps=4).edit(image, box_masks(BOXES[0]), PROMPT, seed=0))
    assert (usual - fewer).abs().max() > 1e-3 and (usual - other).abs().max() > 1e-3


def test_an_image_of_any_size_comes_back_in_its_size(model):
    image = smooth_image(70, 91)
    masks = box_masks((60, 40, 91, 70), size=(70, 91))
    edited = BlendedEditor(model, steps=2, composite=True).edit(image, masks, PROMPT, seed=0)
    assert edited.shape == image.shape
    assert 0 <= float(edited.min()) and float(edited.max()) <= 1


def test_progress_shows_latents_and_can_cancel(model, image):
    seen = []

    class Cancelled(Exception):
        pass

    def progress(stage, step, steps, preview):
        seen.append((stage, step, steps, tuple(preview.shape)))
        if step == 3:
            raise Cancelled

    tracker = CostTracker(progress)
    editor = BlendedEditor(model, strength=1.0, steps=2, batch=2)
    with pytest.raises(Cancelled), tracker.stage("edits"):
        editor.edit(image, box_masks(*BOXES), PROMPT, seed=0, tracker=tracker)
    assert seen == [("edits", k, 4, (n, 4, 16, 16)) for k, n in ((1, 2), (2, 2), (3, 1))]
    assert tracker.total == 2 * 2 * 2 + 2


def test_a_cell_belongs_to_the_mask_that_covers_half_of_it():
    masks = box_masks((4, 0, 10, 4), (0, 0, 1, 1), size=(8, 12))
    wanted = torch.tensor([[[0.0, 1, 1], [0, 0, 0]], [[1, 0, 0], [0, 0, 0]]])
    assert torch.equal(cells_of(masks, 4)[:, 0], wanted)


BAD = {
    "two images": (lambda i, m: (i.repeat(2, 1, 1, 1), m), "one image"),
    "masks of another size": (lambda i, m: (i, m[..., 8:]), r"requires \(B, 1, 64, 64\)"),
    "no mask": (lambda i, m: (i, m[:0]), "requires"),
    "an empty mask": (lambda i, m: (i, torch.cat([m, m * 0])), "number 2 of 2 is empty"),
    "a soft mask": (lambda i, m: (i, m / 2), "other than 0 and 1"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_is_refused_before_any_pass(model, image, case):
    spoil, message = BAD[case]
    tracker = CostTracker()
    with pytest.raises(ValueError, match=message):
        BlendedEditor(model).edit(*spoil(image, box_masks(BOXES[0])), PROMPT, seed=0, tracker=tracker)
    assert tracker.total == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": 0.0}, "strength: got 0"),
        ({"strength": 1.5}, "strength: got 1.5"),
        ({"guidance": -1.0}, "guidance: got -1"),
        ({"steps": 0}, "steps: got 0"),
        ({"batch": 0}, "batch: got 0"),
        ({"window": 0.5}, "window: got 0.5"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(model, settings, message):
    with pytest.raises(ValueError, match=message):
        BlendedEditor(model, **settings)


@pytest.mark.parametrize(("prompt", "message"), [("  ", "empty"), ("fox " * 90, "too long")])
def test_a_prompt_that_cannot_be_read_whole_is_refused(model, image, prompt, message):
    with pytest.raises(ValueError, match=message):
        BlendedEditor(model).edit(image, box_masks(BOXES[0]), prompt, seed=0)
