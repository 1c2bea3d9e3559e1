"""A benchmark's figures are kept scene by scene, and a later run goes on from them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pinpoint.tests.benchmarks.scene_figures import measured


class Measure:
    """Squares a scene's number and notes that it was asked for."""

    def __init__(self, stops_at: int | None = None) -> None:
        self.asked: list[int] = []
        self.stops_at = stops_at

    def __call__(self, scene: int) -> dict[str, float]:
        if scene == self.stops_at:
            raise KeyboardInterrupt
        self.asked.append(scene)
        return {"square": float(scene * scene)}


def test_a_stopped_run_is_gone_on_with(tmp_path: Path) -> None:
    keep, stopped, later = tmp_path / "out" / "rows.jsonl", Measure(stops_at=3), Measure()
    with pytest.raises(KeyboardInterrupt):
        measured(range(1, 5), stopped, keep=keep, choices={"steps": 2})
    rows = measured(range(1, 5), later, keep=keep, choices={"steps": 2})
    assert (stopped.asked, later.asked) == ([1, 2], [3, 4])
    assert [row["square"] for row in rows] == [1, 4, 9, 16]


def test_runs_over_other_scenes_add_to_the_same_file(tmp_path: Path) -> None:
    keep, again = tmp_path / "rows.jsonl", Measure()
    measured(range(2, 4), Measure(), keep=keep, choices={})
    measured(range(0, 2), Measure(), keep=keep, choices={})
    rows = measured(range(0, 4), again, keep=keep, choices={})
    assert [row["square"] for row in rows] == [0, 1, 4, 9]
    assert again.asked == []
    assert [json.loads(line)["scene"] for line in keep.read_text().splitlines()] == [2, 3, 0, 1]


def test_figures_made_with_other_choices_are_not_mixed_in(tmp_path: Path) -> None:
    keep = tmp_path / "rows.jsonl"
    measured([1], Measure(), keep=keep, choices={"weights": "a", "sizes": (1, 2)})
    assert measured([1], Measure(stops_at=1), keep=keep, choices={"weights": "a", "sizes": (1, 2)})
    with pytest.raises(SystemExit, match="other choices"):
        measured([1], Measure(), keep=keep, choices={"weights": "b", "sizes": (1, 2)})


def test_nothing_is_written_where_nothing_is_to_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert measured([3], Measure(), keep=None, choices={}) == [{"square": 9.0}]
    assert list(tmp_path.iterdir()) == []
