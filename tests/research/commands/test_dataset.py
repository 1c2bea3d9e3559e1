"""`pinpoint dataset` writes a whole data set or nothing, and says how many images it has."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from pinpoint.__main__ import main
from pinpoint.research.evaluation.datasets import scene_edit
from pinpoint.research.evaluation.datasets.reader import read_dataset


def test_scenes_writes_a_data_set_and_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = scene_edit.SCENE_EDIT[10:14]
    monkeypatch.setattr(scene_edit, "SCENE_EDIT", few)
    out = tmp_path / "made" / "here"
    assert main(["dataset", "scenes", "--count", "1", "--size", "64", "--out", str(out)]) == 0
    assert [item.task for item in read_dataset(out).items] == [prompt.task for prompt in few]
    with Image.open(out / "contact_sheet.png") as sheet:
        assert sheet.width > 8 * 256
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("fox, balloon"))
    assert row.split()[2:] == ["fox", "→", "cat", "1", "1", "25"]
    assert sorted(path.name for path in out.iterdir()) == [
        *("changes", "contact_sheet.png", "dataset.json", "edited", "images", "masks"),
    ]


def test_coco_edit_writes_a_data_set_and_its_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (100, 80), "white").save(tmp_path / "1.png")
    outline = {"id": 1, "image_id": 1, "category_id": 3, "segmentation": [[10, 20, 50, 20, 50, 60, 10, 60]]}
    instances = {
        "images": [{"id": 1, "file_name": "1.png", "width": 100, "height": 80}],
        "categories": [{"id": 3, "name": "bear"}],
        "annotations": [outline],
    }
    (tmp_path / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
    captions = {"annotations": [{"id": 1, "image_id": 1, "caption": "A bear in a river."}]}
    (tmp_path / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
    out = tmp_path / "out"
    given = [f"--{name}={tmp_path / name}.json" for name in ("instances", "captions")]
    assert main(["dataset", "coco-edit", *given, f"--images={tmp_path}", f"--out={out}"]) == 0
    (item,) = read_dataset(out).items
    assert (item.source, item.target) == ("A bear in a river", "A panda in a river")
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("bear"))
    assert row.split() == ["bear", "bear", "→", "panda", "1", "1", "22"]
    assert (out / "contact_sheet.png").is_file()


def test_bad_input_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["dataset", "scenes", "--count", "0", "--out", str(out)]) == 2
    assert "count: got 0" in capsys.readouterr().err
    missing = ["--instances", "no.json", "--captions", "no.json", "--images", str(tmp_path)]
    assert main(["dataset", "coco-edit", *missing, "--out", str(out)]) == 2
    assert "instances 'no.json' cannot be read" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["dataset", "scenes", "--out", str(tmp_path)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
