"""The edit command, run as a user runs it, on a tiny random model in a real diffusers folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from pinpoint.__main__ import main
from pinpoint.tests.fixtures.tiny_encoders import write_tiny_clip, write_tiny_vit
from pinpoint.tests.fixtures.tiny_models import write_tiny_folder

SOURCE, TARGET = "a red cat and a dog", "a red fox and a dog"


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory):
    return str(write_tiny_folder(tmp_path_factory.mktemp("tiny model")))


@pytest.fixture(name="image", scope="module")
def _image(tmp_path_factory):
    """An image whose sides are no multiple of anything, smooth enough to look at."""
    rows, columns = np.mgrid[0:70, 0:90]
    pixels = np.stack([rows * 3, columns * 2, 255 - rows - columns], axis=-1).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "an image.png"
    Image.fromarray(pixels).save(path)
    return path


def pinpoint_edit(image, model, out, *more):
    texts = [] if "--source" in more else ["--source", SOURCE]
    texts += [] if "--target" in more else ["--target", TARGET]
    return main(["edit", str(image), *texts, "--model", model, "--steps", "2", "--out", str(out), *more])


def test_an_edit_leaves_its_images_and_a_report(image, model, tmp_path, capsys):
    out = tmp_path / "edit"
    assert pinpoint_edit(image, model, out, "--prior", "cat=10,10,50,50", "--composite") == 0
    names = {"source.png", "reconstruction.png", "edited.png", "attention.png", "contact_sheet.png"}
    assert {file.name for file in out.iterdir()} == names | {"report.json"}
    for name in ("source.png", "reconstruction.png", "edited.png"):
        assert Image.open(out / name).size == (90, 70)
    report = json.loads((out / "report.json").read_text())
    assert (report["method"], report["steps"], report["seed"]) == ("locinv", 2, 0)
    assert set(report["words"]) == {"cat"}
    assert 0 <= report["words"]["cat"]["iou_before"] <= 1
    costs = report["forward_equivalents"]
    assert costs["inversion"] == 2 and costs["edit"] == 6
    parts = [cost for stage, cost in costs.items() if stage not in ("report", "total")]
    assert costs["total"] == pytest.approx(sum(parts))
    assert report["background"]["mse"] == 0
    assert str(out) in capsys.readouterr().out


def test_a_composite_leaves_the_background_bit_for_bit(image, model, tmp_path):
    assert pinpoint_edit(image, model, tmp_path, "--prior", "cat=10,10,50,50", "--composite") == 0
    source, edited = (np.asarray(Image.open(path)) for path in (image, tmp_path / "edited.png"))
    outside = np.ones(source.shape[:2], dtype=bool)
    outside[10:50, 10:50] = False
    assert (source[outside] == edited[outside]).all()
    assert (source[~outside] != edited[~outside]).any()


def test_an_image_with_transparency_keeps_its_alpha_and_its_background(image, model, tmp_path):
    layers = np.dstack([np.asarray(Image.open(image)), np.tile(np.arange(90, dtype=np.uint8) * 2, (70, 1))])
    layers[:5, :, 3] = 0
    Image.fromarray(layers).save(tmp_path / "layers.png")
    out = tmp_path / "out"
    assert pinpoint_edit(tmp_path / "layers.png", model, out, "--prior", "cat=10,10,50,50", "--composite") == 0
    edited = np.asarray(Image.open(out / "edited.png"))
    assert np.array_equal(np.asarray(Image.open(out / "source.png")), layers)
    assert np.array_equal(edited[..., 3], layers[..., 3])
    changed = (edited != layers).any(axis=-1)
    assert changed[10:50, 10:50].any()
    changed[10:50, 10:50] = False
    assert not changed.any()
    assert json.loads((out / "report.json").read_text())["background"]["mse"] == 0


def test_a_large_image_is_edited_small_and_keeps_every_pixel_outside_the_mask(model, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (600, 900, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "large.png")
    out, box = tmp_path / "out", ("--prior", "cat=100,100,500,500")
    assert pinpoint_edit(tmp_path / "large.png", model, out, *box, "--max-side", "96") == 0
    edited, report = np.asarray(Image.open(out / "edited.png")), json.loads((out / "report.json").read_text())
    changed = (edited != noise).any(axis=-1)
    assert changed[150:450, 150:450].mean() > 0.99
    changed[100:500, 100:500] = False
    assert not changed.any()
    assert (report["size"], report["worked_at"]) == ([900, 600], [96, 64])
    assert report["background"] == {"psnr": None, "mse": 0, "ssim": 1}
    assert "edited at 96x64" in report["remarks"][0]
    assert Image.open(out / "reconstruction.png").size == (96, 64)


def test_memory_that_ends_is_told_in_one_line_with_the_size(image, model, tmp_path, monkeypatch, capsys):
    def full(*arguments, **named):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("pinpoint.methods.registry.edit_by_method", full)
    assert pinpoint_edit(image, model, tmp_path / "out") == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "at 90x70 pixels; requires a smaller --max-side" in lines[-1]


def test_a_composite_may_grow_beyond_the_prior_and_no_farther(image, model, tmp_path):
    assert pinpoint_edit(image, model, tmp_path, "--prior", "cat=10,10,50,50", "--composite-grow", "6") == 0
    source, edited = (np.asarray(Image.open(path)) for path in (image, tmp_path / "edited.png"))
    y, x = np.mgrid[: source.shape[0], : source.shape[1]]
    away = np.hypot(np.maximum(0, np.maximum(10 - x, x - 49)), np.maximum(0, np.maximum(10 - y, y - 49)))
    changed = (source != edited).any(axis=-1)
    assert not changed[away > 6].any()
    assert changed[(away > 0) & (away <= 4)].any()
    report = json.loads((tmp_path / "report.json").read_text())
    assert (report["composite"], report["composite_grow"]) == (True, 6.0)


def test_an_inversion_kept_and_used_again_gives_the_same_image_for_the_edit_alone(image, model, tmp_path):
    kept = tmp_path / "cat.safetensors"
    prior = ("--prior", "cat=10,10,50,50")
    assert pinpoint_edit(image, model, tmp_path / "a", *prior, "--save-inversion", str(kept)) == 0
    assert pinpoint_edit(image, model, tmp_path / "b", *prior, "--inversion", str(kept)) == 0
    first, second = (Image.open(tmp_path / name / "edited.png").tobytes() for name in "ab")
    assert first == second
    costs = json.loads((tmp_path / "b" / "report.json").read_text())["forward_equivalents"]
    assert costs["total"] == costs["edit"] == 6


@pytest.mark.parametrize("method", ["ddim", "npi", "proxnpi", "direct"])
def test_every_method_without_tuning_runs_without_a_prior(image, model, tmp_path, method):
    assert pinpoint_edit(image, model, tmp_path, "--method", method) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["method"] == method
    assert report["tokens"] == "off"
    assert report["background"] is None and report["words"] == {}


def test_the_fast_paths_need_no_gradient_at_all(image, model, tmp_path, monkeypatch):
    """Without tuning, a pass that kept a graph would cost memory for nothing."""
    from pinpoint.locinv_core.backbones.stable_diffusion import EditModel

    seen = []
    plain = EditModel.predict_noise

    def watched(self, *arguments, **named):
        noise = plain(self, *arguments, **named)
        seen.append(noise.requires_grad)
        return noise

    monkeypatch.setattr(EditModel, "predict_noise", watched)
    assert pinpoint_edit(image, model, tmp_path, "--prior", "cat=10,10,50,50") == 0
    assert seen and not any(seen)


BAD = {
    "an empty source": (["--source", "  "], "prompt is empty"),
    "a prior of no word": (["--prior", "horse=1,1,9,9"], "horse.*its words are: a, red, cat, and, a, dog"),
    "a box outside": (["--prior", "cat=10,10,500,50"], "500"),
    "a box without area": (["--prior", "cat=10,10,10,50"], "area"),
    "a prior that is none": (["--prior", "cat"], "cat"),
    "a missing mask": (["--prior", "cat=nowhere.png"], "nowhere.png"),
    "too long a text": (["--source", "cat " * 90], "too long"),
    "no steps": (["--steps", "0"], "steps"),
    "no pixels": (["--max-side", "10"], "max-side: got 10, requires at least 64"),
    "guidance out of bounds": (["--guidance", "-2"], "guidance"),
    "too large a seed": (["--seed", str(2**64)], "seed: got 18446744073709551616"),
    "a negative seed": (["--seed", "-1"], "seed: got -1, requires a whole number from 0 on"),
    "a factor without its word": (["--set", "equalizer=2"], "equalizer: got 2, requires"),
    "a factor of no word": (["--set", 'equalizer={"cow": 2}'], "equalizer: the word 'cow'"),
    "a blend without a place": (["--blend", "prior"], "local_blend: 'prior' requires a prior"),
    "a model that is none": (["--model", "nothing"], "nothing"),
    "a missing inversion": (["--inversion", "nothing.safetensors"], "nothing.safetensors"),
    "an inversion to be kept as a folder": (["--save-inversion", "."], "save-inversion: .* requires a file"),
    "a binding that is none": (["--bind", "red"], "ADJ:NOUN"),
    "a bound word that is not there": (["--bind", "green:cat"], "green"),
    "LocInv without a place": (["--method", "locinv"], "requires a mask or a box"),
    "a composite without a place": (["--composite"], "requires a mask or a box"),
    "a composite to grow without a place": (["--composite-grow", "2"], "requires a mask or a box"),
    "a composite that shrinks": (
        ["--prior", "cat=1,1,9,9", "--composite-grow", "-2"],
        "composite_grow: got -2.0, requires a number of pixels",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_status_2_and_one_line_and_leaves_nothing(case, image, model, tmp_path, capsys):
    more, message = BAD[case]
    out = tmp_path / "out"
    assert pinpoint_edit(image, model, out, *more) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("pinpoint: error: ")
    import re

    assert re.search(message, lines[0])
    assert list(tmp_path.iterdir()) == []


def test_an_inversion_never_replaces_the_image(image, model, tmp_path, capsys):
    before = image.read_bytes()
    assert pinpoint_edit(image, model, tmp_path / "out", "--save-inversion", str(image)) == 2
    assert "is the image itself" in capsys.readouterr().err
    assert image.read_bytes() == before


def test_a_mask_of_another_size_is_refused(image, model, tmp_path, capsys):
    Image.new("L", (64, 64), 255).save(tmp_path / "mask.png")
    out = tmp_path / "out"
    assert pinpoint_edit(image, model, out, "--prior", f"cat={tmp_path / 'mask.png'}") == 2
    error = capsys.readouterr().err
    assert "64" in error and "90" in error
    assert not out.exists()


def test_an_empty_mask_is_refused(image, model, tmp_path, capsys):
    Image.new("L", (90, 70), 0).save(tmp_path / "mask.png")
    assert pinpoint_edit(image, model, tmp_path / "out", "--prior", f"cat={tmp_path / 'mask.png'}") == 2
    assert "empty" in capsys.readouterr().err


def test_an_image_that_is_too_small_is_refused(model, tmp_path, capsys):
    Image.new("RGB", (20, 20)).save(tmp_path / "small.png")
    assert pinpoint_edit(tmp_path / "small.png", model, tmp_path / "out") == 2
    assert "20" in capsys.readouterr().err


def test_an_inversion_of_another_source_or_image_is_refused(image, model, tmp_path, capsys):
    kept = tmp_path / "kept.safetensors"
    assert pinpoint_edit(image, model, tmp_path / "a", "--save-inversion", str(kept)) == 0
    again = ("--inversion", str(kept))
    assert pinpoint_edit(image, model, tmp_path / "b", *again, "--source", "a cat and a red dog") == 2
    assert "requires 'a cat and a red dog'" in capsys.readouterr().err
    other = tmp_path / "other.png"
    Image.fromarray(255 - np.asarray(Image.open(image))).save(other)
    assert pinpoint_edit(other, model, tmp_path / "b", *again) == 2
    assert "another image" in capsys.readouterr().err
    Image.new("RGB", (200, 100)).save(other)
    assert pinpoint_edit(other, model, tmp_path / "b", *again) == 2
    assert "pixels" in capsys.readouterr().err


def test_an_interrupt_leaves_nothing_half_written(image, model, tmp_path, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("pinpoint.cli.report.contact_sheet", interrupt)
    assert pinpoint_edit(image, model, tmp_path / "out") == 130
    assert list(tmp_path.iterdir()) == []


def test_progress_is_plain_lines_on_stderr_where_there_is_no_terminal(image, model, tmp_path, capsys):
    assert pinpoint_edit(image, model, tmp_path, "--method", "direct") == 0
    lines = capsys.readouterr().err.splitlines()
    assert "inversion 2/2" in lines and "edit 2/2" in lines
    assert not any("\x1b" in line for line in lines)


def test_a_composite_keeps_what_a_weighed_word_does(image, model, tmp_path):
    places = ("--prior", "cat=10,10,30,40", "--prior", "dog=50,10,80,60")
    more = ("--method", "direct", "--composite", "--set", 'equalizer={"dog": 3}')
    assert pinpoint_edit(image, model, tmp_path, *places, *more) == 0
    source, edited = (np.asarray(Image.open(path)) for path in (image, tmp_path / "edited.png"))
    changed = (source != edited).any(axis=-1)
    assert changed[20:30, 15:25].any() and changed[20:50, 60:70].any()
    changed[10:40, 10:30] = changed[10:60, 50:80] = False
    assert not changed.any()


def test_a_run_is_repeatable(image, model, tmp_path):
    prior = ("--prior", "cat=10,10,50,50", "--seed", "7")
    for name in "ab":
        assert pinpoint_edit(image, model, tmp_path / name, *prior) == 0
    assert torch.equal(*(torch.from_numpy(np.asarray(Image.open(tmp_path / n / "edited.png")).copy()) for n in "ab"))


@pytest.fixture(name="networks", scope="module")
def _networks(tmp_path_factory):
    """Options that name a tiny CLIP and a tiny ViT."""
    clip, vit = (
        write(tmp_path_factory.mktemp(name)) for name, write in (("clip", write_tiny_clip), ("vit", write_tiny_vit))
    )
    return ("--clip", str(clip), "--vit", str(vit))


def test_a_place_that_is_found_is_used_like_one_that_is_given(image, model, networks, tmp_path):
    assert pinpoint_edit(image, model, tmp_path / "a", "--prior", "cat=auto", *networks, "--composite") == 0
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    found = report["located"]["cat"]
    assert found["phrase"] == "red cat" and found["box"] == found["candidates"][0]["box"]
    assert report["method"] == "locinv" and set(report["words"]) == {"cat"}
    assert 0 < report["forward_equivalents"]["locate"] <= 6
    assert (tmp_path / "a" / "located.png").exists()
    box = ",".join(f"{side:g}" for side in found["box"])
    assert pinpoint_edit(image, model, tmp_path / "b", "--prior", f"cat={box}", "--composite") == 0
    first, second = (Image.open(tmp_path / name / "edited.png").tobytes() for name in "ab")
    assert first == second


def test_places_found_and_given_stand_side_by_side(image, model, networks, tmp_path):
    more = ("--prior", "cat=auto", "--prior", "dog=0,0,30,30", *networks)
    assert pinpoint_edit(image, model, tmp_path, *more) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert set(report["words"]) == {"cat", "dog"} and set(report["located"]) == {"cat"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--prior", "horse=auto"], "horse"),
        (["--prior", "cat=auto", "--prior", "cat=1,1,9,9"], "requires one of the two"),
        (["--prior", "cat=auto", "--clip", "./nothing"], "nothing"),
        (["--prior", "cat=auto", "--target", "cat " * 90], "too long"),
        (["--prior", "cat=auto", "--steps", "0"], "steps"),
        (["--prior", "cat#1=auto", "--prior", "cat=1,1,9,9"], "'cat#1' is to be found and is given"),
        (["--prior", "Cat=auto", "--prior", "cat=auto"], "to be found under another name"),
        (["--prior", "cat=auto", "--bind", "foo:cat"], "'foo' is not in the prompt"),
        (["--prior", "cat=auto", "--composite-grow", "-5"], "composite_grow: got -5"),
    ],
)
def test_what_is_wrong_with_a_place_to_be_found_is_said_in_one_line(
    image, model, networks, tmp_path, capsys, more, message
):
    assert pinpoint_edit(image, model, tmp_path / "out", *networks, *more) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert list(tmp_path.iterdir()) == []
