"""The regions command, run as a user runs it, on tiny random models in real folders."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from pinpoint.__main__ import build_parser, main
from pinpoint.locinv_core.imaging.io import save_png
from pinpoint.methods.learnable_regions import RegionSettings
from pinpoint.region_core.anchors import DEFAULT_DISTANCE, DEFAULT_SMOOTHING, spaced
from pinpoint.region_core.editors.blended import REGION_WINDOW
from pinpoint.region_core.encoders.vit import PatchFeatures
from pinpoint.region_core.options import PLAN_NAMES
from pinpoint.region_core.pipeline import RegionRequest
from pinpoint.region_core.search.budget import DEFAULT_PLAN
from pinpoint.region_core.search.plans import PLANS
from pinpoint.tests.cli.regions_runs import CAPTION, PROMPT, pinpoint_regions, pixels_of, report_of
from pinpoint.tests.fixtures.trials import held_out_trial

FILES = {"source.png", "edited.png", "boxes.png", "candidates.png", "loss.png", "report.json"}


def test_with_the_packs_own_networks_nothing_else_is_needed(tmp_path):
    trial = held_out_trial(41, objects=2, kind="swap")
    save_png(trial.image, tmp_path / "scene.png")
    small = ["--k", "2", "--m", "2", "--epochs", "1", "--steps", "4", "--device", "cpu"]
    texts = ["--caption", trial.source, "--prompt", trial.target]
    assert main(["regions", str(tmp_path / "scene.png"), *texts, *small, "--out", str(tmp_path / "out")]) == 0
    anchors = report_of(tmp_path / "out")["anchors"]
    things = torch.stack(trial.masks).amax(dim=0)
    assert all(things[row * 8 : row * 8 + 8, column * 8 : column * 8 + 8].any() for row, column in anchors)


def test_a_region_edit_leaves_its_images_and_a_report(image, models, tmp_path, capsys):
    out = tmp_path / "regions"
    more = ("--word", "none", "--plan", "full", "--k", "3", "--strength", "0.5", "--steps", "4")
    assert pinpoint_regions(image, models, out, *more) == 0
    assert {file.name for file in out.iterdir()} == FILES
    for name in ("source.png", "edited.png"):
        assert Image.open(out / name).size == (90, 70)
    report = report_of(out)
    assert (report["caption"], report["prompt"], report["editor"]) == (CAPTION, PROMPT, "blended")
    assert report["k"] == len(report["anchors"]) == len(report["candidates"]) == 3
    assert report["m"] == 2 and len(report["loss_curve"]) == 10
    assert report["word"] is None
    assert report["min_distance"] == 2 and report["smoothing"] == 1 and report["window"] == 1.5
    candidates = report["candidates"]
    for candidate in candidates:
        wanted = 2 * candidate["s_t2i"] + candidate["s_i2i"]
        assert candidate["score"] == pytest.approx(wanted, abs=1e-5)
        assert candidate["box"] in report["boxes"][candidate["index"]]
        assert candidate["anchor"] == report["anchors"][candidate["index"]]
    scores = [candidate["score"] for candidate in candidates]
    assert scores == sorted(scores, reverse=True)
    assert report["box"] == candidates[0]["box"]
    assert report["seconds"]["features"] >= 0
    # Every distinct box is edited once: two of four steps, two branches; the final edits are among them.
    distinct = {tuple(box) for row in report["boxes"] for box in row}
    assert report["forward_equivalents"]["total"] == 4 * len(distinct)
    captured = capsys.readouterr()
    assert str(out) in captured.out and f"S {scores[0]:.3f}" in captured.out
    assert "learning 10/10" in captured.err.splitlines()


def test_the_editor_may_be_told_other_words_than_clip(image, models, tmp_path):
    assert pinpoint_regions(image, models, tmp_path / "a", "--plan", "full") == 0
    assert pinpoint_regions(image, models, tmp_path / "b", "--plan", "full", "--edit-prompt", "a red star") == 0
    first, second = report_of(tmp_path / "a"), report_of(tmp_path / "b")
    assert (first["edit_prompt"], second["edit_prompt"]) == (PROMPT, "a red star")
    assert first["prompt"] == second["prompt"] == PROMPT
    assert (pixels_of(tmp_path / "a" / "edited.png") != pixels_of(tmp_path / "b" / "edited.png")).any()


def test_outside_the_box_the_image_is_the_source_bit_for_bit(image, models, tmp_path):
    assert pinpoint_regions(image, models, tmp_path) == 0
    report = report_of(tmp_path)
    x0, y0, x1, y1 = (int(side) for side in report["box"])
    source, edited = pixels_of(image), pixels_of(tmp_path / "edited.png")
    outside = np.ones(source.shape[:2], dtype=bool)
    outside[y0:y1, x0:x1] = False
    assert (source[outside] == edited[outside]).all() and (source[~outside] != edited[~outside]).any()
    assert report["background"] == {"psnr": None, "ssim": 1.0, "mse": 0.0}
    assert (pixels_of(tmp_path / "source.png") == source).all()


@pytest.mark.parametrize("editor", ["inpaint", "amused"])
def test_the_other_editors_work_with_models_of_their_own(image, models, tmp_path, editor):
    assert pinpoint_regions(image, models, tmp_path, "--editor", editor, "--model", str(models[editor])) == 0
    report = report_of(tmp_path)
    assert report["editor"] == editor
    assert (report["strength"], report["guidance"]) == ((0.75, 7.5) if editor == "inpaint" else (1.0, 10.0))


def test_locinv_edits_the_caption_into_the_prompt_in_every_box(image, models, tmp_path):
    more = ("--editor", "locinv", "--prompt", "a red fox", "--steps", "4")
    assert pinpoint_regions(image, models, tmp_path / "a", *more) == 0
    report = report_of(tmp_path / "a")
    assert (report["editor"], report["edit_prompt"], report["strength"]) == ("locinv", "a red fox", None)
    assert report["word"]["word"] == "cat"
    # One anchor is near the word; the other has another take in the same box.
    assert sorted(candidate["take"] for candidate in report["candidates"]) == [0, 1]
    assert report["candidates"][0]["box"] == report["candidates"][1]["box"]
    assert report["forward_equivalents"]["inversion"] == 4 + 3  # in full, and of previews
    # The word may be named where the texts change several.
    several = ("--editor", "locinv", "--word", "cat", "--prompt", "a blue fox and a car")
    assert pinpoint_regions(image, models, tmp_path / "b", *several) == 0


def test_the_papers_baselines_are_choices(image, models, tmp_path):
    more = ("--anchors", "random", "--sizes", "random", "--k", "3")
    assert pinpoint_regions(image, models, tmp_path / "a", *more) == 0
    assert pinpoint_regions(image, models, tmp_path / "b", *more, "--seed", "1") == 0
    first, second = report_of(tmp_path / "a"), report_of(tmp_path / "b")
    assert first["m"] == 1 and first["loss_curve"] == []
    assert first["anchors"] != second["anchors"] and first["boxes"] != second["boxes"]
    assert pinpoint_regions(image, models, tmp_path / "c", "--sizes", "random", "--k", "3") == 0
    dino = report_of(tmp_path / "c")
    assert dino["m"] == 1 and dino["anchors"] != first["anchors"]


def test_every_option_reaches_what_it_is_for(image, models, tmp_path):
    more = (
        "--estimator",
        "straight-through",
        "--temperature",
        "0.5",
        "--plan",
        "preview",
        "--finalists",
        "1",
        "--lr",
        "0.01",
        "--epochs",
        "2",
        "--strength",
        "0.9",
        "--guidance",
        "3",
        "--min-distance",
        "2",
        "--smoothing",
        "3",
        "--word",
        "none",
        "--steps",
        "4",
        "--seed",
        "5",
    )
    assert pinpoint_regions(image, models, tmp_path, *more) == 0
    report = report_of(tmp_path)
    wanted = {
        "estimator": "straight-through",
        "temperature": 0.5,
        "plan": "preview",
        "finalists": 1,
        "lr": 0.01,
        "epochs": 2,
        "strength": 0.9,
        "guidance": 3.0,
        "min_distance": 2.0,
        "smoothing": 3,
        "steps": 4,
        "seed": 5,
    }
    assert {key: report[key] for key in wanted} == wanted
    assert len(report["loss_curve"]) == 20
    assert [candidate["final"] for candidate in report["candidates"]] == [True, False]
    (r0, c0), (r1, c1) = report["anchors"]
    assert ((r0 - r1) ** 2 + (c0 - c1) ** 2) ** 0.5 >= 2


def test_a_seed_makes_a_run_repeatable(image, models, tmp_path):
    for name, seed in (("a", "7"), ("b", "7"), ("c", "8")):
        assert pinpoint_regions(image, models, tmp_path / name, "--seed", seed) == 0
    first, again, other = (pixels_of(tmp_path / name / "edited.png") for name in "abc")
    assert (first == again).all() and (first != other).any()


BAD = {
    "a missing image": (["nowhere.png"], "nowhere.png"),
    "more anchors than patches": (["--k", "1000"], r"k: got 1000 anchors, requires 1 to 108"),
    "no anchors": (["--k", "0"], "k: got 0"),
    "more boxes than the grid has room for": (["--m", "40"], "m: got 40 boxes"),
    "no boxes": (["--m", "0"], "m: got 0"),
    "a caption that CLIP would cut": (["--caption", "cat " * 90], "caption is too long"),
    "a prompt that CLIP would cut": (["--prompt", "fox " * 90], "prompt is too long"),
    "an empty prompt": (["--prompt", " "], "prompt is empty"),
    "an empty word": (["--word", ""], "word: got ''"),
    "a word that the caption lacks": (["--word", "dog"], "'dog' is not in the caption"),
    "a word for an editor that cannot find it": (
        ["--editor", "inpaint", "--model", "{inpaint}", "--word", "cat"],
        "word: got 'cat', and the editor 'inpaint'",
    ),
    "a reader with nothing to look for": (
        ["--reader", "embedded", "--word", "none"],
        "reader: got 'embedded'",
    ),
    "a reader that is no model": (["--reader", "nothing"], "nothing"),
    "an empty edit prompt": (["--edit-prompt", " "], "edit prompt is empty"),
    "a prompt that is the caption": (["--prompt", CAPTION], "caption"),
    "an editor that needs another UNet": (["--editor", "inpaint"], "reads 4 channels, requires 9"),
    "a model that is no aMUSEd": (["--editor", "amused"], "lacks vqvae"),
    "a model that is none": (["--model", "nothing"], "nothing"),
    "a CLIP that is none": (["--clip", "./nothing"], "nothing"),
    "a ViT that is none": (["--vit", "./nothing"], "nothing"),
    "no steps": (["--steps", "0"], "steps: got 0"),
    "a seed that is too large": (["--seed", str(2**64)], f"seed: got {2**64}"),
    "no epochs": (["--epochs", "0"], "epochs: got 0"),
    "a learning rate of 0": (["--lr", "0"], "lr: got 0"),
    "a learning rate that overflows": (
        ["--lr", "1e30", "--m", "5", "--k", "3", "--word", "none"],
        r"lr: got 1e\+30",
    ),
    "anchors nan apart": (["--anchors", "random", "--min-distance", "nan"], "min_distance: got nan"),
    "anchors infinitely far apart": (
        ["--anchors", "random", "--min-distance", "inf"],
        "min_distance: got inf",
    ),
    "an even smoothing of random anchors": (["--anchors", "random", "--smoothing", "4"], "smoothing: got 4"),
    "a CLIP's name that is mistyped": (["--clip", "embeded"], "clip: got 'embeded', a folder that does not"),
    "a temperature of 0": (["--temperature", "0"], "temperature: got 0"),
    "too much strength": (["--strength", "2"], "strength: got 2"),
    "guidance out of bounds": (["--guidance", "-1"], "guidance: got -1"),
    "no finalists": (["--finalists", "0"], "finalists: got 0"),
    "a window inside its box": (["--window", "0.5"], "window: got 0.5"),
    "a window where the mask is seen": (
        ["--editor", "inpaint", "--window", "2"],
        "window: the editor 'inpaint'",
    ),
    "strength where the image is inverted": (
        ["--editor", "locinv", "--strength", "0.5"],
        "strength: got 0.5, but the editor 'locinv'",
    ),
    "a window where the word's place is seen": (
        ["--editor", "locinv", "--window", "2"],
        "window: the editor 'locinv'",
    ),
    "an editor of one word, and a prompt that changes none": (
        ["--editor", "locinv", "--prompt", "a red cat, yes"],
        "requires one that changes one noun of 'a red cat'",
    ),
    "a device that there is not": (["--device", "abacus"], "abacus"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_status_2_and_one_line_and_leaves_nothing(case, image, models, tmp_path, capsys):
    more, message = BAD[case]
    if not more[0].startswith("--"):
        image, more = more[0], more[1:]
    more = [option.format(**models) for option in more]
    assert pinpoint_regions(image, models, tmp_path / "out", *more) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("pinpoint: error: ")]
    assert len(errors) == 1 and re.search(message, errors[0])
    assert list(tmp_path.iterdir()) == []


def test_a_window_changes_the_edits(image, models, tmp_path):
    for window in ("0", "1.2"):
        assert pinpoint_regions(image, models, tmp_path / window, "--window", window) == 0
    assert (tmp_path / "0" / "edited.png").read_bytes() != (tmp_path / "1.2" / "edited.png").read_bytes()


def test_bad_input_costs_no_pass_of_any_model(image, models, tmp_path, monkeypatch):
    from pinpoint.locinv_core.cost import CostTracker

    def passed(self, samples, share=1.0):
        raise AssertionError("a pass was made")

    monkeypatch.setattr(CostTracker, "count_forward", passed)
    for more in (["--m", "40"], ["--prompt", "fox " * 90], ["--guidance", "-1"]):
        assert pinpoint_regions(image, models, tmp_path / "out", *more) == 2


def test_an_image_smaller_than_a_patch_is_refused(models, tmp_path, capsys):
    Image.new("RGB", (6, 6)).save(tmp_path / "small.png")
    assert pinpoint_regions(tmp_path / "small.png", models, tmp_path / "out") == 2
    assert "6x6" in capsys.readouterr().err


def test_an_interrupt_leaves_nothing_half_written(image, models, tmp_path, monkeypatch):
    def interrupt(*arguments, **named):
        raise KeyboardInterrupt

    monkeypatch.setattr("pinpoint.region_core.visualize.candidates_image", interrupt)
    assert pinpoint_regions(image, models, tmp_path / "out") == 130
    assert list(tmp_path.iterdir()) == []


def test_the_defaults_that_the_help_shows_are_those_of_the_core():
    assert set(PLAN_NAMES) == set(PLANS)
    assert DEFAULT_PLAN.name == RegionSettings().plan == "preview"  # the help says so
    assert REGION_WINDOW == RegionSettings().window == 1.5  # as does the node's default


def test_anchors_are_kept_as_far_apart_whatever_asks_for_them():
    args = build_parser().parse_args("regions a.png --caption a --prompt b --out c".split())
    assert args.min_distance is None and args.smoothing is None
    features = PatchFeatures(torch.rand(16, 16), torch.rand(3, 16, 16), 8, (128, 128))
    usual = spaced(RegionRequest.from_options(**vars(args) | {"plan": DEFAULT_PLAN}).proposals, features)
    assert usual == spaced(RegionSettings().request("a", "b", 0).proposals, features)
    assert (usual.min_distance, usual.smoothing) == (DEFAULT_DISTANCE, DEFAULT_SMOOTHING)
