"""The node as comfy-cli publishes it: what git tracks without what .comfyignore names.

It is used as a ComfyUI would: only what ComfyUI brings and requirements.txt names can be imported.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from pathspec import PathSpec

from pinpoint.tests.repository.installed import installed, site_with
from pinpoint.tests.repository.source_tree import (
    PYPROJECT,
    ROOT,
    imports_of,
    package_files,
    relative,
    run_python,
    tracked_files,
)
from pinpoint.tests.repository.test_comfyui_requirements import LINES, SETS, pins
from pinpoint.tests.repository.test_dependencies import COMFYUI

# How ComfyUI loads a folder of custom_nodes; its API is there in name alone.
LOAD = """
import asyncio, importlib.util, sys, types
from unittest.mock import MagicMock

latest = types.ModuleType("comfy_api.latest")
latest.io, latest.ui = MagicMock(), MagicMock()
latest.io.ComfyNode, latest.ComfyExtension = type("ComfyNode", (), {}), type("ComfyExtension", (), {})
sys.modules.update({"comfy_api": types.ModuleType("comfy_api"), "comfy_api.latest": latest})
sys.modules.update({name: MagicMock() for name in COMFYUI})
name = FOLDER.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, FOLDER + "/__init__.py")
module = sys.modules[name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
nodes = asyncio.run(asyncio.run(module.comfy_entrypoint()).get_node_list())
print(module.WEB_DIRECTORY, len(nodes), "diffusers" in sys.modules)
"""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published zip, unpacked into a folder named `pinpoint`."""
    folder = tmp_path_factory.mktemp("published")
    lines = (ROOT / ".comfyignore").read_text(encoding="utf-8").splitlines()
    ignored = PathSpec.from_lines("gitignore", [line for line in lines if line and line[0] != "#"])
    with zipfile.ZipFile(folder / "node.zip", "w") as archive:
        for path in tracked_files():
            if not ignored.match_file(relative(path)):
                archive.write(path, relative(path))
    with zipfile.ZipFile(folder / "node.zip") as archive:
        archive.extractall(folder / "pinpoint")
    return folder / "pinpoint"


@pytest.fixture(scope="module")
def comfyui_site(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a ComfyUI has after requirements.txt: the current set, as far as it is installed here, and our lines."""
    brought = sorted(set(pins(SETS[-1])) & installed())
    return str(site_with([*brought, *LINES], tmp_path_factory.mktemp("comfyui") / "site"))


def test_the_published_node_has_no_tests_research_or_documents_of_development(pack: Path) -> None:
    kept = {"assets", "cli", "locinv_core", "methods", "nodes", "region_core", "web", "workflows"}
    assert {path.name for path in pack.iterdir() if path.is_dir()} == kept
    names = {path.name for path in pack.iterdir()}
    assert {"__init__.py", "requirements.txt", "pyproject.toml", "LICENSE", "README.md"} <= names
    assert any((pack / "assets").rglob("*.safetensors"))


def test_comfyui_imports_the_published_node_and_gets_its_nodes(pack: Path, comfyui_site: str, tmp_path: Path) -> None:
    names = {name for path in package_files() for name in imports_of(path)}
    ours = COMFYUI - {"comfy_api"}
    imported = sorted(ours | {name for name in names if name.split(".")[0] in ours})
    printed = run_python(
        "-S", "-c", f"FOLDER, COMFYUI = {str(pack)!r}, {imported!r}\n{LOAD}", cwd=tmp_path, PYTHONPATH=comfyui_site
    )
    web, count, loaded_diffusers = printed.split()
    assert web == "./web" and int(count) >= 30 and loaded_diffusers == "False"


def test_the_published_node_edits_an_image_with_what_comfyui_has(pack: Path, comfyui_site: str, tmp_path: Path) -> None:
    samples = pack / "assets" / "samples"
    image = next(path for path in sorted(samples.iterdir()) if path.suffix == ".png")
    edit = [
        *("-S", "-m", "pinpoint", "edit", str(image), "--source", "a cat", "--target", "a fox"),
        *("--prior", "cat=20,20,90,90", "--steps", "2", "--out", str(tmp_path / "out")),
    ]
    run_python(*edit, cwd=tmp_path, PYTHONPATH=f"{comfyui_site}:{pack.parent}")
    assert (tmp_path / "out" / "report.json").is_file() and (tmp_path / "out" / "edited.png").is_file()


@pytest.mark.parametrize("command", ["evaluate", "train-embedded"])
def test_the_published_node_says_that_research_commands_are_not_there(
    command: str, pack: Path, comfyui_site: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-S", "-m", "pinpoint", command, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": f"{comfyui_site}:{pack.parent}"},
    )
    assert done.returncode == 2
    assert f"command '{command}': the published ComfyUI node leaves it out" in done.stderr


def test_the_code_passes_the_checks_of_comfy_node_validate() -> None:
    checks = ["--select", "S102,S307,E702", "--isolated", "--extend-exclude", ".venv"]
    done = subprocess.run(
        [sys.executable, "-m", "ruff", "check", ".", "-q", *checks], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")
    project = PYPROJECT["project"]
    assert project["name"] and project["version"] and PYPROJECT["tool"]["comfy"]["PublisherId"]
