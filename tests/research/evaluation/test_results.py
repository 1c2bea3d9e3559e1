"""The results file: what it keeps, what it tolerates, what it refuses."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pinpoint.research.evaluation.results import (
    ROW_FIELDS,
    ResultsFile,
    check_same_work,
    read_results,
    row_key,
)


def row(item: str, method: str, **changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = dict.fromkeys(ROW_FIELDS)
    fields |= {
        "settings": {"steps": 4},
        "model": "f00d",
        "seed": 0,
        "input": "abc",
        "metrics": {"psnr": 20.5},
    }
    return fields | {"item": item, "method": method} | changes


def test_each_row_is_one_line_of_json_and_is_there_as_soon_as_it_is_appended(tmp_path: Path) -> None:
    with ResultsFile(tmp_path) as results:
        for name in ("a", "b"):
            results.append(row(name, "ddim", task="für Ä"))
            lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
            assert json.loads(lines[-1])["item"] == name
    assert len(lines) == 2
    assert json.loads(lines[0])["task"] == "für Ä"
    assert [row_key(r) for r in read_results(tmp_path)] == [("a", "ddim"), ("b", "ddim")]


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_half_a_line_at_the_end_is_dropped_and_written_over(cut: int, tmp_path: Path) -> None:
    with ResultsFile(tmp_path) as results:
        results.append(row("a", "ddim"))
        results.append(row("b", "ddim"))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    path.write_bytes(whole[: first + cut])

    assert [r["item"] for r in read_results(tmp_path)] == ["a"]
    with ResultsFile(tmp_path) as results:
        assert [r["item"] for r in results.rows] == ["a"]
        results.append(row("b", "ddim"))
    assert path.read_bytes() == whole


def test_a_line_cut_off_in_the_middle_of_a_letter_is_dropped_too(tmp_path: Path) -> None:
    line = json.dumps(row("a", "ddim", task="é"), ensure_ascii=False).encode()
    path = tmp_path / "results.jsonl"
    path.write_bytes(line + b"\n" + line[: line.index("é".encode()) + 1])
    assert len(read_results(path)) == 1


def test_a_whole_line_that_only_lacks_its_end_counts(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps(row("a", "ddim")))
    with ResultsFile(tmp_path) as results:
        results.append(row("b", "ddim"))
    assert [json.loads(line)["item"] for line in path.read_text().splitlines()] == ["a", "b"]


@pytest.mark.parametrize("damage", ["{torn", "[1, 2]", '{"item": "a"}', "null"])
def test_a_damaged_line_that_is_not_the_last_is_refused_with_its_number(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text("\n".join([json.dumps(row("a", "ddim")), damage, json.dumps(row("b", "ddim"))]) + "\n")
    with pytest.raises(ValueError, match=r"line 2 of .*results.jsonl.* is not a row"):
        read_results(tmp_path)
    with pytest.raises(ValueError, match="line 2"), ResultsFile(tmp_path):
        pass
    assert len(path.read_text().splitlines()) == 3


@pytest.mark.parametrize("content", ["notes of mine\n", "notes of mine", '{"name": "other", "rows": ['])
def test_another_file_is_not_taken_for_results_and_stays_as_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(content)
    with pytest.raises(ValueError, match="line 1"), ResultsFile(tmp_path):
        pass
    assert path.read_text() == content


@pytest.mark.parametrize("cut", [0, 1, 5, 9, 10, 40])
def test_half_of_the_first_line_is_dropped_and_written_over(cut: int, tmp_path: Path) -> None:
    with ResultsFile(tmp_path) as results:
        results.append(row("a", "ddim"))
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    with ResultsFile(tmp_path) as results:
        assert results.rows == []
        results.append(row("a", "ddim"))
    assert path.read_bytes() == whole


def test_of_two_rows_of_one_item_and_method_the_last_counts_in_the_place_of_the_first(tmp_path: Path) -> None:
    with ResultsFile(tmp_path) as results:
        results.append(row("a", "ddim", error="no memory"))
        results.append(row("b", "ddim"))
        results.append(row("a", "ddim"))
    assert [(r["item"], r["error"]) for r in read_results(tmp_path)] == [("a", None), ("b", None)]
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 3


def test_a_second_run_into_the_same_folder_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    with ResultsFile(tmp_path):
        with pytest.raises(ValueError, match="another run is writing"), ResultsFile(tmp_path):
            pass
    with ResultsFile(tmp_path):
        pass


class FullDisk:
    """`os.write` that takes a few bytes at a time, on a disk with room for so many."""

    def __init__(self, room: int) -> None:
        self.room, self.write = room, os.write

    def __call__(self, descriptor: int, data: bytes) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.write(descriptor, data[: min(self.room, 7)])
        self.room -= written
        return written


def test_a_row_that_the_disk_has_no_room_for_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ResultsFile(tmp_path) as results:
        results.append(row("a", "ddim"))
        with monkeypatch.context() as full:
            full.setattr(os, "write", FullDisk(20))
            with pytest.raises(OSError, match="No space left"):
                results.append(row("b", "ddim"))
        assert [r["item"] for r in results.rows] == ["a"]
        results.append(row("c", "ddim"))
    assert [r["item"] for r in read_results(tmp_path)] == ["a", "c"]


def test_a_row_that_is_written_in_several_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ResultsFile(tmp_path) as results, monkeypatch.context() as slow:
        slow.setattr(os, "write", FullDisk(100_000))
        results.append(row("a", "ddim"))
        results.append(row("b", "ddim"))
    assert [r["item"] for r in read_results(tmp_path)] == ["a", "b"]


def test_where_files_cannot_be_locked_results_are_kept_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with ResultsFile(tmp_path) as results:
        results.append(row("a", "ddim"))
    assert [r["item"] for r in read_results(tmp_path)] == ["a"]


def test_a_row_that_lacks_a_field_is_not_written(tmp_path: Path) -> None:
    short = row("a", "ddim")
    del short["seed"], short["fe"]
    with ResultsFile(tmp_path) as results, pytest.raises(ValueError, match="lacks seed, fe"):
        results.append(short)
    assert (tmp_path / "results.jsonl").read_text() == ""


def test_there_is_no_nan_in_the_file(tmp_path: Path) -> None:
    with ResultsFile(tmp_path) as results, pytest.raises(ValueError, match="JSON compliant"):
        results.append(row("a", "ddim", metrics={"psnr": float("nan")}))
    assert (tmp_path / "results.jsonl").read_text() == ""


def test_no_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there is no .*results\.jsonl"):
        read_results(tmp_path / "results.jsonl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"settings": {"steps": 9}}, "'locinv' on 'a' with settings steps 9, and this run asks for steps 4"),
        ({"settings": {"steps": 4, "blend": "off"}}, "settings blend off, and this run asks for blend None"),
        ({"settings": {"steps": 4, "tuning": {"share": 1}}}, r"settings tuning\.share 1, and this run asks"),
        ({"model": "beef"}, "model beef, and this run asks for f00d"),
        ({"seed": 3}, "seed 3, and this run asks for 0"),
        ({"input": "xyz"}, "input xyz, and this run asks for abc"),
    ],
)
def test_rows_of_other_work_are_refused_and_the_message_says_what_differs(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    asked = {("a", "locinv"): row("a", "locinv")}
    check_same_work([row("a", "locinv"), row("b", "locinv", **changes)], asked, tmp_path)
    with pytest.raises(ValueError, match=message):
        check_same_work([row("a", "locinv", **changes)], asked, tmp_path)


def test_settings_are_compared_as_json_has_them(tmp_path: Path) -> None:
    asked = {("a", "locinv"): row("a", "locinv", settings={"range": (0, 1)})}
    check_same_work([row("a", "locinv", settings={"range": [0, 1]})], asked, tmp_path)
