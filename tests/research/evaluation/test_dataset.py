"""Data sets on disk: what is written is read again, and nothing outside the folder is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pinpoint.research.evaluation.datasets.masks import decode_runs, encode_runs
from pinpoint.research.evaluation.datasets.reader import read_dataset, write_dataset
from pinpoint.research.evaluation.datasets.types import AnnotatedObject, Dataset, Item

WIDTH, HEIGHT = 80, 64
Entry = dict[str, Any]


def picture(path: Path, colour: tuple[int, int, int] = (10, 20, 30), size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)
    return path


def mask(path: Path, box: tuple[int, int, int, int], size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    drawn = Image.new("L", size, 0)
    drawn.paste(255, box)
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn.save(path)
    return path


def cat_and_dog(folder: Path, **changes: Any) -> Item:
    """A cat at columns 8 to 23 and rows 4 to 11, and a dog of which only the box is known."""
    fields: dict[str, Any] = {
        "id": "cat-1",
        "image": picture(folder / "images" / "1.png"),
        "source": "a red cat and a dog",
        "target": "a red fox and a dog",
        "task": "multi-object: cat → fox",
        "objects": (
            AnnotatedObject("cat", mask(folder / "masks" / "1.png", (8, 4, 24, 12)), (8.0, 4.0, 24.0, 12.0)),
            AnnotatedObject("dog", None, (40.0, 20.0, 60.0, 50.0)),
        ),
        "edited": ("cat",),
        "change": None,
        "target_image": picture(folder / "true" / "1.png", (200, 20, 30)),
        "bindings": (("red", "cat"),),
        "instruction": "make the cat a fox",
    }
    return Item(**(fields | changes))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with dataset.json in it."""
    write_dataset(Dataset("two animals", (cat_and_dog(tmp_path),), tmp_path), tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Callable[[Entry], object]) -> None:
    path = folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_what_is_written_is_read_again(folder: Path) -> None:
    assert read_dataset(folder) == Dataset("two animals", (cat_and_dog(folder),), folder)
    assert read_dataset(folder / "dataset.json") == read_dataset(folder)


def test_the_listing_names_its_files_relative_to_its_folder(folder: Path) -> None:
    content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
    assert (content["format"], content["version"]) == ("pinpoint-dataset", 1)
    (item,) = content["items"]
    assert (item["image"], item["target_image"]) == ("images/1.png", "true/1.png")
    assert item["places"][0] == {"word": "cat", "mask": "masks/1.png", "box": [8.0, 4.0, 24.0, 12.0]}
    assert item["places"][1]["mask"] is None


def test_a_folder_with_a_data_set_can_be_moved(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    there = folder.rename(tmp_path_factory.mktemp("moved") / "there")
    assert read_dataset(there).items == (cat_and_dog(there),)


def test_an_open_item_has_its_images_and_masks_at_their_size(folder: Path) -> None:
    opened = read_dataset(folder).items[0].open()
    assert opened.image.shape == (1, 3, HEIGHT, WIDTH)
    assert opened.image[0, :, 0, 0].mul(255).round().tolist() == [10, 20, 30]
    assert opened.target_image is not None and opened.target_image[0, 0, 0, 0].item() == pytest.approx(200 / 255)
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    expected[4:12, 8:24] = 1
    assert np.array_equal(opened.masks["cat"].numpy(), expected)
    assert np.array_equal(opened.change.numpy(), expected)
    assert opened.masks["dog"].sum().item() == 20 * 30
    assert opened.masks["dog"][20:50, 40:60].min().item() == 1


def test_the_edit_may_show_where_the_change_mask_says(tmp_path: Path) -> None:
    item = cat_and_dog(tmp_path, change=mask(tmp_path / "change.png", (0, 0, 30, 2)))
    assert item.open().change.sum().item() == 60
    both = cat_and_dog(tmp_path, edited=("cat", "dog"))
    assert both.open().change.sum().item() == 16 * 8 + 20 * 30


def test_the_edit_may_show_in_the_border_without_being_there(tmp_path: Path) -> None:
    item = cat_and_dog(tmp_path, change_border=True)
    write_dataset(Dataset("bordered", (item,), tmp_path), tmp_path)
    (read,) = read_dataset(tmp_path).items
    assert read == item
    opened = read.open()
    expected = np.zeros((HEIGHT, WIDTH), dtype=np.float32)
    expected[4:12, 8:24] = 1
    assert np.array_equal(opened.edit_mask.numpy(), expected)
    expected[[0, -1]] = expected[:, [0, -1]] = 1
    assert np.array_equal(opened.change.numpy(), expected)
    assert opened.masks["cat"].sum().item() == 16 * 8, "the words' places are left alone"


def test_a_box_that_leaves_its_image_is_named_with_its_item_and_word(tmp_path: Path) -> None:
    item = cat_and_dog(tmp_path, objects=(AnnotatedObject("cat", None, (8.0, 4.0, WIDTH + 1.0, 12.0)),))
    with pytest.raises(ValueError, match=r"item 'cat-1': .*'cat'"):
        item.open()


def test_runs_take_the_place_of_mask_files(tmp_path: Path) -> None:
    # Row 1, columns 2 to 4, and row 3 from column 70 on into row 4.
    runs = (WIDTH + 2, 3, 3 * WIDTH + 70, 15)
    item = cat_and_dog(tmp_path, objects=(AnnotatedObject("cat", None, (0, 0, 1, 1), runs),), change_runs=(0, WIDTH))
    write_dataset(Dataset("runs", (item,), tmp_path), tmp_path)
    opened = read_dataset(tmp_path).items[0].open()
    assert opened.masks["cat"].sum().item() == 18
    assert opened.masks["cat"][1, 2:5].tolist() == [1, 1, 1]
    assert opened.masks["cat"][3, 70:].sum().item() == 10 and opened.masks["cat"][4, :5].sum().item() == 5
    assert opened.change[0].sum().item() == WIDTH and opened.change[1:].sum().item() == 0


def test_an_image_of_another_size_than_its_mask_is_refused(tmp_path: Path) -> None:
    small = mask(tmp_path / "small.png", (0, 0, 9, 9), (64, 64))
    with pytest.raises(ValueError, match=r"'cat-1'.*64×64.*80×64"):
        cat_and_dog(tmp_path, change=small).open()
    with pytest.raises(ValueError, match="true edited image"):
        cat_and_dog(tmp_path, target_image=picture(tmp_path / "t.png", size=(64, 64))).open()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"id": "../1"}, "its id requires letters"),
        ({"id": ""}, "its id requires letters"),
        ({"id": ".hidden"}, "its id requires letters"),
        ({"edited": ("fox",)}, "'fox' has no mask or box"),
        ({"edited": ()}, "requires edited words or a change mask"),
        ({"source": "a red cat"}, "word 'dog' is not in the prompt"),
        ({"bindings": (("blue", "cat"),)}, "word 'blue' is not in the prompt"),
        ({"objects": (AnnotatedObject("cat", None, (0, 0, 1, 1)),) * 2}, "every word once"),
        ({"objects": tuple(AnnotatedObject(word, None, (0, 0, 1, 1)) for word in ("cat", "Cat"))}, "every word once"),
        ({"objects": tuple(AnnotatedObject(word, None, (0, 0, 1, 1)) for word in ("cat", "cat#1"))}, "every word once"),
    ],
)
def test_an_item_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cat_and_dog(tmp_path, **changes)


def test_two_items_with_one_id_are_refused(tmp_path: Path) -> None:
    item = cat_and_dog(tmp_path)
    with pytest.raises(ValueError, match="two items are called 'CAT-1'"):
        Dataset("twice", (item, cat_and_dog(tmp_path, id="CAT-1")), tmp_path)
    with pytest.raises(ValueError, match="has no item"):
        Dataset("none", (), tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format="other"), "requires 'pinpoint-dataset' version 1"),
        (lambda content: content.update(version=2), "version 2"),
        (lambda content: content.update(items={}), "items: got {}, requires a list"),
        (lambda content: content["items"].append(3), "item 1: got 3, requires an object"),
        (lambda content: content["items"][0].pop("source"), "'cat-1': source: got None, requires a text"),
        (lambda content: content["items"][0].update(edited="cat"), "edited: got 'cat', requires a list"),
        (lambda content: content["items"][0]["places"][0].update(box=[1, 2, 3]), "requires four numbers"),
        (lambda content: content["items"][0]["places"][0].update(box=[5, 0, 5, 9]), "x0 < x1"),
        (lambda content: content["items"][0]["places"][0].update(box=[0, 0, True, 9]), "requires four numbers"),
        (lambda content: content["items"][0].update(bindings=[["red"]]), "requires two texts"),
        (lambda content: content["items"][0].update(change_runs=[1]), "a start and a length"),
        (
            lambda content: content["items"][0].update(change_border="yes"),
            "item 'cat-1': change_border: got 'yes', requires true or false",
        ),
        (lambda content: content["items"][0].update(change_runs=[0, 2**63]), "a start and a length"),
        (lambda content: content["items"][0]["places"][0].update(box=[0, 0, 10**400, 9]), "four numbers"),
        # Half of a letter, which neither results nor a report could hold.
        (lambda content: content["items"][0].update(task="cat \ud83d"), "task: got .* requires a text"),
    ],
)
def test_a_listing_with_something_wrong_says_what(
    folder: Path, change: Callable[[Entry], object], message: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ValueError, match=message):
        read_dataset(folder)


def test_a_file_that_is_no_data_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds none of dataset\.json"):
        read_dataset(tmp_path)
    with pytest.raises(ValueError, match="there is no"):
        read_dataset(tmp_path / "nothing")
    broken = tmp_path / "dataset.json"
    broken.write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        read_dataset(tmp_path)
    broken.write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not JSON"):
        read_dataset(tmp_path)


# What a data set may name


KEYS = ("image", "target_image", "change", "mask")


def name_file(folder: Path, key: str, name: str) -> None:
    def change(content: Entry) -> None:
        item = content["items"][0]
        (item["places"][0] if key == "mask" else item)[key] = name

    rewrite(folder, change)


@pytest.fixture
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good image that lies outside the data set."""
    return picture(tmp_path_factory.mktemp("elsewhere") / "secret.png")


@pytest.mark.parametrize("key", KEYS)
def test_a_data_set_cannot_name_files_outside_its_folder(folder: Path, secret: Path, key: str) -> None:
    up = Path("..", secret.parent.name, secret.name)
    assert folder.parent == secret.parent.parent and (folder / up).is_file()
    for name in (
        str(secret),
        up.as_posix(),
        f"images/../{up.as_posix()}",
        "..",
        "C:\\secret.png",
        "C:secret.png",
        "\\\\server\\secret.png",
        "images\\1.png",
        "images/1.png\0",
    ):
        name_file(folder, key, name)
        with pytest.raises(ValueError, match="requires a name relative to the data set's folder"):
            read_dataset(folder)


@pytest.mark.parametrize("key", KEYS)
def test_a_link_out_of_the_folder_is_not_followed(folder: Path, secret: Path, key: str) -> None:
    (folder / "link.png").symlink_to(secret)
    (folder / "linked").symlink_to(secret.parent, target_is_directory=True)
    for name in ("link.png", "linked/secret.png"):
        name_file(folder, key, name)
        with pytest.raises(ValueError, match="link out of the data set's folder"):
            read_dataset(folder)


def test_a_link_within_the_folder_is_followed(folder: Path) -> None:
    (folder / "again.png").symlink_to(folder / "images" / "1.png")
    name_file(folder, "image", "again.png")
    assert read_dataset(folder).items[0].image == folder / "again.png"


def test_a_folder_reached_by_a_link_may_be_read(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    link = tmp_path_factory.mktemp("link") / "here"
    link.symlink_to(folder, target_is_directory=True)
    assert len(read_dataset(link).items) == 1


def test_a_missing_file_and_a_folder_are_refused(folder: Path) -> None:
    name_file(folder, "image", "nothing.png")
    with pytest.raises(ValueError, match="there is no file"):
        read_dataset(folder)
    name_file(folder, "image", "images")
    with pytest.raises(ValueError, match="is not a file"):
        read_dataset(folder)


def test_a_data_set_is_not_written_with_files_from_elsewhere(tmp_path: Path, secret: Path) -> None:
    with pytest.raises(ValueError, match="is not in"):
        write_dataset(Dataset("leaves", (cat_and_dog(tmp_path, image=secret),), tmp_path), tmp_path)
    assert not (tmp_path / "dataset.json").exists()


# Runs


def test_runs_are_counted_along_the_rows() -> None:
    expected = [[0, 1, 1, 0], [0, 0, 0, 1], [1, 0, 0, 0]]
    assert decode_runs((1, 2, 7, 2), (3, 4)).astype(int).tolist() == expected
    assert encode_runs(np.array(expected, dtype=bool)) == (1, 2, 7, 2)


def test_runs_may_overlap_and_the_last_may_be_too_long() -> None:
    assert decode_runs((0, 3, 1, 1, 5, 99), (2, 3)).astype(int).tolist() == [[1, 1, 1], [0, 0, 1]]
    assert encode_runs(np.zeros((2, 3), dtype=bool)) == ()


def test_runs_that_start_outside_are_refused() -> None:
    with pytest.raises(ValueError, match="leave the image of 3×2"):
        decode_runs((6, 1), (2, 3))
    with pytest.raises(ValueError, match="requires pairs"):
        decode_runs((6,), (2, 3))
