"""Installing requirements.txt into a ComfyUI, line by line as its Manager does, changes nothing that is installed.

`comfyui_sets` has two ComfyUIs as pip installs them, an older and a current one.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from pinpoint.tests.repository.source_tree import PROJECT, ROOT

SETS = sorted((Path(__file__).parent / "comfyui_sets").glob("*.txt"))
LINES = [
    line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
]


def pins(path: Path) -> dict[str, str]:
    """The versions of a set, by the names of their distributions."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    return {canonicalize_name(line.split("==")[0]): line.split("==")[1].split(" ")[0] for line in lines}


def test_the_nodes_require_diffusers_alone_of_what_comfyui_lacks() -> None:
    assert [Requirement(line).name for line in LINES] == ["diffusers"]
    core = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    for path in SETS:
        assert core - set(pins(path)) == {"diffusers"}, path.name


def test_comfyui_has_the_versions_that_the_core_requires() -> None:
    for path in SETS:
        installed = pins(path)
        for requirement in map(Requirement, PROJECT["dependencies"]):
            if requirement.name != "diffusers":
                version = installed[canonicalize_name(requirement.name)]
                assert requirement.specifier.contains(version), f"{path.name}: {requirement}, got {version}"


def test_the_two_comfyuis_are_of_different_generations() -> None:
    hubs = [Version(pins(path)["huggingface-hub"]) for path in SETS]
    assert len(hubs) == 2 and hubs[0] < Version("1") < hubs[1]


def test_a_line_begins_with_its_lower_bound() -> None:
    # ComfyUI Manager reads the first bound alone, and keeps an installed version that is newer than a `>=`.
    for line in LINES:
        assert line.startswith(f"{Requirement(line).name}>=")


@pytest.mark.slow
@pytest.mark.parametrize("installed", SETS, ids=lambda path: path.stem)
@pytest.mark.parametrize("line", LINES)
def test_a_line_alone_moves_nothing_that_comfyui_has_installed(line: str, installed: Path, tmp_path: Path) -> None:
    found = installs(line, pins(installed), tmp_path)
    assert "diffusers" in found and found & set(pins(installed)) == set()


@pytest.mark.slow
def test_diffusers_without_an_upper_bound_would_move_the_hub_of_the_older_comfyui(tmp_path: Path) -> None:
    assert "huggingface-hub" in installs("diffusers>=0.35", pins(SETS[0]), tmp_path)


def installs(line: str, installed: dict[str, str], folder: Path) -> set[str]:
    """What pip would install for the line, into an environment whose packages have a name and a version only."""
    command = [sys.executable, "-m", "pip", "--python", str(environment(folder / "environment", installed))]
    done = subprocess.run([*command, "install", "--dry-run", "--quiet", "--report", "-", line], capture_output=True)
    error = done.stderr.decode()
    if "No matching distribution" in error or "connection" in error.lower():
        pytest.skip("the package registry does not answer")
    assert done.returncode == 0, error
    return {canonicalize_name(entry["metadata"]["name"]) for entry in json.loads(done.stdout)["install"]}


def environment(folder: Path, installed: dict[str, str]) -> Path:
    """A virtual environment in which pip finds these distributions; its Python's path is returned."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    code = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
    packages = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()
    for name, version in installed.items():
        info = Path(packages, f"{name.replace('-', '_')}-{version}.dist-info")
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "INSTALLER").write_text("pip\n")
        (info / "RECORD").write_text("")
    return python
