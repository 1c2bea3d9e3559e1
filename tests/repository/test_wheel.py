"""A wheel carries the package whole and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pinpoint.tests.repository.source_tree import ROOT, package_files, relative, run_python, tracked_files

DATA = (
    "assets/embedded/",
    "assets/samples/",
    "locinv_core/backbones/configs/",
    "research/embedded_world/scenes/drawings.json",
    "research/evaluation/report/page/",
    "research/evaluation/user_study/page/",
)
"""Folders of what the package carries beside its code."""


@pytest.mark.slow
def test_a_wheel_carries_the_package_whole_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "a copy"
    for path in tracked_files():
        target = source / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    built = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q"),
            *("-w", str(tmp_path / "dist"), str(source)),
        ],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("comfyui_pinpoint-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        shipped = {name for name in archive.namelist() if ".dist-info/" not in name}
        archive.extractall(tmp_path / "site")
    expected = {
        f"pinpoint/{relative(path)}"
        for path in tracked_files()
        if path in package_files() or relative(path).startswith(DATA)
    }
    assert shipped == expected
    assert any(name.endswith(".safetensors") for name in shipped)
    where = run_python(
        "-c",
        "import pinpoint.__main__; print(pinpoint.__main__.__file__)",
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path / "site"),
    )
    assert Path(where) == tmp_path / "site" / "pinpoint" / "__main__.py"
