"""COCO-Edit from a small set in COCO's format whose every outline we drew."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pinpoint.research.evaluation.datasets.coco_edit import CocoEdit, build_coco_edit, swapped
from pinpoint.research.evaluation.datasets.reader import read_dataset, write_dataset
from pinpoint.research.evaluation.datasets.search_prompts import COCO_EDIT
from pinpoint.research.evaluation.datasets.types import Item

WIDTH, HEIGHT = 100, 80
CATEGORIES = [
    "person",
    "cat",
    "dog",
    "zebra",
    "horse",
    "elephant",
    "boat",
    "bear",
    "teddy bear",
    "bench",
    "hot dog",
]
Box = tuple[int, int, int, int]


def drawn(*boxes: Box) -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def polygon(box: Box) -> list[list[int]]:
    x0, y0, x1, y1 = box
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed RLE: runs of 0, 1, 0 … down the columns, counted one by one."""
    counts, inside = [0], False
    for value in mask.T.ravel():
        if bool(value) != inside:
            counts.append(0)
            inside = not inside
        counts[-1] += 1
    return {"size": [HEIGHT, WIDTH], "counts": counts}


class Coco:
    """A set in COCO's format that is being drawn."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pictures").mkdir(parents=True)
        self.instances: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 10 + k, "name": name} for k, name in enumerate(CATEGORIES)],
        }
        self.captions: list[dict[str, Any]] = []

    def add(self, id: int, captions: Sequence[str], *objects: tuple[Any, ...], **fields: Any) -> None:
        """An image with its captions and (category, segmentation), crowds as (category, segmentation, 1)."""
        name = f"{id:012d}.png"
        Image.new("RGB", (WIDTH, HEIGHT), (id % 256, 80, 120)).save(self.folder / "pictures" / name)
        entry = {"id": id, "file_name": name, "width": WIDTH, "height": HEIGHT}
        self.instances["images"].append(entry | fields)
        for category, segmentation, crowd in (obj if len(obj) == 3 else (*obj, 0) for obj in objects):
            self.instances["annotations"].append(
                {
                    "id": len(self.instances["annotations"]),
                    "image_id": id,
                    "category_id": 10 + CATEGORIES.index(category),
                    "segmentation": segmentation,
                    "iscrowd": crowd,
                }
            )
        for caption in captions:
            self.captions.append({"id": len(self.captions), "image_id": id, "caption": caption})

    def build(self, out: str = "out", **arguments: Any) -> CocoEdit:
        (self.folder / "instances.json").write_text(json.dumps(self.instances), encoding="utf-8")
        captions = {"annotations": self.captions}
        (self.folder / "captions.json").write_text(json.dumps(captions), encoding="utf-8")
        (self.folder / out).mkdir()
        built = build_coco_edit(
            self.folder / out,
            instances=self.folder / "instances.json",
            captions=self.folder / "captions.json",
            images=self.folder / "pictures",
            **arguments,
        )
        write_dataset(built.dataset, self.folder / out)
        return built


@pytest.fixture
def coco(tmp_path: Path) -> Coco:
    return Coco(tmp_path / "coco")


CAT, DOG, OTHER = (10, 20, 50, 60), (60, 10, 90, 70), (0, 0, 8, 8)


def items(built: CocoEdit) -> list[str]:
    return [item.id for item in built.dataset.items]


def mask_of(item: Item, word: str) -> np.ndarray:
    (path,) = [obj.mask for obj in item.objects if obj.word == word]
    assert path is not None
    mask: np.ndarray = np.asarray(Image.open(path))
    assert set(np.unique(mask)) == {0, 255}
    return mask > 0


def test_an_image_of_one_object_is_found_by_its_caption_and_category(coco: Coco) -> None:
    coco.add(7, ["Something else.", " A cat  on a mat. "], ("cat", polygon(CAT)))
    built = coco.build()
    (item,) = read_dataset(coco.folder / "out").items
    assert item == built.dataset.items[0]
    assert item.id == "single-cat-000000000007"
    assert (item.source, item.target) == ("A cat on a mat", "A cougar on a mat")
    assert (item.task, item.edited, item.target_image) == ("single-object: cat → cougar", ("cat",), None)
    assert item.image.read_bytes() == (coco.folder / "pictures" / "000000000007.png").read_bytes()
    assert np.array_equal(mask_of(item, "cat"), drawn(CAT))
    assert item.objects[0].box == CAT
    assert np.array_equal(item.open().change.numpy() > 0, drawn(CAT))


def test_run_lengths_and_crowds_are_outlines_too(coco: Coco) -> None:
    away = (90, 0, 100, 5)
    coco.add(
        1,
        ["a cat looks at a dog"],
        ("cat", run_lengths(drawn(CAT))),
        ("cat", run_lengths(drawn(OTHER, away)), 1),
        ("dog", run_lengths(drawn(DOG))),
    )
    (item,) = coco.build().dataset.items
    assert item.task == "multi-object: dog → fox (cat, dog)"
    assert item.target == "a cat looks at a fox"
    assert np.array_equal(mask_of(item, "dog"), drawn(DOG))
    assert np.array_equal(mask_of(item, "cat"), drawn(CAT, OTHER, away))
    assert np.array_equal(item.open().change.numpy() > 0, drawn(DOG))


@pytest.mark.parametrize(
    ("caption", "objects"),
    [
        ("a cat on a mat", []),  # said, not annotated
        ("an animal on a mat", [("cat", CAT)]),  # annotated, not said
        ("two cats on a mat", [("cat", CAT)]),
        ("a cat and another cat", [("cat", CAT)]),
        ("a cat on a mat", [("cat", CAT), ("cat", OTHER)]),  # which of the two?
        ("a cat and a person", [("cat", CAT), ("person", OTHER)]),
        ("a woman holds a cat", [("cat", CAT)]),
        ("a cat with two dogs", [("cat", CAT), ("dog", DOG)]),
        ("a cat with a hot dog", [("cat", CAT), ("hot dog", DOG)]),
        ("a cat with a hot dog", [("cat", CAT), ("dog", DOG)]),
        ("a teddy bear", [("teddy bear", CAT), ("bear", CAT)]),
    ],
)
def test_an_image_of_other_or_more_objects_does_not_fit(
    coco: Coco, caption: str, objects: list[tuple[str, Box]]
) -> None:
    coco.add(1, [caption], *((name, polygon(box)) for name, box in objects))
    coco.add(2, ["a bear"], ("bear", polygon(CAT)))
    assert items(coco.build()) == ["single-bear-000000000002"]


def test_a_crowd_cannot_be_the_edited_object(coco: Coco) -> None:
    coco.add(1, ["a cat"], ("cat", run_lengths(drawn(CAT)), 1))
    coco.add(2, ["a cat"], ("cat", polygon(CAT)))
    assert items(coco.build()) == ["single-cat-000000000002"]


def test_a_donkey_is_what_coco_calls_a_horse(coco: Coco) -> None:
    coco.add(1, ["a donkey behind a zebra"], ("horse", polygon(CAT)), ("zebra", polygon(DOG)))
    (item,) = coco.build().dataset.items
    assert item.task == "multi-object: donkey → horse (donkey, zebra)"
    assert item.target == "a horse behind a zebra"
    assert np.array_equal(mask_of(item, "donkey"), drawn(CAT))


def test_counts_are_found_and_kept_by_the_lowest_ids(coco: Coco) -> None:
    for id in (30, 4, 12, 9):
        coco.add(id, ["the dog, a person, and a boat"], *_three())
    coco.add(1, ["a cat"], ("cat", polygon(CAT)))
    built = coco.build(count=3)
    # Round by round: the first of every task, then the second.
    assert items(built) == [
        "single-cat-000000000001",
        *(f"multi-person-dog-boat-{id:012d}" for id in (4, 9, 12)),
    ]
    three = COCO_EDIT[-1]
    assert (built.found[three], built.kept[three]) == (4, 3)
    assert (built.found[COCO_EDIT[0]], built.kept[COCO_EDIT[0]]) == (0, 0)


def test_by_default_no_more_are_kept_than_the_paper_has(coco: Coco) -> None:
    for id in range(1, 7):
        coco.add(id, ["a boat, a dog and a person"], *_three())
    built = coco.build()
    assert (built.found[COCO_EDIT[-1]], len(built.dataset.items)) == (6, 4)


def _three() -> list[tuple[str, Any]]:
    return [("person", polygon(OTHER)), ("dog", polygon(CAT)), ("boat", polygon(DOG))]


def test_tasks_take_turns(coco: Coco) -> None:
    for id in (1, 2):
        coco.add(id, ["a cat"], ("cat", polygon(CAT)))
        coco.add(10 + id, ["an elephant in the grass"], ("elephant", polygon(CAT)))
    built = coco.build()
    assert [item.task.split()[1] for item in built.dataset.items] == ["cat", "elephant"] * 2
    assert built.dataset.items[1].target == "a buffalo in the grass"


def test_the_order_of_the_annotations_changes_nothing(coco: Coco) -> None:
    for id in (5, 3, 8):
        coco.add(id, ["a dog", "a cat", "one cat"], ("cat", polygon(CAT)))
        coco.add(20 + id, ["a cat and a dog"], ("cat", polygon(CAT)), ("dog", polygon(DOG)))
    coco.build("one")
    shuffled = random.Random(4)
    for entries in (coco.instances["images"], coco.instances["annotations"], coco.captions):
        shuffled.shuffle(entries)
    coco.build("other")
    one, other = coco.folder / "one", coco.folder / "other"
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(names) == 1 + 6 + 3 + 6
    assert all((one / name).read_bytes() == (other / name).read_bytes() for name in names)


def test_small_objects_and_broken_outlines_are_left_out_and_named(coco: Coco) -> None:
    coco.add(1, ["a cat"], ("cat", polygon((0, 0, 9, 8))))  # 72 of 8000 pixels
    coco.add(2, ["a cat"], ("cat", [[1, 2, 3, 4]]))
    coco.add(3, ["a cat"], ("cat", {"size": [HEIGHT, WIDTH], "counts": [HEIGHT * WIDTH]}))
    coco.add(4, ["a cat"], ("cat", polygon((0, 0, 10, 8))))  # 80
    built = coco.build(count=1)
    assert items(built) == ["single-cat-000000000004"]
    assert [line.split(":")[0] for line in built.left_out] == [f"image {id} (cat)" for id in (1, 2, 3)]
    assert "0.90%" in built.left_out[0] and "empty" in built.left_out[2]


def test_images_stay_in_their_folder(coco: Coco, tmp_path: Path) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "secret.png")
    coco.add(1, ["a cat"], ("cat", polygon(CAT)), file_name="../../secret.png")
    with pytest.raises(ValueError, match="requires a name relative"):
        coco.build()
    (coco.folder / "pictures" / "link.png").symlink_to(tmp_path / "secret.png")
    coco.instances["images"][0]["file_name"] = "link.png"
    with pytest.raises(ValueError, match="link out of"):
        coco.build("again")


def test_an_image_of_another_size_or_none_is_refused(coco: Coco) -> None:
    coco.add(1, ["a cat"], ("cat", polygon(CAT)))
    Image.new("RGB", (WIDTH, HEIGHT + 1)).save(coco.folder / "pictures" / "000000000001.png")
    with pytest.raises(ValueError, match=r"image 1 is \(81, 100\) and its annotation \(80, 100\)"):
        coco.build()
    (coco.folder / "pictures" / "000000000001.png").unlink()
    with pytest.raises(ValueError, match="there is no file"):
        coco.build("again")


def test_foreign_files_and_empty_searches_are_refused(coco: Coco) -> None:
    coco.add(1, ["a chair"], ("cat", polygon(CAT)))
    with pytest.raises(ValueError, match="no image fits"):
        coco.build()
    with pytest.raises(ValueError, match="count: got 0"):
        coco.build("zero", count=0)
    coco.instances["annotations"][0]["category_id"] = 99
    with pytest.raises(ValueError, match="category 99"):
        coco.build("again")
    coco.instances["annotations"][0]["category_id"] = 10
    del coco.instances["images"]
    with pytest.raises(ValueError, match="images: got None, requires a list"):
        coco.build("more")


@pytest.mark.parametrize(
    ("caption", "noun", "other", "expected"),
    [
        ("An elephant walks", "elephant", "buffalo", "A buffalo walks"),
        ("a cat", "cat", "animal", "an animal"),
        ("Cat on the sofa", "cat", "cougar", "Cougar on the sofa"),
        ("the apple, an orange", "apple", "peach", "the peach, an orange"),
        ("a big boat's mast near a boat", "boat", "canoe", "a big boat's mast near a canoe"),
    ],
)
def test_a_noun_is_swapped_with_its_article(caption: str, noun: str, other: str, expected: str) -> None:
    assert swapped(caption, noun, other) == expected
