"""The edit command with the methods that are no presets, run as a user runs it, on tiny models in folders."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from pinpoint.__main__ import main
from pinpoint.methods.registry import all_methods
from pinpoint.tests.fixtures.tiny_editors import write_inpaint_folder
from pinpoint.tests.fixtures.tiny_encoders import write_tiny_clip, write_tiny_vit
from pinpoint.tests.fixtures.tiny_models import tiny_unet, write_tiny_folder


@pytest.fixture(name="folders", scope="module")
def _folders(tmp_path_factory):
    """Folders of tiny models by their part, as text."""
    root = tmp_path_factory.mktemp("models")
    instruct = write_tiny_folder(root / "instruct")
    tiny_unet(in_channels=8, out_channels=4).save_pretrained(instruct / "unet")
    made = {
        "model": write_tiny_folder(root / "model"),
        "inpaint": write_inpaint_folder(root / "inpaint"),
        "instruct": instruct,
        "clip": write_tiny_clip(root / "clip"),
        "vit": write_tiny_vit(root / "vit"),
    }
    return {part: str(folder) for part, folder in made.items()}


@pytest.fixture(name="image", scope="module")
def _image(tmp_path_factory):
    rows, columns = np.mgrid[0:64, 0:72]
    pixels = np.stack([rows * 3, columns * 2, 255 - rows - columns], axis=-1).astype(np.uint8)
    path = tmp_path_factory.mktemp("pictures") / "an image.png"
    Image.fromarray(pixels).save(path)
    return path


def pinpoint_edit(image, out, *more):
    texts = ["--source", "a red cat", "--target", "a red fox", "--steps", "2"]
    return main(["edit", str(image), *texts, "--out", str(out), *more])


def test_each_method_leaves_its_images_and_a_report(image, folders, tmp_path, capsys):
    prior = ("--prior", "cat=8,8,40,36")
    networks = ("--clip", folders["clip"], "--vit", folders["vit"])
    runs = {
        "blended": ("model", [*prior], {"mask.png"}, 2),
        "inpaint": ("inpaint", [*prior], {"mask.png"}, 4),
        "ledits++": ("model", ["--guidance", "3"], {"mask.png", "reconstruction.png"}, 8),
        "imagic": ("model", ["--set", "embedding_steps=1", "--set", "tuning-steps=1"], set(), 10),
        "instruct-pix2pix": ("instruct", ["--instruction", "make it a fox"], set(), 6),
        "learnable-regions": (
            "model",
            [*networks, "--set", "k=2", "--set", "m=2", "--set", "epochs=1"],
            {"mask.png"},
            None,
        ),
    }
    assert set(runs) == {name for name, method in all_methods().items() if method.recipe is None}
    for method, (part, more, files, cost) in runs.items():
        out = tmp_path / method
        assert pinpoint_edit(image, out, "--method", method, "--model", folders[part], *more) == 0
        names = {"source.png", "edited.png", "contact_sheet.png", "report.json"} | files
        assert {file.name for file in out.iterdir()} == names
        assert Image.open(out / "edited.png").size == (72, 64)
        report = json.loads((out / "report.json").read_text())
        assert (report["method"], report["seed"], report["settings"]["steps"]) == (method, 0, 2)
        if cost is not None:
            assert report["forward_equivalents"]["total"] == cost
        assert str(out) in capsys.readouterr().out


def test_a_mask_and_a_composite_leave_the_rest_bit_for_bit(image, folders, tmp_path):
    mask = np.zeros((64, 72), np.uint8)
    mask[10:40, 20:50] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    more = ("--method", "blended", "--model", folders["model"], "--mask", str(tmp_path / "mask.png"))
    assert pinpoint_edit(image, tmp_path / "out", *more, "--composite") == 0
    source, edited = (np.asarray(Image.open(path)) for path in (image, tmp_path / "out" / "edited.png"))
    assert (source[mask == 0] == edited[mask == 0]).all()
    assert (source[mask > 0] != edited[mask > 0]).any()
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["background"]["mse"] == 0


def test_a_place_that_is_found_serves_as_a_mask(image, folders, tmp_path):
    more = ("--model", folders["model"], "--clip", folders["clip"], "--vit", folders["vit"])
    assert pinpoint_edit(image, tmp_path, "--method", "blended", "--prior", "cat=auto", *more) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["forward_equivalents"]["locate"] > 0


def test_regions_may_be_edited_by_the_embedded_amused(image, folders, tmp_path):
    more = ["--model", folders["model"], "--clip", folders["clip"], "--vit", folders["vit"]]
    for setting in ("editor=amused", "k=2", "m=2", "epochs=1"):
        more += ["--set", setting]
    assert pinpoint_edit(image, tmp_path, "--method", "learnable-regions", *more) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["editor"] == "amused"


def test_another_setting_of_a_preset_can_be_given_too(image, folders, tmp_path):
    more = ("--method", "diffedit", "--model", folders["model"], "--set", "noises=3")
    assert pinpoint_edit(image, tmp_path, *more) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["forward_equivalents"]["mask"] == 3 * 2


def test_a_setting_may_be_lists_in_lists(image, folders, tmp_path):
    pairs = 'pairs=[["a cat", "a fox"], ["the cat", "the fox"]]'
    more = ("--method", "pix2pix-zero", "--model", folders["model"], "--set", pairs)
    assert pinpoint_edit(image, tmp_path, *more) == 0


def test_the_seed_of_a_preset_is_the_commands(image, folders, tmp_path):
    edited = {}
    for name, seed in (("a", "1"), ("again", "1"), ("b", "2")):
        more = ("--method", "diffedit", "--model", folders["model"], "--set", "noises=1", "--seed", seed)
        assert pinpoint_edit(image, tmp_path / name, *more) == 0
        edited[name] = (tmp_path / name / "edited.png").read_bytes()
    assert edited["a"] == edited["again"] != edited["b"]


BAD = {
    "no mask": (["--method", "blended"], "requires --mask, or --prior"),
    "the embedded model for inpainting": (
        ["--method", "inpaint", "--prior", "cat=1,1,9,9"],
        "does not read a mask",
    ),
    "the embedded model for instructions": (["--method", "instruct-pix2pix"], "does not read an image"),
    "a preset's option": (["--method", "imagic", "--tokens", "fast"], "tokens: the method 'imagic'"),
    "a kept inversion": (["--method", "imagic", "--inversion", "x"], "inversion: the method 'imagic'"),
    "an unknown setting": (["--method", "imagic", "--set", "noises=3"], "no such setting, only"),
    "a composite to grow": (
        ["--method", "inpaint", "--composite-grow", "3"],
        "composite-grow: the method",
    ),
    "a composite that there is not": (["--method", "imagic", "--composite"], "composite: the method"),
    "a setting that is none": (["--method", "imagic", "--set", "noises"], "requires NAME=VALUE"),
    "a setting twice": (["--method", "imagic", "--set", "x=1", "--set", "x=2"], "given twice"),
    "a setting with an option": (["--method", "diffedit", "--set", "seed=1"], "option of its own, --seed"),
    "an instruction for a preset": (["--method", "nti", "--instruction", "x"], "instruction: the method"),
    "an instruction for another method": (["--method", "imagic", "--instruction", "x"], "instruction: the"),
    "a mask for a preset": (["--method", "nti", "--mask", "x.png"], "mask: the method 'nti'"),
    "a CLIP that is not there": (["--method", "learnable-regions", "--clip", "./nothing"], "clip: got"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_status_2_and_one_line_and_leaves_nothing(case, image, tmp_path, capsys):
    more, message = BAD[case]
    assert pinpoint_edit(image, tmp_path / "out", *more) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert list(tmp_path.iterdir()) == []
