"""The word that the regions command looks for: which boxes it leaves, what the editor is told, who looks."""

from __future__ import annotations

import pytest
import torch

from pinpoint.tests.cli.regions_runs import pinpoint_regions, report_of


@pytest.mark.parametrize("editor", ["inpaint", "amused"])
def test_another_model_may_look_for_the_word_where_the_editor_cannot(image, models, tmp_path, editor):
    words = ("--editor", editor, "--model", str(models[editor]), "--reader", str(models["plain"]))
    texts = ("--caption", "a red cat and a dog", "--prompt", "a red cat and a fox")
    assert pinpoint_regions(image, models, tmp_path, *words, *texts) == 0
    report = report_of(tmp_path)
    assert (report["word"]["word"], report["edit_prompt"]) == ("dog", "a fox")
    assert 0 < report["forward_equivalents"]["locate"] < 6


def test_only_boxes_near_the_changed_word_are_edited_unless_all_are_asked_for(image, models, tmp_path, capsys):
    more = ("--k", "4", "--m", "5", "--steps", "5")  # more than a preview's three
    for name, word in (("auto", "auto"), ("cat", "cat"), ("none", "none")):
        assert pinpoint_regions(image, models, tmp_path / name, *more, "--word", word) == 0
    auto, cat, none = (report_of(tmp_path / name) for name in ("auto", "cat", "none"))
    assert "cat, found at" in capsys.readouterr().out
    assert auto["word"] == cat["word"] and auto["word"]["word"] == "cat" and none["word"] is None
    assert auto["box"] == cat["box"] and len(auto["candidates"]) == 4
    place = torch.zeros(70, 90)
    x0, y0, x1, y1 = (round(side) for side in auto["word"]["box"])
    place[y0:y1, x0:x1] = 1
    fits = {}
    for row in auto["boxes"]:
        for box in row:
            mask = torch.zeros(70, 90)
            mask[round(box[1]) : round(box[3]), round(box[0]) : round(box[2])] = 1
            fits[tuple(box)] = float((mask * place).sum() / (mask + place).clamp(max=1).sum())
    assert fits[tuple(auto["box"])] >= 0.5 * max(fits.values())
    for candidate in auto["candidates"]:
        assert fits[tuple(candidate["box"])] >= 0.5 * max(fits.values())
        assert candidate["final"] and candidate["near"]
        assert (candidate["take"] == 0) == (candidate["box"] in auto["boxes"][candidate["index"]])
    judged, all_judged = (sum(loss is not None for row in report["losses"] for loss in row) for report in (auto, none))
    assert judged < all_judged == 20
    assert auto["forward_equivalents"]["locate"] < 6


def test_where_a_word_was_found_the_editor_is_not_told_of_the_objects_beside_it(image, models, tmp_path):
    more = ("--caption", "a red cat and a dog", "--prompt", "a red cat and a fox")
    assert pinpoint_regions(image, models, tmp_path / "a", *more) == 0
    assert pinpoint_regions(image, models, tmp_path / "b", *more, "--word", "none") == 0
    assert report_of(tmp_path / "a")["edit_prompt"] == "a fox"
    assert report_of(tmp_path / "b")["edit_prompt"] == "a red cat and a fox"


def test_random_boxes_are_not_kept_to_a_word_unless_one_is_named(image, models, tmp_path):
    more = ("--anchors", "random", "--k", "3")
    assert pinpoint_regions(image, models, tmp_path / "a", *more) == 0
    assert report_of(tmp_path / "a")["word"] is None
    assert pinpoint_regions(image, models, tmp_path / "b", *more, "--word", "cat") == 0
    assert report_of(tmp_path / "b")["word"]["word"] == "cat"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--word", "dog", "--prompt", "a fox and a dog"], "word: got 'dog', and the prompt changes 'cat'"),
        (["--word", "horse", "--prompt", "a fox and a dog"], "word: 'horse' is not in the caption"),
        (["--word", "dog", "--prompt", "a fox and a dog", "--editor", "locinv"], "the prompt changes 'cat'"),
        (["--prompt", "a fox and a dog", "--edit-prompt", "fox " * 90], "edit prompt 'fox fox"),
    ],
)
def test_what_cannot_be_edited_is_said_before_anything_is_looked_for(image, models, tmp_path, capsys, more, message):
    assert pinpoint_regions(image, models, tmp_path / "out", "--caption", "a cat and a dog", *more) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and message in lines[0]
    assert list(tmp_path.iterdir()) == []
