"""Finding a word's place: on maps and images that we drew, so that the right box is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from pinpoint.locinv_core.backbones.flops import count_flops
from pinpoint.locinv_core.backbones.loading import load_edit_model
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.imaging.io import size_within
from pinpoint.locinv_core.text.prompt import parse_prompt
from pinpoint.region_core.encoders.clip import load_clip
from pinpoint.region_core.encoders.vit import PatchFeatures, load_vit
from pinpoint.region_core.object_localization.attention_localizer import (
    Located,
    LocateSettings,
    attention_maps,
    detection_prior,
    locate_changed,
    locate_words,
    other_phrases,
    phrase_of,
)
from pinpoint.region_core.object_localization.box_ranking import LocatedBox, rank_boxes, sharpened, soft_iou, windows
from pinpoint.research.embedded_world.scenes.wording import overlap
from pinpoint.tests.fixtures.tiny_editors import small_model, smooth_image
from pinpoint.tests.fixtures.trials import held_out_trial

NOWHERE = torch.zeros(0, 7, 4)


@pytest.fixture(name="model", scope="module")
def _model():
    return small_model()


def locate_word(model, vision, clip, image, prompt, word, *settings, **options):
    return locate_words(model, vision, clip, image, prompt, [word], *settings, **options)[word]


def prompt_of(model, text):
    return parse_prompt(text, model.tokenizer)


def box_iou(first, second):
    """IoU by counting pixels."""
    a, b = (np.zeros((200, 200), dtype=bool) for _ in range(2))
    for mask, (x0, y0, x1, y1) in ((a, first), (b, second)):
        mask[int(y0) : int(y1), int(x0) : int(x1)] = True
    return (a & b).sum() / (a | b).sum()


def blob(box, size=(64, 64)):
    """An object's attention: strong inside the box, half as strong at its edge, and noise all over."""
    x0, y0, x1, y1 = box
    rows, columns = torch.meshgrid(torch.arange(size[0]) + 0.5, torch.arange(size[1]) + 0.5, indexing="ij")
    x, y = (columns - (x0 + x1) / 2) / (x1 - x0), (rows - (y0 + y1) / 2) / (y1 - y0)
    noise = torch.rand(size, generator=torch.Generator().manual_seed(0))
    return 0.5 ** ((2 * torch.maximum(x.abs(), y.abs())) ** 6) + 0.2 * noise


def drawn(*objects, size=64):
    """A grey image (1, 3, size, size) with a filled box of a colour for each (colour, box)."""
    picture = Image.new("RGB", (size, size), (128, 128, 128))
    draw = ImageDraw.Draw(picture)
    for colour, (x0, y0, x1, y1) in objects:
        draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)
    return torch.from_numpy(np.asarray(picture).copy()).permute(2, 0, 1)[None] / 255


class ColourGuide:
    """A CLIP that knows two objects: red cats, and that other objects are blue."""

    def __init__(self):
        self.asked = []

    def encode_texts(self, texts):
        self.asked.append(list(texts))
        rows = [[1.0, 0, 0] if "red" in text else [0, 0, 1.0] for text in texts]
        return torch.tensor(rows)

    def encode_images(self, images):
        return torch.nn.functional.normalize(images.mean(dim=(2, 3)), dim=-1)


class FlatVision:
    """A ViT with patches of 8 pixels whose attention peaks where it is told."""

    def __init__(self, peak):
        self.peak = peak

    def look(self, image):
        attention = torch.zeros(8, 8)
        attention[self.peak] = 1
        return PatchFeatures(attention, torch.zeros(4, 8, 8), 8, (64, 64))


def test_soft_iou_of_a_mask_is_the_iou_of_the_box_with_it():
    mask = torch.zeros(20, 30)
    mask[4:12, 6:20] = 1
    boxes = [(6, 4, 20, 12), (6, 4, 20, 20), (0, 0, 30, 20), (0, 12, 30, 20), (10, 0, 25, 9)]
    wanted = []
    for x0, y0, x1, y1 in boxes:
        box = torch.zeros(20, 30, dtype=torch.bool)
        box[y0:y1, x0:x1] = True
        wanted.append(float((box & (mask > 0)).sum() / (box | (mask > 0)).sum()))
    assert soft_iou(mask, torch.tensor(boxes)).tolist() == pytest.approx(wanted)


def test_a_map_is_brought_from_its_median_and_maximum_to_0_and_1():
    values = torch.tensor([[1.0, 2.0, 3.0], [5.0, 6.0, 11.0], [0.0, 0.0, 3.0]])
    wanted = torch.tensor([[0.0, 0, 0], [0.25, 0.375, 1], [0, 0, 0]])  # median 3, maximum 11
    torch.testing.assert_close(sharpened(values, 1.0), wanted)
    torch.testing.assert_close(sharpened(values, 0.5), wanted.sqrt())
    assert not sharpened(torch.ones(3, 3), 1.0).any()


def test_windows_stay_inside_and_reach_every_edge():
    settings = LocateSettings(least=0.25, most=0.5, growth=2.0, stride=0.25, aspects=(1.0, 4.0))
    boxes = windows((8, 10), settings)
    sizes = {(int(x1 - x0), int(y1 - y0)) for x0, y0, x1, y1 in boxes}
    assert sizes == {(2, 2), (4, 1), (4, 4), (8, 2)}  # sides 2 and 4 of the shorter side's 8
    assert boxes[:, :2].min() == 0
    assert boxes[:, 2].max() == 10 and boxes[:, 3].max() == 8
    squares = boxes[(boxes[:, 2] - boxes[:, 0] == 2) & (boxes[:, 3] - boxes[:, 1] == 2)]
    assert len(squares) == 5 * 4  # x 0, 2 … 8, y 0, 2 … 6


@pytest.mark.parametrize("box", [(8, 8, 32, 32), (30, 5, 62, 37), (2, 40, 24, 62), (20, 20, 44, 44)])
def test_the_best_window_is_where_the_map_is_strong(box):
    places = rank_boxes(blob(box), (64, 64), NOWHERE, None, LocateSettings())
    assert box_iou(places[0].box, box) > 0.7
    assert places[0].clip is None and places[0].attention == pytest.approx(1)
    scores = [place.score for place in places]
    assert scores == sorted(scores, reverse=True) and len(places) == LocateSettings().shortlist


def test_boxes_are_in_the_pixels_of_the_image_however_coarse_the_map():
    places = rank_boxes(blob((8, 8, 32, 32)), (128, 192), NOWHERE, None, LocateSettings())
    x0, y0, x1, y1 = places[0].box
    assert box_iou((x0 / 3, y0 / 2, x1 / 3, y1 / 2), (8, 8, 32, 32)) > 0.6
    assert all(float(side).is_integer() for place in places for side in place.box)


def test_a_higher_gamma_makes_smaller_boxes():
    areas = []
    for gamma in (0.3, 2.0):
        places = rank_boxes(blob((8, 8, 40, 40)), (64, 64), NOWHERE, None, LocateSettings(gamma=gamma))
        x0, y0, x1, y1 = places[0].box
        areas.append((x1 - x0) * (y1 - y0))
    assert areas[0] > 1.3 * areas[1]


def test_a_long_object_has_a_long_box_where_aspects_allow_it():
    box = (8, 24, 56, 40)
    square = rank_boxes(blob(box), (64, 64), NOWHERE, None, LocateSettings())
    wide = rank_boxes(blob(box), (64, 64), NOWHERE, None, LocateSettings(aspects=(0.5, 1.0, 2.0, 3.0)))
    assert box_iou(wide[0].box, box) > 0.7 > box_iou(square[0].box, box)


def test_clip_decides_where_attention_cannot(model):
    """Two objects draw the same attention; only CLIP sees which of them is red."""
    red, blue = (4, 4, 28, 28), (36, 36, 60, 60)
    image = drawn(((255, 0, 0), red), ((0, 0, 255), blue))
    both = blob(red) + blob(blue)
    from pinpoint.region_core.object_localization.attention_localizer import _CropJudge

    for phrase, other, wanted in (("red cat", "blue dog", red), ("blue dog", "red cat", blue)):
        judge = _CropJudge(ColourGuide(), image, phrase, [other], LocateSettings())
        places = rank_boxes(both, (64, 64), NOWHERE, judge, LocateSettings())
        assert box_iou(places[0].box, wanted) > 0.6
        assert max(place.clip for place in places) == 1 and min(place.clip for place in places) == 0


def test_a_box_around_an_anchor_is_judged_although_attention_is_elsewhere(model):
    red, elsewhere = (0, 40, 24, 64), (36, 4, 60, 28)
    image = drawn(((255, 0, 0), red), ((0, 0, 255), elsewhere))
    from pinpoint.region_core.object_localization.attention_localizer import _around_anchors, _CropJudge

    settings = LocateSettings(clip_weight=0.9, shortlist=4, k=1)
    anchors, squares = _around_anchors(FlatVision((6, 1)), image, settings)
    assert anchors.tolist() == [[12.0, 52.0]]
    judge = _CropJudge(ColourGuide(), image, "red cat", ["blue dog"], settings)
    # Attention has a trace on the red object, too little for any of the four windows.
    values = blob(elsewhere) + 0.3 * blob(red)
    without = rank_boxes(values, (64, 64), NOWHERE, judge, settings)
    with_anchor = rank_boxes(values, (64, 64), squares, judge, settings)
    assert box_iou(with_anchor[0].box, red) > 0.5 > box_iou(without[0].box, red)


def test_a_square_that_ends_with_the_image_is_judged_whatever_the_images_size():
    settings = LocateSettings(least=0.9, most=0.9, shortlist=1)
    for height in range(130, 300):
        # Cells are no whole number of pixels high, and the square ends where the last of them does.
        values = torch.rand(size_within(height, 300, 128), generator=torch.Generator().manual_seed(height))
        whole = torch.tensor([[[0.0, 0.0, 300.0, height]]])
        places = rank_boxes(values, (height, 300), whole, None, settings)
        assert (0.0, 0.0, 300.0, float(height)) in [place.box for place in places]


def test_clip_may_judge_on_a_device_that_has_no_double_precision():
    class OnMetal:
        """Evidence on a device of Apple's."""

        def __init__(self, values):
            self.values = values

        def cpu(self):
            return self.values

        def double(self):
            raise TypeError("float64 is not to be had there")

    def judge(boxes):
        return OnMetal(boxes[:, 0] / 64)

    places = rank_boxes(blob((8, 8, 32, 32)), (64, 64), NOWHERE, judge, LocateSettings(clip_weight=1.0))
    assert places[0].box[0] == max(place.box[0] for place in places)


def test_clip_is_asked_for_the_phrase_and_for_the_prompts_other_objects(model):
    guide = ColourGuide()
    prompt = prompt_of(model, "an orange fox and a striped red cat on the beach")
    locate_word(model, None, guide, smooth_image(), prompt, "fox", LocateSettings(levels=(0.5,)))
    assert guide.asked == [["an orange fox", "a striped red cat", "a beach"]]
    templated = LocateSettings(levels=(0.5,), template="a photo of {}")
    locate_word(model, None, guide, smooth_image(), prompt, "cat", templated)
    assert guide.asked[1][0] == "a photo of a striped red cat"


def test_a_phrase_is_the_noun_with_its_adjectives(model):
    prompt = prompt_of(model, "a red cat and a blue cat")
    first, second = phrase_of(prompt, "cat"), phrase_of(prompt, "cat#2")
    assert (first.text, second.text) == ("red cat", "blue cat")
    assert second.tokens == (6, 7)  # <start> a red cat and a blue cat
    assert other_phrases(prompt, second) == ["red cat"]
    assert phrase_of(prompt, "red cat") == first
    with pytest.raises(ValueError, match=r"horse.*its words are"):
        phrase_of(prompt, "horse")


def test_what_reads_the_same_is_no_distractor(model):
    prompt = prompt_of(model, "a red cat beside a red cat")
    assert other_phrases(prompt, phrase_of(prompt, "cat")) == []


def test_the_maps_are_the_models_attention_averaged_over_noise_levels(model):
    """Against attention computed anew from each layer's own projections."""
    image, prompt = smooth_image(), prompt_of(model, "a red cat on the beach")
    settings = LocateSettings(levels=(0.25, 0.5), seed=4)
    maps = attention_maps(model, image, prompt, settings)
    assert maps.shape == (64, 64, 77)

    noises = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(4))
    context = model.encode_prompt(prompt)
    names = {layer.name for layer in model.map_layers}
    kept = []

    def keep(module, args, kwargs):
        heads = module.heads
        query = module.to_q(args[0]).unflatten(-1, (heads, -1)).transpose(1, 2)
        key = module.to_k(kwargs["encoder_hidden_states"]).unflatten(-1, (heads, -1)).transpose(1, 2)
        kept.append((query @ key.transpose(-1, -2) * module.scale).softmax(-1).mean(dim=1)[0])

    handles = [
        module.register_forward_pre_hook(keep, with_kwargs=True)
        for name, module in model.unet.named_modules()
        if name in names
    ]
    try:
        for timestep, noise in zip((250, 500), noises, strict=True):
            alpha = model.schedule.alphas_cumprod[timestep]
            latents = alpha.sqrt() * model.encode(image) + (1 - alpha).sqrt() * noise[None]
            with torch.no_grad():
                model.unet(latents, timestep, encoder_hidden_states=context)
    finally:
        for handle in handles:
            handle.remove()
    rows = model.map_layers[0].grid(16, 16)
    mean = torch.stack(kept).mean(dim=0).T.unflatten(1, rows)[None]
    wanted = torch.nn.functional.interpolate(mean, size=(64, 64), mode="bilinear")[0].permute(1, 2, 0)
    torch.testing.assert_close(maps, wanted, atol=1e-5, rtol=1e-4)


def test_locating_costs_one_part_of_a_pass_a_level_for_all_words_together(model):
    tracker, stages = CostTracker(), []
    tracker.progress = lambda stage, step, steps, preview: stages.append((stage, step, steps, preview.shape[-1]))
    prompt = prompt_of(model, "a red cat and a blue dog")
    settings = LocateSettings(levels=(0.2, 0.4, 0.6))
    found = locate_words(model, None, None, smooth_image(), prompt, ["cat", "dog"], settings, tracker=tracker)
    part = count_flops(model.unet, 16, 16, 77, model.map_layers[-1]) / count_flops(model.unet, 16, 16, 77)
    assert part < 1
    assert tracker.forward_equivalents == {"locate": pytest.approx(3 * part)}
    assert stages == [("locate", step, 3, 16) for step in (1, 2, 3)]
    assert {word: found[word].phrase for word in found} == {"cat": "red cat", "dog": "blue dog"}


def test_an_image_of_any_size_has_its_boxes_inside(model):
    image = smooth_image(150, 70)
    prompt = prompt_of(model, "a red cat")
    found = locate_words(model, None, None, image, prompt, ["cat"], LocateSettings(levels=(0.5,)))
    located = found["cat"]
    assert located.attention.shape == (128, 60)  # 150 to 128, 70 in proportion
    assert float(located.attention.max()) == 1
    for place in located.candidates:
        x0, y0, x1, y1 = place.box
        assert 0 <= x0 < x1 <= 70 and 0 <= y0 < y1 <= 150
    prior = detection_prior(found, (150, 70))
    x0, y0, x1, y1 = (int(side) for side in located.box)
    assert prior.kinds["cat"] == "detection"
    assert float(prior.mask("cat").sum()) == (x1 - x0) * (y1 - y0)
    assert prior.mask("cat")[y0:y1, x0:x1].all()


def test_anchors_and_squares_are_as_many_as_a_small_grid_has_room_for(model):
    prompt = prompt_of(model, "a red cat")
    settings = LocateSettings(levels=(0.5,), k=500, m=500)
    located = locate_word(model, FlatVision((0, 0)), ColourGuide(), smooth_image(), prompt, "cat", settings)
    assert located.anchors.shape == (64, 2)


def test_the_same_seed_finds_the_same_box(model):
    prompt = prompt_of(model, "a red cat")
    first, again, other = (
        locate_word(model, None, None, smooth_image(), prompt, "cat", LocateSettings(levels=(0.8,), seed=seed))
        for seed in (1, 1, 2)
    )
    assert first.candidates == again.candidates and torch.equal(first.attention, again.attention)
    assert not torch.equal(first.attention, other.attention)


def test_a_cancel_passes_through_and_bad_words_cost_nothing(model):
    class Cancelled(Exception):
        pass

    def progress(stage, step, steps, preview):
        raise Cancelled

    prompt, tracker = prompt_of(model, "a red cat"), CostTracker(progress)
    with pytest.raises(Cancelled):
        locate_word(model, None, None, smooth_image(), prompt, "cat", tracker=tracker)
    tracker = CostTracker()
    for words, message in ((["horse"], "horse"), ([], "words: got none")):
        with pytest.raises(ValueError, match=message):
            locate_words(model, None, None, smooth_image(), prompt, words, tracker=tracker)
    assert tracker.total == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"levels": ()}, "levels"),
        ({"levels": (1.0,)}, "levels"),
        ({"least": 0.9, "most": 0.5}, "windows"),
        ({"growth": 1.0}, "windows"),
        ({"aspects": (0.0,)}, "aspects"),
        ({"gamma": 0.0}, "gamma"),
        ({"clip_weight": 1.5}, "clip_weight"),
        ({"k": 0}, "k 0"),
        ({"template": "a cat"}, "template"),
    ],
)
def test_a_setting_out_of_bounds_is_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        LocateSettings(**changed)


def test_the_changed_object_is_found_in_a_scene_of_two() -> None:
    model, vision, guide = load_edit_model("embedded"), load_vit("embedded"), load_clip("embedded")
    for number in (3, 8):
        trial, tracker = held_out_trial(number, objects=2, kind="swap"), CostTracker()
        located = locate_changed(model, vision, guide, trial.image, (trial.source, trial.target), tracker=tracker)
        assert located is not None and located.word == trial.noun
        assert overlap(located.box, trial.boxes[trial.edit.index]) > 0.5
        assert tracker.total < 6  # one early-stopped pass a noise level
        other = trial.nouns[1 - trial.edit.index]
        told = locate_changed(model, vision, guide, trial.image, (trial.source, trial.target), word=other)
        assert told is not None
        assert overlap(told.box, trial.boxes[1 - trial.edit.index]) > 0.5


def test_nothing_is_localized_where_no_one_word_changes_or_the_model_would_cut_the_text() -> None:
    model, tracker = small_model(), CostTracker()
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    assert locate_changed(model, None, None, picture, ("a cat", "a cat"), tracker=tracker) is None
    long = "a cat " * 60
    assert locate_changed(model, None, None, picture, (long, "a dog"), tracker=tracker) is None
    assert tracker.total == 0
    with pytest.raises(ValueError, match="'dog' is not in the prompt"):
        locate_changed(model, None, None, picture, ("a cat", "a dog"), word="dog")
    with pytest.raises(ValueError, match="tokens"):
        locate_changed(model, None, None, picture, (long, "a dog"), word="cat")


def test_a_located_word_is_a_mask_of_its_box() -> None:
    located = Located(
        "cat", "a cat", (LocatedBox((2.0, 1.0, 5.0, 3.0), 1.0, 1.0, None),), torch.ones(2, 2), torch.zeros(0, 2)
    )
    mask = located.mask((4, 6))
    assert mask.tolist() == [[0] * 6, [0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 1, 0], [0] * 6]
