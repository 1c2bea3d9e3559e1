"""The files that ``pinpoint scenes`` writes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pinpoint.research.commands import scenes as command
from pinpoint.research.embedded_world.scenes import files as scenes_files
from pinpoint.research.embedded_world.scenes.files import write_scenes


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.add_parser(parser.add_subparsers())
    return parser.parse_args(["scenes", *words])


def test_the_command_writes_what_the_index_lists(tmp_path: Path) -> None:
    args = arguments("--count", "6", "--seed", "3", "--out", str(tmp_path / "new"), "--size", "64")
    assert command.run(args) == 0
    scenes = json.loads((tmp_path / "new" / "scenes.json").read_text())["scenes"]
    assert len(scenes) == 6
    for scene in scenes:
        assert set(scene) == {"image", "source", "target", "target_image", "objects", "edit"}
        assert set(scene["edit"]) == {"kind", "from", "to", "phrase"}
        source = np.asarray(Image.open(tmp_path / "new" / scene["image"]))
        target = np.asarray(Image.open(tmp_path / "new" / scene["target_image"]))
        assert source.shape == target.shape == (64, 64, 3) and (source != target).any()
        assert [obj["edited"] for obj in scene["objects"]].count(True) == 1
        edited = next(obj for obj in scene["objects"] if obj["edited"])
        assert edited["phrase"] == scene["edit"]["phrase"] and scene["edit"]["from"] in edited["phrase"].split()
        assert scene["edit"]["to"] in scene["target"].replace(",", "").split()
        for obj in scene["objects"]:
            assert set(obj) == {"noun", "adjective", "phrase", "mask", "box", "edited"}
            assert obj["phrase"] in scene["source"]
            assert obj["phrase"].split()[-2:] == [obj["adjective"], obj["noun"]]
            mask = np.asarray(Image.open(tmp_path / "new" / obj["mask"]))
            assert mask.shape == (64, 64) and set(np.unique(mask)) == {0, 255}
            x0, y0, x1, y1 = obj["box"]
            rows, columns = np.nonzero(mask)
            assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)
    assert (tmp_path / "new" / "contact_sheet.png").exists()
    assert not [path for path in (tmp_path / "new").iterdir() if path.name.startswith(".")]


def test_overlapping_runs_draw_the_same_scenes(tmp_path: Path) -> None:
    write_scenes(tmp_path / "a", count=3, seed=4)
    write_scenes(tmp_path / "b", count=1, seed=5)
    assert (tmp_path / "a" / "00005.png").read_bytes() == (tmp_path / "b" / "00005.png").read_bytes()
    assert (tmp_path / "a" / "00005_target.png").read_bytes() == (tmp_path / "b" / "00005_target.png").read_bytes()


def test_objects_and_kind_can_be_chosen(tmp_path: Path) -> None:
    args = arguments("--count", "5", "--out", str(tmp_path), "--objects", "2", "--kind", "swap")
    assert command.run(args) == 0
    scenes = json.loads((tmp_path / "scenes.json").read_text())["scenes"]
    assert {len(scene["objects"]) for scene in scenes} == {2}
    assert {scene["edit"]["kind"] for scene in scenes} == {"swap"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--count", "0"), "count: got 0"),
        (("--seed", "-2"), "seed: got -2"),
        (("--size", "100"), "size: got 100"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_written(
    tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        command.run(arguments("--out", str(tmp_path / "out"), *words))
    assert not (tmp_path / "out").exists()


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ValueError, match=r"out: .* is a file"):
        command.run(arguments("--out", str(tmp_path / "out")))
    assert (tmp_path / "out").read_text() == "mine"


def test_an_interrupt_leaves_none_of_the_scenes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes_files, "contact_sheet", interrupt)
    with pytest.raises(KeyboardInterrupt):
        command.run(arguments("--count", "2", "--size", "64", "--out", str(tmp_path / "out")))
    assert list(tmp_path.iterdir()) == []
