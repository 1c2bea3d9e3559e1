"""One smoke training of all embedded models, shared by the tests."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pinpoint.tests.fixtures.smoke_training import train


@pytest.fixture(scope="session")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the trained models in `out`, and scenes and checkpoints in `work`: to be read only."""
    folder = tmp_path_factory.mktemp("smoke")
    stages = "tokenizer,vae,decoder,diffusion,clip,vit,amused"
    train("--smoke", "--stages", stages, "--out", str(folder / "out"), "--work", str(folder / "work"))
    return folder


@pytest.fixture
def go_on(smoke: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Trains on in a copy of the smoke training, `tmp_path`; gives what was printed."""
    shutil.copytree(smoke, tmp_path, dirs_exist_ok=True)

    def run(*words: str) -> str:
        train("--smoke", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work"), *words)
        return capsys.readouterr().out

    return run
