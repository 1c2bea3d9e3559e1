"""report.html: what is in the file, and that nothing has to be fetched for it."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pinpoint.research.evaluation.report.html import write_report
from pinpoint.research.evaluation.report.images import data_uri, outline_path
from pinpoint.research.evaluation.text_change import text_change
from pinpoint.tests.research.evaluation.report_fixture import (
    COLOURS,
    SIDE,
    small_dataset,
    small_rows,
    write_image,
)


class Page(HTMLParser):
    """The page's elements, and the text of its scripts by their id."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._open: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._open = dict(attrs).get("id") or "code"

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._open = None

    def handle_data(self, data: str) -> None:
        if self._open:
            self.scripts[self._open] = self.scripts.get(self._open, "") + data


def report(folder: Path, **changes: Any) -> tuple[str, Page]:
    dataset = small_dataset(folder / "data", 3)
    rows = small_rows(dataset, folder, {"plain": [20.0, 10.0, None], "careful": [30.0, 15.0, 25.0]})
    text = write_report(rows, replace(dataset, **changes), folder).read_text(encoding="utf-8")
    return text, Page(text)


def colour_of(uri: str) -> tuple[int, ...]:
    """The mean colour of an image in a data URI."""
    assert uri.startswith("data:image/webp;base64,")
    with Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))) as picture:
        return tuple(np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(axis=0).round().astype(int))


def test_every_image_is_inside_the_file(tmp_path: Path) -> None:
    _, page = report(tmp_path)
    for k in range(3):
        own = json.loads(page.scripts[f"item-{k}"])
        assert (own["width"], own["height"]) == (SIDE, SIDE)
        assert colour_of(own["source"]) == pytest.approx(COLOURS["source"], abs=4)
        assert colour_of(own["images"]["careful"]) == pytest.approx(COLOURS["careful"], abs=4)
        if k == 2:
            assert own["images"]["plain"] is None
        if k % 2 == 0:
            assert colour_of(own["target"]) == pytest.approx(COLOURS["true"], abs=4)
        else:
            assert own["target"] is None


def test_nothing_in_the_file_is_fetched(tmp_path: Path) -> None:
    text, page = report(tmp_path)
    outside = [
        (tag, name, value)
        for tag, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
        and not (value or "").startswith(("#", "data:"))
    ]
    assert outside == []
    assert not re.findall(r"url\((?!['\"]?(?:#|data:))|@import", text)
    assert "default-src 'none'" in text


def test_the_index_has_every_number_and_what_failed(tmp_path: Path) -> None:
    _, page = report(tmp_path)
    index = json.loads(page.scripts["index"])
    names = [metric["name"] for metric in index["metrics"]]
    assert names == ["psnr", "mse", "iou_best", "iou_mean", "fe", "seconds"]
    first, _, last = index["items"]
    assert first["values"]["plain"][:2] == pytest.approx([20.0, 1 / 21], rel=1e-5)
    assert last["values"]["plain"] == [None] * 6
    assert last["errors"] == {"plain": "ValueError: it <broke>"}
    assert index["groups"] == ["single", "multi"]


def test_the_table_marks_the_best_and_failures_are_listed(tmp_path: Path) -> None:
    text, _ = report(tmp_path)
    assert '<strong class="best">23.33</strong>' in text  # (30 + 15 + 25) / 3
    assert '<span class="second">15.00</span>' in text
    assert "1 failed" in text
    assert "ValueError: it &lt;broke&gt;" in text and "it <broke>" not in re.sub(
        r"<script.*?</script>", "", text, flags=re.DOTALL
    )


def test_curves_and_settings_are_there(tmp_path: Path) -> None:
    text, page = report(tmp_path)
    assert 'id="curves"' in text
    assert sum(tag == "svg" for tag, _ in page.tags) == 2
    assert "Model f00d; seed 0" in text
    assert "&quot;by&quot;: &quot;careful&quot;" in text


def test_text_from_outside_cannot_become_part_of_the_page(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", 1)
    sly = "a cat </script><script>alert(1)</script> {{js}} {{items}}"
    dataset = replace(dataset, name=sly, items=(replace(dataset.items[0], source=sly, target=sly),))
    rows = small_rows(dataset, tmp_path, {"plain": [20.0]})
    page = Page(write_report(rows, dataset, tmp_path).read_text(encoding="utf-8"))
    assert [dict(attributes).get("id") for tag, attributes in page.tags if tag == "script"] == [
        "index",
        "item-0",
        None,
    ]
    assert "".join(text for text, _ in json.loads(page.scripts["index"])["items"][0]["source"]) == sly


def test_an_image_that_is_missing_leaves_the_rest_of_the_report(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", 1)
    rows = small_rows(dataset, tmp_path, {"plain": [20.0], "careful": [30.0]})
    (tmp_path / rows[0]["picture"]).unlink()
    page = Page(write_report(rows, dataset, tmp_path).read_text(encoding="utf-8"))
    own = json.loads(page.scripts["item-0"])["images"]
    assert own["plain"] is None and own["careful"] is not None


def test_an_item_that_cannot_be_read_keeps_its_rows_in_the_report_and_says_why_it_has_no_images(
    tmp_path: Path,
) -> None:
    dataset = small_dataset(tmp_path / "data", 2)
    broken = tmp_path / "data" / "broken.png"
    broken.write_bytes(b"no image")
    dataset = replace(dataset, items=(replace(dataset.items[0], image=broken), dataset.items[1]))
    rows = small_rows(dataset, tmp_path, {"plain": [None, 20.0], "careful": [None, 30.0]})
    text = write_report(rows, dataset, tmp_path).read_text(encoding="utf-8")
    page = Page(text)
    assert "2 images · 2 methods · 4 edits · 2 failed" in text
    assert '<th scope="row">p00</th>' in text[text.index('id="failures"') :]
    index = json.loads(page.scripts["index"])["items"]
    assert [set(entry["errors"]) for entry in index] == [{"plain", "careful"}, set()]
    without, own = (json.loads(page.scripts[f"item-{k}"]) for k in range(2))
    assert "broken.png" in without["unreadable"] and without["source"] is None
    assert own["source"] is not None and set(own["images"]) == {"plain", "careful"}


def test_an_image_that_is_broken_leaves_the_rest_of_the_report(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", 1)
    rows = small_rows(dataset, tmp_path, {"plain": [20.0], "careful": [30.0]})
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / rows[0]["picture"])
    whole = (tmp_path / rows[0]["picture"]).read_bytes()
    second = whole.index(b"IDAT", whole.index(b"IDAT") + 4)
    (tmp_path / rows[0]["picture"]).write_bytes(whole[:second] + bytes(4) + whole[second + 4 :])
    page = Page(write_report(rows, dataset, tmp_path).read_text(encoding="utf-8"))
    own = json.loads(page.scripts["item-0"])["images"]
    assert own["plain"] is None and own["careful"] is not None


def test_an_image_outside_the_folder_is_not_taken_into_the_report(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", 1)
    secret = write_image(tmp_path / "secret.png", (1, 2, 3))
    tracker = tmp_path / "run"
    rows = small_rows(dataset, tracker, {"plain": [20.0], "careful": [30.0]})
    (tracker / "link.png").symlink_to(secret)
    for name in ("../secret.png", str(secret), "link.png"):
        rows[0]["picture"] = name
        page = Page(write_report(rows, dataset, tracker).read_text(encoding="utf-8"))
        own = json.loads(page.scripts["item-0"])["images"]
        assert own["plain"] is None and own["careful"] is not None


def test_the_same_results_give_the_same_file(tmp_path: Path) -> None:
    assert report(tmp_path)[0] == report(tmp_path)[0]


def test_a_row_of_another_data_set_is_refused_and_nothing_is_left_behind(tmp_path: Path) -> None:
    dataset = small_dataset(tmp_path / "data", 1)
    rows = small_rows(dataset, tmp_path, {"plain": [20.0]})
    rows[0]["item"] = "elsewhere"
    with pytest.raises(ValueError, match="item 'elsewhere' is not in the data set 'drawn'"):
        write_report(rows, dataset, tmp_path)
    assert not [path for path in tmp_path.iterdir() if "report" in path.name]


def test_what_differs_between_two_texts_is_marked_word_by_word() -> None:
    source, target = text_change("a red cat on a mat", "a red fox on a big mat")
    assert source == [("a red", False), (" cat", True), (" on a", False), (" mat", False)]
    assert target == [("a red", False), (" fox", True), (" on a", False), (" big", True), (" mat", False)]


def test_large_images_are_reduced_and_small_ones_left() -> None:
    for size, expected in (((800, 400), (384, 192)), ((64, 48), (64, 48))):
        uri = data_uri(Image.new("RGB", size, (10, 200, 30)))
        with Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))) as picture:
            assert picture.size == expected


# The outline of a mask


def edges(path: str) -> list[tuple[int, int, str, int]]:
    """(x, y, "h" or "v", length) of each stroke."""
    return [(int(x), int(y), way, int(n)) for x, y, way, n in re.findall(r"M(\d+) (\d+)([hv])(\d+)", path)]


def filled(path: str, shape: tuple[int, int], way: str) -> torch.Tensor:
    """The pixels from which a ray to the right (v) or down (h) crosses an odd number of strokes."""
    inside = torch.zeros(shape, dtype=torch.bool)
    for x0, y0, kind, length in edges(path):
        if kind == way == "v":
            inside[y0 : y0 + length, :x0] ^= True
        elif kind == way == "h":
            inside[:y0, x0 : x0 + length] ^= True
    return inside


def test_a_box_is_outlined_by_its_four_sides() -> None:
    mask = torch.zeros(10, 12)
    mask[2:5, 3:9] = 1
    assert sorted(edges(outline_path(mask))) == [(3, 2, "h", 6), (3, 2, "v", 3), (3, 5, "h", 6), (9, 2, "v", 3)]


def test_a_mask_that_covers_everything_is_outlined_along_the_frame() -> None:
    frame = [(0, 0, "h", 6), (0, 0, "v", 4), (0, 4, "h", 6), (6, 0, "v", 4)]
    assert sorted(edges(outline_path(torch.ones(4, 6)))) == frame


def test_an_empty_mask_has_no_outline() -> None:
    assert outline_path(torch.zeros(4, 6)) == ""


@pytest.mark.parametrize("seed", range(3))
def test_filling_the_outline_gives_the_mask_back(seed: int) -> None:
    """Random pixels: holes, edges of the frame, and pixels that touch at a corner."""
    mask = torch.rand(7, 9, generator=torch.Generator().manual_seed(seed)) > 0.45
    path = outline_path(mask.float())
    assert path == "".join(f"M{x} {y}{way}{n}" for x, y, way, n in edges(path))
    for way in "hv":
        assert torch.equal(filled(path, (7, 9), way), mask)
