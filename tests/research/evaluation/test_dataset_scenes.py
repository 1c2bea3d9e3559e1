"""scenes.json, as `pinpoint scenes` writes it, read as a data set."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pinpoint.research.embedded_world.scenes.files import write_scenes
from pinpoint.research.evaluation.datasets.reader import read_dataset

COUNT = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, count=COUNT, seed=3, size=64)
    return folder


def test_every_scene_is_an_item_with_its_truth(folder: Path) -> None:
    entries = json.loads((folder / "scenes.json").read_text(encoding="utf-8"))["scenes"]
    items = read_dataset(folder).items
    assert [item.id for item in items] == [f"{number:05d}" for number in range(3, 3 + COUNT)]
    for item, entry in zip(items, entries, strict=True):
        assert (item.source, item.target) == (entry["source"], entry["target"])
        assert [obj.word for obj in item.objects] == [obj["noun"] for obj in entry["objects"]]
        assert item.edited == tuple(obj["noun"] for obj in entry["objects"] if obj["edited"])
        assert item.target_image == folder / entry["target_image"]


def test_an_edit_of_an_attribute_binds_the_word_that_changes(folder: Path) -> None:
    groups = set()
    for item in read_dataset(folder / "scenes.json").items:
        groups.add(item.group)
        before = item.task.split(": ")[1].split(" → ")[0]
        assert item.bindings == (((before, item.edited[0]),) if item.group == "attribute" else ())
    assert groups == {"swap", "attribute"}


def test_boxes_are_those_of_the_masks(folder: Path) -> None:
    for item in read_dataset(folder).items:
        opened = item.open()
        for obj in item.objects:
            assert obj.mask is not None
            assert Image.fromarray(np.asarray(Image.open(obj.mask))).getbbox() == obj.box
            assert opened.masks[obj.word].sum().item() == np.count_nonzero(np.asarray(Image.open(obj.mask)))


def test_a_scene_that_lacks_something_is_refused(folder: Path, tmp_path: Path) -> None:
    content = json.loads((folder / "scenes.json").read_text(encoding="utf-8"))
    content["scenes"][0]["image"] = "../00003.png"
    (tmp_path / "scenes.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=r"scene 0: image: got '\.\./00003\.png'"):
        read_dataset(tmp_path)
    content["scenes"] = [{}]
    (tmp_path / "scenes.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match="scene 0: image: got None"):
        read_dataset(tmp_path)
