"""A run: what is done once stays done, what fails is written down, what differs is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pinpoint.research.evaluation.execution.runner import Workforce, file_name, run_work
from pinpoint.research.evaluation.results import read_results
from pinpoint.tests.research.evaluation.fake_work import FakeRecipe, begun, items, variants, wait_for


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def test_every_variant_runs_on_every_item_item_by_item_with_an_image_each(tmp_path: Path, log: Path) -> None:
    out = tmp_path / "out"
    rows = run_work(FakeRecipe(log), items(tmp_path, 2), variants("ddim", "locinv"), out, seed=5)
    names = ["item-0 ddim", "item-0 locinv", "item-1 ddim", "item-1 locinv"]
    assert begun(log) == names
    assert [f"{row['item']} {row['method']}" for row in rows] == names
    assert rows == read_results(out)
    for row, name in zip(rows, names, strict=True):
        assert (out / row["picture"]).read_bytes() == b"image of " + name.encode()
        assert row["metrics"] == {"length": len(name)}
    expected = {
        "task": "drawn: square → circle",
        "settings": {"steps": 4},
        "model": "f00d",
        "seed": 5,
        "fe": 12,
        "fe_spent": 8,
        "seconds": 2,
        "seconds_spent": 1,
        "error": None,
        "picture": "pictures/ddim/item-0.png",
    }
    assert {name: rows[0][name] for name in expected} == expected


def test_a_run_goes_on_where_it_was_with_more_items_and_more_methods(tmp_path: Path, log: Path) -> None:
    all_items = items(tmp_path, 3)
    run_work(FakeRecipe(log), all_items[:2], variants("ddim"), tmp_path)
    log.unlink()
    rows = run_work(FakeRecipe(log), all_items, variants("ddim", "locinv"), tmp_path)
    assert begun(log) == ["item-0 locinv", "item-1 locinv", "item-2 ddim", "item-2 locinv"]
    assert len(rows) == 6
    log.unlink()
    assert run_work(FakeRecipe(log), all_items[1:], variants("locinv"), tmp_path) == [rows[3], rows[5]]
    assert begun(log) == []


def test_a_run_that_was_killed_goes_on_where_it_was(tmp_path: Path, log: Path) -> None:
    all_items, out = items(tmp_path, 2), tmp_path / "out"
    code = f"""
from pathlib import Path
from pinpoint.research.evaluation.execution.runner import run_work
from pinpoint.tests.research.evaluation.fake_work import FakeRecipe, items, variants
folder = Path({str(tmp_path)!r})
recipe = FakeRecipe(folder / "log", slow=["item-1 ddim"])
run_work(recipe, items(folder, 2), variants("ddim", "locinv"), folder / "out")
"""
    with subprocess.Popen([sys.executable, "-c", code]) as process:
        wait_for("item-1 ddim", log)
        os.kill(process.pid, signal.SIGKILL)
    log.unlink()
    rows = run_work(FakeRecipe(log), all_items, variants("ddim", "locinv"), out)
    assert begun(log) == ["item-1 ddim", "item-1 locinv"]
    assert [row["error"] for row in rows] == [None] * 4


def test_what_fails_is_written_down_with_its_error_and_does_not_stop_the_run(tmp_path: Path, log: Path) -> None:
    recipe = FakeRecipe(log, failing=["item-0 locinv"])
    rows = run_work(recipe, items(tmp_path, 2), variants("ddim", "locinv"), tmp_path)
    assert [row["error"] for row in rows] == [None, "RuntimeError: no item-0 locinv today", None, None]
    assert (rows[1]["picture"], rows[1]["metrics"]) == (None, {})


def test_a_figure_that_is_no_number_fails_its_image_and_does_not_stop_the_run(tmp_path: Path, log: Path) -> None:
    recipe = FakeRecipe(log, nan=["item-0 ddim"])
    rows = run_work(recipe, items(tmp_path, 2), variants("ddim"), tmp_path)
    assert [row["error"] for row in rows] == [
        "ValueError: metric length: it is nan, requires a finite number",
        None,
    ]
    assert (rows[0]["metrics"], rows[0]["words"], rows[0]["picture"]) == ({}, {}, None)


def test_what_failed_is_tried_again_only_on_request(tmp_path: Path, log: Path) -> None:
    all_items = items(tmp_path, 1)
    run_work(FakeRecipe(log, failing=["item-0 ddim"]), all_items, variants("ddim"), tmp_path)
    assert run_work(FakeRecipe(log), all_items, variants("ddim"), tmp_path)[0]["error"] is not None
    (row,) = run_work(FakeRecipe(log), all_items, variants("ddim"), tmp_path, retry_failed=True)
    assert row["error"] is None
    assert begun(log) == ["item-0 ddim"] * 2


def test_other_settings_seed_or_model_are_refused_before_any_work(tmp_path: Path, log: Path) -> None:
    all_items = items(tmp_path, 1)
    run_work(FakeRecipe(log), all_items, variants("ddim"), tmp_path)
    log.unlink()
    with pytest.raises(ValueError, match=r"settings steps 4, and this run asks for steps 9"):
        run_work(FakeRecipe(log), all_items, variants("locinv", "ddim", steps=9), tmp_path)
    with pytest.raises(ValueError, match="seed 0, and this run asks for 1"):
        run_work(FakeRecipe(log), all_items, variants("ddim"), tmp_path, seed=1)
    with pytest.raises(ValueError, match="model f00d, and this run asks for beef"):
        run_work(FakeRecipe(log, model="beef"), all_items, variants("ddim"), tmp_path)
    assert begun(log) == []


def test_what_failed_may_be_tried_again_on_a_mended_image_and_with_other_settings(tmp_path: Path, log: Path) -> None:
    all_items = items(tmp_path, 2)
    run_work(FakeRecipe(log, failing=["item-0 ddim"]), all_items[:1], variants("ddim"), tmp_path)
    all_items[0].image.write_bytes(all_items[0].image.read_bytes() + b"mended")
    mended = variants("ddim", steps=9)
    with pytest.raises(ValueError, match="settings steps 4, and this run asks for steps 9"):
        run_work(FakeRecipe(log), all_items, mended, tmp_path)
    rows = run_work(FakeRecipe(log), all_items, mended, tmp_path, retry_failed=True)
    assert [(row["error"], row["settings"]) for row in rows] == [(None, {"steps": 9})] * 2


def test_rows_of_other_metrics_are_refused_before_any_work(tmp_path: Path, log: Path) -> None:
    all_items = items(tmp_path, 2)
    recipe = FakeRecipe(log, failing=["item-1 ddim"])
    run_work(recipe, all_items, variants("ddim"), tmp_path, metrics=["length"])
    log.unlink()
    with pytest.raises(ValueError, match="results of 'ddim' on 'item-0' without width;"):
        run_work(recipe, all_items, variants("ddim", "npi"), tmp_path, metrics=["length", "width"])
    with pytest.raises(ValueError, match="results of 'ddim' on 'item-0' with length besides;"):
        run_work(recipe, all_items, variants("ddim"), tmp_path, metrics=[])
    assert begun(log) == []
    run_work(recipe, all_items, variants("ddim", "npi"), tmp_path, metrics=["length"])
    assert begun(log) == ["item-0 npi", "item-1 npi"]


def test_an_image_that_has_changed_since_is_refused(tmp_path: Path, log: Path) -> None:
    (item,) = items(tmp_path, 1)
    run_work(FakeRecipe(log), [item], variants("ddim"), tmp_path)
    before = item.digest()
    item.image.write_bytes(item.image.read_bytes() + b"!")
    assert item.digest() != before
    with pytest.raises(ValueError, match="holds results of 'ddim' on 'item-0' with input"):
        run_work(FakeRecipe(log), [item], variants("ddim"), tmp_path)


def test_other_settings_under_another_name_are_rows_beside_the_first(tmp_path: Path, log: Path) -> None:
    all_items = items(tmp_path, 1)
    both = [*variants("ddim"), *variants("ddim-9", steps=9)]
    run_work(FakeRecipe(log), all_items, both[:1], tmp_path)
    rows = run_work(FakeRecipe(log), all_items, both, tmp_path)
    assert [(row["method"], row["settings"]["steps"]) for row in rows] == [("ddim", 4), ("ddim-9", 9)]


def test_a_recipe_that_cannot_be_opened_stops_the_run_before_anything_is_written(tmp_path: Path, log: Path) -> None:
    with pytest.raises(ValueError, match="no weights"):
        run_work(FakeRecipe(log, refuses="no weights"), items(tmp_path, 1), variants("ddim"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("names", [(), ("ddim", "ddim"), ("a b", "a:b")])
def test_methods_require_names_of_their_own(names: tuple[str, ...], tmp_path: Path, log: Path) -> None:
    with pytest.raises(ValueError, match="requires at least one, each once"):
        run_work(FakeRecipe(log), items(tmp_path, 1), variants(*names), tmp_path)


@pytest.mark.parametrize(
    ("name", "expected"), [("locinv", "locinv"), ("λ=0.5, α=10", "λ=0.5_α=10"), ("../x", "x"), ("..", "_")]
)
def test_a_methods_name_is_made_the_name_of_a_folder(name: str, expected: str) -> None:
    assert file_name(name) == expected


def test_progress_counts_what_was_done_before(tmp_path: Path, log: Path) -> None:
    seen: list[tuple[str, int, int]] = []

    def note(row: Mapping[str, Any], done: int, total: int) -> None:
        seen.append((row["item"], done, total))

    all_items = items(tmp_path, 3)
    run_work(FakeRecipe(log), all_items[:1], variants("ddim"), tmp_path)
    run_work(FakeRecipe(log), all_items, variants("ddim"), tmp_path, note=note)
    assert seen == [("item-1", 2, 3), ("item-2", 3, 3)]


@pytest.mark.parametrize("jobs", [0, -1])
def test_fewer_than_one_process_is_refused(jobs: int) -> None:
    with pytest.raises(ValueError, match=f"jobs: got {jobs}, requires 1 or more"):
        Workforce(jobs)
