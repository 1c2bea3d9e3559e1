"""Tiny models as folders and files, and no network, for the tests of opening them."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from pinpoint.tests.fixtures.tiny_models import write_tiny_configs, write_tiny_file, write_tiny_folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any look at the network is an error, whatever the hub libraries were told."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a model was looked for on the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_folder(tmp_path_factory.mktemp("folder") / "tiny-sd")


@pytest.fixture
def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copied"))


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_configs(tmp_path_factory.mktemp("configs"))


@pytest.fixture(scope="module", params=["sd1", "sd2"])
def family_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    path = tmp_path_factory.mktemp("file") / f"my {request.param} model.safetensors"
    return request.param, write_tiny_file(path, family=request.param)
