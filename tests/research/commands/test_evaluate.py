"""The evaluate and ablate commands, run as a user runs them, on tiny random models in real folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pinpoint.__main__ import main
from pinpoint.research.evaluation.datasets.reader import noted_dataset, read_dataset
from pinpoint.research.evaluation.datasets.selection import spread
from pinpoint.tests.fixtures.tiny_encoders import write_tiny_clip, write_tiny_vit
from pinpoint.tests.fixtures.tiny_models import write_tiny_folder
from pinpoint.tests.research.evaluation.tiny_items import SIZE, drawn_dataset

Captured = pytest.CaptureFixture[str]


@pytest.fixture(name="model", scope="module")
def _model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("a model"))


@pytest.fixture(name="pets", scope="module")
def _pets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn_dataset(tmp_path_factory.mktemp("pets"), 4)


def evaluate(pets: Path, model: Path, out: Path, *more: str) -> int:
    """The command with small numbers; a later option wins over an earlier one."""
    small = [
        "--steps",
        "2",
        "--device",
        "cpu",
        "--clip",
        "none",
        "--dino",
        "none",
        "--methods",
        "ddim,direct",
    ]
    return main(["evaluate", str(pets), "--model", str(model), "--out", str(out), *small, *more])


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text(encoding="utf-8").splitlines()]


def test_an_evaluation_leaves_results_images_tables_and_a_report_and_goes_on_when_asked_for_more(
    pets: Path, model: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    assert evaluate(pets, model, out, "--limit", "2") == 0
    stdout, stderr = capsys.readouterr()
    rows = rows_of(out)
    # One of each of the two tasks, both methods on each.
    assert [(row["item"], row["method"]) for row in rows] == [
        (item, method) for item in ("pets-0", "pets-1") for method in ("ddim", "direct")
    ]
    for row in rows:
        assert row["error"] is None and row["settings"]["method"]["steps"] == 2
        assert row["metrics"]["mse"] > 0
        assert Image.open(out / row["picture"]).size == (SIZE[1], SIZE[0])
    assert {path.name for path in out.iterdir()} == {
        *("results.jsonl", "pictures", "table.md", "table.csv", "report.html", "dataset.txt")
    }
    assert "direct" in (out / "table.md").read_text(encoding="utf-8")
    assert "pets-1" in (out / "report.html").read_text(encoding="utf-8")
    assert "direct: PSNR, background" in stdout and f"report: {out}" in stdout
    assert stderr.count("\n") == 4 and stderr.startswith("1/4 pets-0 ddim: ")

    before = (out / "results.jsonl").read_bytes()
    assert evaluate(pets, model, out, "--limit", "2") == 0
    assert (out / "results.jsonl").read_bytes() == before
    assert evaluate(pets, model, out, "--limit", "3", "--methods", "npi,ddim") == 0
    assert [(row["item"], row["method"]) for row in rows_of(out)[4:]] == [
        ("pets-0", "npi"),
        ("pets-1", "npi"),
        ("pets-2", "npi"),
        ("pets-2", "ddim"),
    ]

    assert evaluate(pets, model, out, "--steps", "3") == 2
    assert "settings method.steps 2, and this run asks for method.steps 3" in capsys.readouterr().err
    assert len(rows_of(out)) == 8


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods", "ddim,magic"], "methods: got 'magic', requires some of "),
        (["--methods", "inpaint"], "inpaint: the method 'inpaint' requires an inpainting model"),
        (["--metrics", "beauty"], "metrics: got 'beauty'"),
        (["--metrics", "clip_score"], "metric clip_score: no clip given"),
        (["--metrics", "lpips"], "metric lpips: no lpips given"),
        (["--metrics", ","], "metrics: got none, requires at least one"),
        (["--methods", "learnable-regions"], "clip: 'learnable-regions' requires a CLIP, and none is named"),
        (["--methods", "ddim,ledits++", "--steps", "990"], "steps: got 990"),
        (["--limit", "0"], "limit: got 0, requires 1 or more"),
        (["--tasks", "pets,birds"], "tasks: got 'birds', and the data set has pets, others"),
        (["--tasks", ","], "tasks: got none, requires at least one"),
        (["--jobs", "0"], "jobs: got 0, requires 1 or more"),
        (["--steps", "5000"], "steps: got 5000"),
        (["--model", "nowhere"], "model: got 'nowhere'"),
        (["--clip", "no/such/folder"], "clip: got 'no/such/folder'"),
    ],
)
def test_bad_input_ends_with_status_2_one_line_and_no_folder(
    more: list[str], message: str, pets: Path, model: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    assert evaluate(pets, model, out, *more) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"pinpoint: error: {message}")
    assert not out.exists()


@pytest.mark.parametrize("tasks", ["others", "others: cat → fox"])
def test_only_images_of_the_tasks_that_are_asked_for_are_edited(
    tasks: str, pets: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert evaluate(pets, model, out, "--tasks", tasks, "--limit", "1", "--methods", "ddim") == 0
    assert [row["item"] for row in rows_of(out)] == ["pets-1"]
    assert evaluate(pets, model, out, "--tasks", f"{tasks}, pets", "--methods", "ddim") == 0
    assert [row["item"] for row in rows_of(out)] == ["pets-1", "pets-0", "pets-2", "pets-3"]


def test_a_run_that_was_stopped_has_said_which_data_set_it_was_on(
    pets: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Stopped

    monkeypatch.setattr("pinpoint.research.commands.evaluate.note_row", stop)
    with pytest.raises(Stopped):
        evaluate(pets, model, tmp_path / "out", "--limit", "1", "--methods", "ddim")
    assert noted_dataset(tmp_path / "out") == pets


def test_another_precision_and_other_metrics_are_refused_and_not_mixed(
    pets: Path, model: Path, tmp_path: Path, capsys: Captured
) -> None:
    out, small = tmp_path / "out", ("--limit", "1", "--methods", "ddim")
    assert evaluate(pets, model, out, *small) == 0
    assert evaluate(pets, model, out, *small, "--dtype", "float32") == 0, "what a CPU computes in anyway"
    before = (out / "results.jsonl").read_bytes()
    for more, message in (
        (["--dtype", "float16"], "settings dtype None, and this run asks for dtype float16"),
        (["--metrics", "psnr,mse"], "results of 'ddim' on 'pets-0' with psnr_background, "),
    ):
        capsys.readouterr()
        assert evaluate(pets, model, out, *small, *more) == 2
        assert message in capsys.readouterr().err
    assert (out / "results.jsonl").read_bytes() == before


@pytest.mark.parametrize("name", ["table.md", "report.html"])
def test_a_folder_with_a_file_that_is_no_runs_is_refused_and_left_as_it_is(
    name: str, pets: Path, model: Path, tmp_path: Path, capsys: Captured
) -> None:
    (tmp_path / name).write_text("mine", encoding="utf-8")
    assert evaluate(pets, model, tmp_path) == 2
    assert f"holds a {name} and no results.jsonl" in capsys.readouterr().err
    assert [(path.name, path.read_text(encoding="utf-8")) for path in tmp_path.iterdir()] == [(name, "mine")]


def test_a_data_set_that_is_not_there_is_refused(tmp_path: Path, capsys: Captured) -> None:
    assert main(["evaluate", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("pinpoint: error: dataset: there is no ")


def test_a_run_in_which_everything_fails_says_so(pets: Path, model: Path, tmp_path: Path, capsys: Captured) -> None:
    # Without the mask of one of its objects, no method can open the item.
    broken = drawn_dataset(tmp_path / "pets", 1)
    (broken / "pets-0-dog.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert evaluate(broken, model, out) == 1
    assert [row["error"].partition(":")[0] for row in rows_of(out)] == ["ValueError", "ValueError"]
    assert "2 of 2 failed, the first: ddim on pets-0: ValueError: " in capsys.readouterr().out
    table = (out / "table.md").read_text(encoding="utf-8").splitlines()
    assert [line for line in table if line.startswith("| d")] == [
        "| ddim | 0, 1 failed |",
        "| direct | 0, 1 failed |",
    ]
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "1 images · 2 methods · 2 edits · 2 failed" in report and 'id="failures"' in report


def test_the_report_counts_the_failures_of_an_item_that_cannot_be_read_as_the_table_does(
    model: Path, tmp_path: Path
) -> None:
    pets = drawn_dataset(tmp_path / "pets", 2)
    (pets / "pets-0.png").write_bytes(b"no image")
    out = tmp_path / "out"
    assert evaluate(pets, model, out) == 0
    assert (out / "table.md").read_text(encoding="utf-8").count("| 1, 1 failed |") == 2
    report = (out / "report.html").read_text(encoding="utf-8")
    assert "2 images · 2 methods · 4 edits · 2 failed" in report
    assert '<th scope="row">pets-0</th>' in report[report.index('id="failures"') :]


def test_a_limit_takes_every_task_in_turn_and_a_larger_one_adds_to_it(pets: Path) -> None:
    items = read_dataset(pets).items
    tasks = ["a", "a", "a", "b"]
    from dataclasses import replace

    mixed = [replace(item, task=task) for item, task in zip(items, tasks, strict=True)]
    found = [[item.id for item in spread(mixed, limit)] for limit in (1, 2, 3, 9)]
    assert found == [
        ["pets-0"],
        ["pets-0", "pets-3"],
        ["pets-0", "pets-1", "pets-3"],
        ["pets-0", "pets-1", "pets-2", "pets-3"],
    ]


def test_the_ablation_of_locinv_leaves_tables_and_the_figure_of_the_prior(
    pets: Path, model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    small = ["--limit", "1", "--steps", "2", "--sweeps", "weights,methods", "--prior", "segment"]
    assert main(["ablate", "locinv", str(pets), "--model", str(model), "--out", str(out), *small]) == 0
    assert {path.name for path in out.iterdir()} == {*("results.jsonl", "table.md", "table.csv", "fig3_segment.png")}
    # Five pairs of weights, of which one is the published; and the untuned and DPL's maps beside it.
    assert len(rows_of(out)) == 7
    table = (out / "table.md").read_text(encoding="utf-8")
    assert "| → λ_sim=1 λ_ovl=1 |" in table and "| untuned (NTI) |" in table


def test_the_ablation_of_regions_leaves_tables_and_a_figure(
    pets: Path, model: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    out = tmp_path / "out"
    clip, vit = write_tiny_clip(tmp_path / "clip"), write_tiny_vit(tmp_path / "vit")
    networks = ["--model", str(model), "--clip", str(clip), "--vit", str(vit), "--device", "cpu"]
    small = ["--limit", "1", "--steps", "2", "--epochs", "1", "--sweeps", "losses", "--plan", "stand-in"]
    assert main(["ablate", "regions", str(pets), "--out", str(out), *networks, *small]) == 0
    assert {path.name for path in out.iterdir()} == {
        *("results.jsonl", "pictures", "table.md", "table.csv", "tables3to5.png")
    }
    assert [row["method"] for row in rows_of(out)] == ["L_Clip", "L_Clip+L_Str", "standard"]
    assert all(row["metrics"]["s_i2i"] <= 1.0001 for row in rows_of(out))


def test_an_ablation_of_no_epochs_is_refused_before_any_work(
    pets: Path, model: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    command = ["ablate", "regions", str(pets), "--model", str(model), "--out", str(out)]
    assert main([*command, "--epochs", "0"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "pinpoint: error: epochs: got 0, requires 1 or more"
    assert not out.exists()


def test_a_part_of_the_embedded_models_that_there_is_not_is_refused_before_the_others_are_measured(
    model: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "out"
    command = ["evaluate-embedded", "--model", str(model), "--count", "1", "--out", str(out)]
    assert main([*command, "--parts", "vae,amused", "--regions", str(tmp_path)]) == 2
    assert "leave amused out of --parts" in capsys.readouterr().err
    assert not out.exists()


def test_maps_of_one_scene_have_no_figure_of_another_scenes_object(
    model: Path, tmp_path: Path, capsys: Captured
) -> None:
    parts = ["--parts", "attention", "--attention-count", "1", "--count", "1", "--steps", "2"]
    assert main(["evaluate-embedded", "--model", str(model), *parts, "--out", str(tmp_path)]) == 0
    assert "best IoU with its object" in (printed := capsys.readouterr().out) and "another scene" not in printed
    figures = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))["attention"]
    assert set(figures) == {"iou", "inside", "other", "area"}


@pytest.mark.slow
def test_the_embedded_model_is_evaluated_by_two_processes(tmp_path: Path) -> None:
    assert main(["scenes", "--count", "2", "--objects", "2", "--out", str(tmp_path / "scenes")]) == 0
    out = tmp_path / "out"
    asked = ["--methods", "ddim,locinv,locinv-composite", "--steps", "4", "--jobs", "2", "--metrics"]
    metrics = "psnr_background,psnr_target"
    assert main(["evaluate", str(tmp_path / "scenes"), *asked, metrics, "--out", str(out)]) == 0
    rows = rows_of(out)
    assert len(rows) == 6 and not any(row["error"] for row in rows)
    background = {(row["item"], row["method"]): row["metrics"]["psnr_background"] for row in rows}
    for item in {row["item"] for row in rows}:
        assert background[item, "ddim"] < background[item, "locinv"] < background[item, "locinv-composite"]
        assert background[item, "locinv-composite"] == 100.0
