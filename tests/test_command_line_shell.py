"""The command line's shell: how a command is found, and how each way to fail ends."""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pinpoint import __main__ as shell


def stub_command(run: Callable[[argparse.Namespace], int]) -> ModuleType:
    """A command named `try` that does what it is given."""
    module = ModuleType("try")

    def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        subparsers.add_parser("try").add_argument("--size", type=int, default=1)

    module.add_parser = add_parser  # type: ignore[attr-defined]
    module.run = run  # type: ignore[attr-defined]
    return module


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[argparse.Namespace], int]], None]:
    monkeypatch.delenv("PINPOINT_TRACEBACK", raising=False)

    def install(run: Callable[[argparse.Namespace], int]) -> None:
        monkeypatch.setattr(shell, "COMMANDS", {"try": "cli.try"})
        monkeypatch.setattr(shell, "_module", lambda command: stub_command(run))

    return install


def raising(error: BaseException) -> Callable[[argparse.Namespace], int]:
    def run(args: argparse.Namespace) -> int:
        raise error

    return run


Install = Callable[[Callable[[argparse.Namespace], int]], None]
Captured = pytest.CaptureFixture[str]


def test_a_command_gets_its_options_and_gives_the_exit_status(command: Install) -> None:
    command(lambda args: args.size)
    assert shell.main(["try", "--size", "7"]) == 7


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("steps: got 0, requires 1 to 1000"), "pinpoint: error: steps: got 0, requires 1 to 1000"),
        (ValueError("two\n  lines"), "pinpoint: error: two lines"),
        (ValueError(), "pinpoint: error: ValueError"),
        (
            FileNotFoundError(2, "No such file or directory", "cat.png"),
            "pinpoint: error: cat.png: No such file or directory",
        ),
        (
            OSError("cannot identify image file 'a.png'"),
            "pinpoint: error: cannot identify image file 'a.png'",
        ),
    ],
)
def test_bad_input_ends_with_status_2_and_one_line(
    error: Exception, line: str, command: Install, capsys: Captured
) -> None:
    command(raising(error))
    assert shell.main(["try"]) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", line + "\n")


def test_a_letter_that_the_terminal_lacks_is_written_out(command: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: argparse.Namespace) -> int:
        print("cat → fox")
        return 0

    command(run)
    written = io.BytesIO()
    terminal = io.TextIOWrapper(written, encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", terminal)
    assert shell.main(["try"]) == 0
    terminal.flush()
    assert written.getvalue().rstrip() == b"cat \\u2192 fox"


def test_an_interrupt_ends_with_status_130_and_one_line(command: Install, capsys: Captured) -> None:
    command(raising(KeyboardInterrupt()))
    assert shell.main(["try"]) == 130
    assert capsys.readouterr().err == "pinpoint: interrupted\n"


@pytest.mark.parametrize("argv", [["--traceback", "try"], ["try", "--traceback"]])
def test_a_traceback_is_shown_on_request(argv: list[str], command: Install, capsys: Captured) -> None:
    command(raising(ValueError("no")))
    assert shell.main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last)") and err.endswith("pinpoint: error: no\n")


def test_the_environment_asks_for_tracebacks_too(
    command: Install, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(raising(ValueError("no")))
    monkeypatch.setenv("PINPOINT_TRACEBACK", "1")
    assert shell.main(["try"]) == 2
    assert capsys.readouterr().err.startswith("Traceback")


def test_a_bug_is_not_dressed_up_as_bad_input(command: Install) -> None:
    command(raising(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        shell.main(["try"])


@pytest.mark.parametrize("argv", [[], ["fly"], ["try", "--size", "big"], ["try", "--colour", "red"]])
def test_a_malformed_command_line_ends_with_status_2(argv: list[str], command: Install, capsys: Captured) -> None:
    command(lambda args: 0)
    with pytest.raises(SystemExit) as stopped:
        shell.main(argv)
    assert stopped.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, env=dict(os.environ))


def test_python_dash_m_lists_every_command(tmp_path: Path) -> None:
    done = python("-m", "pinpoint", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for name in ("edit", "scenes", "train-embedded", "evaluate-embedded", "demo", "regions"):
        assert re.search(rf"^    {name}\s", done.stdout, re.MULTILINE), done.stdout


def test_a_missing_command_ends_the_process_with_status_2(tmp_path: Path) -> None:
    done = python("-m", "pinpoint", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "COMMAND" in done.stderr and "Traceback" not in done.stderr


def test_help_loads_neither_torch_nor_diffusers(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pinpoint.__main__ import build_parser\n"
        "build_parser().format_help()\n"
        "print(sorted(set(sys.modules) & {'torch', 'diffusers', 'transformers', 'numpy', 'PIL', 'spacy'}))\n"
    )
    done = python("-c", code, cwd=tmp_path)
    assert done.stdout == "[]\n", done.stderr
