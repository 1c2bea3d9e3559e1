"""One ComfyUI for all tests of this folder; without one they are skipped, and say why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pinpoint.tests.comfyui.browser import CanvasPage, canvas_page, chromium
from pinpoint.tests.comfyui.comfyui_server import ComfyUI, comfyui_folder, comfyui_python


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyUI]:
    folder, python = comfyui_folder(), comfyui_python()
    if folder is None:
        pytest.skip("NO COMFYUI: set COMFYUI_DIR to a checkout, or put one at ~/ComfyUI")
    if python is None:
        pytest.skip("NO PYTHON FOR COMFYUI: run make test-comfyui, or set COMFYUI_PYTHON")
    running = ComfyUI(folder, python, tmp_path_factory.mktemp("comfyui"))
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(scope="session")
def canvas(comfyui: ComfyUI) -> Iterator[CanvasPage]:
    pytest.importorskip("playwright", reason="NO PLAYWRIGHT: install the dev extras")
    executable = chromium()
    if executable is None:
        pytest.skip("NO CHROMIUM: install one (apt-get install chromium), or set CHROMIUM to it")
    with canvas_page(comfyui, executable) as page:
        yield page
