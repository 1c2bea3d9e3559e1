"""PIE-Bench's mapping file, on entries written by hand in the benchmark's own form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pinpoint.research.evaluation.datasets.reader import read_dataset, write_dataset

SIDE = 64
# Rows 2 and 3, columns 5 to 8: start, length, start, length.
MASK = [2 * SIDE + 5, 4, 3 * SIDE + 5, 4]


def entry(**changes: Any) -> dict[str, Any]:
    fields = {
        "image_path": "1_change_object_80/1_artificial/1_animal/111000000000.jpg",
        "original_prompt": "a [cat] sitting on a wooden chair",
        "editing_prompt": "a [dog] sitting on a wooden chair",
        "editing_instruction": "Change the animal from a cat to a dog",
        "editing_type_id": "1",
        "blended_word": "cat dog",
        "mask": MASK,
    }
    return fields | changes


def benchmark(folder: Path, **entries: dict[str, Any]) -> Path:
    path = folder / "annotation_images" / str(entry()["image_path"])
    path.parent.mkdir(parents=True)
    Image.new("RGB", (SIDE, SIDE), (90, 120, 150)).save(path)
    listing = {key.removeprefix("n"): value for key, value in entries.items()}
    (folder / "mapping_file.json").write_text(json.dumps(listing), encoding="utf-8")
    return folder


def test_an_entry_is_an_item(tmp_path: Path) -> None:
    (item,) = read_dataset(benchmark(tmp_path, n111000000000=entry())).items
    assert item.id == "111000000000"
    assert item.source == "a cat sitting on a wooden chair"
    assert item.target == "a dog sitting on a wooden chair"
    assert item.task == "change object"
    assert item.instruction == "Change the animal from a cat to a dog"
    assert item.edited == ("cat",)
    assert [(obj.word, obj.box) for obj in item.objects] == [("cat", (5.0, 2.0, 9.0, 4.0))]
    assert item.image == tmp_path / "annotation_images" / str(entry()["image_path"])


def test_the_mask_is_the_place_and_with_the_border_the_change(tmp_path: Path) -> None:
    opened = read_dataset(benchmark(tmp_path, n1=entry())).items[0].open()
    expected = np.zeros((SIDE, SIDE))
    expected[2:4, 5:9] = 1
    assert np.array_equal(opened.masks["cat"].numpy(), expected)
    assert np.array_equal(opened.edit_mask.numpy(), expected)
    expected[0] = expected[-1] = expected[:, 0] = expected[:, -1] = 1
    assert np.array_equal(opened.change.numpy(), expected)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        # The words of the edit, by their order of trust.
        ({"original_prompt": "a slanted bicycle", "blended_word": "bicycle bicycle"}, ["bicycle"]),
        ({"original_prompt": "a [mountain lion] sleeping", "blended_word": ""}, ["mountain lion"]),
        ({"original_prompt": "a [bear] sleeping", "blended_word": "animal dog"}, ["bear"]),
        ({"original_prompt": "a bear sleeping", "blended_word": ""}, []),
        ({"original_prompt": "a bear sleeping", "blended_word": "fox fox"}, []),
        ({"mask": []}, []),
    ],
)
def test_the_edited_word_is_one_of_the_source(tmp_path: Path, changes: dict[str, Any], words: list[str]) -> None:
    (item,) = read_dataset(benchmark(tmp_path, n1=entry(**changes))).items
    assert [obj.word for obj in item.objects] == words
    assert list(item.edited) == words
    inside = 8 if changes.get("mask") != [] else 0
    assert item.open().change.sum().item() == 4 * SIDE - 4 + inside
    assert item.open().edit_mask.sum().item() == inside


def test_brackets_around_several_words_and_none_leave_plain_prompts(tmp_path: Path) -> None:
    changes = {"original_prompt": "a [red fox] on [] grass", "editing_prompt": "a  fox [on green grass]"}
    (item,) = read_dataset(benchmark(tmp_path, n1=entry(blended_word="fox fox", **changes))).items
    assert (item.source, item.target) == ("a red fox on grass", "a fox on green grass")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_path": "../mapping_file.json"}, "requires a name relative"),
        ({"image_path": "1_change_object_80/no.jpg"}, "there is no file"),
        ({"mask": [1, 2, 3]}, "requires pairs"),
        ({"mask": [SIDE * SIDE, 1]}, "leave the image"),
        ({"mask": [-1, 4]}, "requires pairs"),
        ({"mask": None}, "mask: got None"),
        ({"editing_type_id": "10"}, "editing_type_id: got '10', requires 0 to 9"),
        ({"original_prompt": ""}, "original_prompt: got ''"),
    ],
)
def test_an_entry_with_something_wrong_says_what(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"entry '1'.*{message}"):
        read_dataset(benchmark(tmp_path, n1=entry(**changes)))


def test_a_mapping_file_without_its_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mapping_file.json").write_text(json.dumps({"1": entry()}), encoding="utf-8")
    with pytest.raises(ValueError, match="annotation_images"):
        read_dataset(tmp_path)
    (tmp_path / "mapping_file.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ValueError, match="is empty"):
        read_dataset(tmp_path)


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    folder = benchmark(tmp_path, n1=entry())
    (folder / "annotation_images" / str(entry()["image_path"])).write_text("no image")
    with pytest.raises(ValueError, match="cannot be read as an image"):
        read_dataset(folder)


def test_pie_bench_can_be_listed_as_our_own(tmp_path: Path) -> None:
    dataset = read_dataset(benchmark(tmp_path, n1=entry(), n2=entry(editing_type_id=9)))
    write_dataset(dataset, tmp_path)
    assert read_dataset(tmp_path / "dataset.json") == dataset


def test_results_on_a_mask_with_its_border_are_not_taken_for_results_on_one_without(tmp_path: Path) -> None:
    (item,) = read_dataset(benchmark(tmp_path, n1=entry())).items
    assert replace(item, change_border=False).digest() != item.digest()
