"""`pinpoint study` writes a study, serves it until Ctrl-C, and says how often each method was preferred."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from http.client import HTTPConnection
from pathlib import Path

import pytest

from pinpoint.__main__ import main
from pinpoint.research.evaluation.user_study.site import read_study
from pinpoint.tests.research.evaluation.study_site import make_results, make_site


def test_a_study_is_written_from_results_and_their_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_results(tmp_path / "run")
    site = tmp_path / "site"
    command = ["study", str(tmp_path / "run"), "--out", str(site), "--no-serve"]
    assert main([*command, "--methods", "locinv, pnp,", "--tasks", "3"]) == 0
    assert "6 images, 2 methods" in capsys.readouterr().out
    study = read_study(site)
    assert (study.methods, study.tasks) == (("locinv", "pnp"), 3)
    assert main(command) == 2
    assert "another study" in capsys.readouterr().err


def test_the_data_set_may_lie_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_results(tmp_path / "run")
    (tmp_path / "data").mkdir()
    for name in ("images", "dataset.json"):
        (tmp_path / "run" / name).rename(tmp_path / "data" / name)
    command = ["study", str(tmp_path / "run"), "--out", str(tmp_path / "site"), "--no-serve"]
    assert main(command) == 2
    assert "nothing says where it is" in capsys.readouterr().err
    assert main([*command, "--dataset", str(tmp_path / "data")]) == 0
    (tmp_path / "run" / "dataset.txt").write_text(f"{tmp_path / 'data'}\n", encoding="utf-8")
    assert main(command) == 0


def test_the_rates_are_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = make_site(tmp_path)
    line: dict[str, str | int] = {
        "study": study.fingerprint,
        "participant": "anna",
        "item": "item-0",
        "question": "quality",
    }
    line |= {"method": "pnp", "place": 1, "time": "2026-01-02T03:04:05+00:00"}
    (tmp_path / "site" / "answers.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    assert main(["study", "--results", str(tmp_path / "site")]) == 0
    said = capsys.readouterr().out
    # Wilson's interval of 1 of 1 begins at 1 / (1 + 1.96²).
    assert "| single-object | quality | 1 | 0.0 (0.0 to 79.3) | 0.0 (0.0 to 79.3) | **100.0** (20.7 to 100.0) |" in said
    assert "1 participant;" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study"], "out: is missing"),
        (["study", "--results", "nothing"], "holds no study.json"),
        (["study", "run", "--results", "nothing"], "takes a study's folder alone"),
        (["study", "--out", "nothing"], "holds no study.json"),
        (["study", "nothing", "--out", "site"], "there is no folder 'nothing'"),
    ],
)
def test_bad_input_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("port", ["-1", "99999"])
def test_a_port_that_there_is_not_is_refused_before_anything_is_written(
    port: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_results(tmp_path / "run")
    site = tmp_path / "site"
    assert main(["study", str(tmp_path / "run"), "--out", str(site), "--port", port]) == 2
    assert f"port: got {port}, requires 0 to 65535" in capsys.readouterr().err
    assert not site.exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_site(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["study", "--out", str(tmp_path / "site"), "--port", str(port)]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"pinpoint: error: port: got {port} (") and said.endswith(
        "requires a free one; 0 takes any\n"
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Ctrl-C is sent as a signal")
def test_a_study_is_served_until_ctrl_c(tmp_path: Path) -> None:
    make_site(tmp_path)
    command = [sys.executable, "-m", "pinpoint", "study", "--out", str(tmp_path / "site"), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            lines = [running.stdout.readline() for _ in range(2)]
            port = re.search(r"http://127\.0\.0\.1:(\d+)/", lines[1])
            assert port is not None
            connection = HTTPConnection("127.0.0.1", int(port[1]), timeout=60)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            running.send_signal(signal.SIGINT)
            rest, _ = running.communicate(timeout=120)
        finally:
            running.kill()
    assert running.returncode == 0
    assert "0 answers are saved" in rest
