"""The repository's own promises: what it imports, declares, tracks and ships."""

from __future__ import annotations

import ast
import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
PACKAGES: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]

# https://www.apache.org/licenses/LICENSE-2.0.txt
APACHE_2_0_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
# What ComfyUI itself brings to the nodes.
COMFYUI = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "latent_preview", "server"}
WEIGHTS_LIMIT = 24_000_000


def package_files() -> list[Path]:
    """Every module of the package: the folders that pyproject.toml lists."""
    folders = [ROOT.joinpath(*name.split(".")[1:]) for name in PACKAGES]
    return sorted(path for folder in folders for path in folder.glob("*.py"))


def module_name(path: Path) -> str:
    parts = ["pinpoint", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_modules(source: str, module: str, *, is_package: bool) -> set[str]:
    """The absolute names that a module's import statements ask for, wherever in it they stand.

    `from a import b` asks for `a` and perhaps for `a.b`: both are named.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names |= {".".join(base)} | {".".join([*base, alias.name]) for alias in node.names}
    return names


def imports_of(path: Path) -> set[str]:
    return imported_modules(path.read_text(encoding="utf-8"), module_name(path), is_package=path.name == "__init__.py")


def top_levels(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def tracked_files() -> list[Path]:
    """The files that git tracks; an export without .git has nothing to check."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def run_python(code: str, *, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# What it imports


@pytest.mark.parametrize(
    ("source", "module", "is_package", "expected"),
    [
        ("import torch.nn", "pinpoint.a.b", False, {"torch.nn"}),
        ("from ..c import d", "pinpoint.a.b", False, {"pinpoint.c", "pinpoint.c.d"}),
        ("from . import d", "pinpoint.a", True, {"pinpoint.a", "pinpoint.a.d"}),
        ("def f():\n    from .d import e", "pinpoint.a.b", False, {"pinpoint.a.d", "pinpoint.a.d.e"}),
    ],
)
def test_the_import_finder_resolves_relative_imports(
    source: str, module: str, is_package: bool, expected: set[str]
) -> None:
    assert imported_modules(source, module, is_package=is_package) == expected


@pytest.mark.parametrize(
    "module",
    [
        "pinpoint",
        "pinpoint.assets",
        "pinpoint.cli",
        "pinpoint.locinv_core",
        "pinpoint.methods",
        "pinpoint.region_core",
        "pinpoint.region_core.editors.registry",
        "pinpoint.region_core.options",
        "pinpoint.research",
        "pinpoint.research.commands",
    ],
)
def test_importing_a_package_loads_neither_torch_nor_diffusers(module: str, tmp_path: Path) -> None:
    heavy = {"torch", "diffusers", "transformers", "numpy"}
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {heavy}))"
    assert run_python(code, cwd=tmp_path) == "[]"


def test_the_cores_know_neither_the_command_line_nor_comfyui() -> None:
    outer = {"argparse", "rich", "tqdm", "folder_paths", "server", "nodes"}
    for path in package_files():
        folder = path.relative_to(ROOT).parts[0]
        if folder not in ("locinv_core", "region_core"):
            continue
        names = imports_of(path)
        found = {n for n in top_levels(names) if n in outer or n.startswith("comfy")}
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"


def test_imports_run_one_way() -> None:
    cores = {"assets", "locinv_core"}
    allowed = {
        "assets": {"assets"},
        "locinv_core": cores,
        "region_core": {*cores, "region_core"},
        "methods": {*cores, "region_core", "methods"},
        "nodes": {*cores, "region_core", "methods", "nodes"},
        "cli": {*cores, "region_core", "methods", "cli"},
        "research": {*cores, "region_core", "methods", "cli", "research"},
        "__main__.py": {"cli", "research"},
        "__init__.py": {"nodes"},
    }
    still_to_cut = {"locinv_core/pipeline.py": {"methods"}, "region_core/editors/locinv.py": {"methods"}}
    for path in package_files():
        inner = {n.split(".")[1] for n in imports_of(path) if n.startswith("pinpoint.")}
        inner -= still_to_cut.get(path.relative_to(ROOT).as_posix(), set())
        folder = path.relative_to(ROOT).parts[0]
        assert inner <= allowed[folder], f"{path.relative_to(ROOT)} imports {sorted(inner - allowed[folder])}"


def test_only_the_nodes_import_comfyui() -> None:
    for path in package_files():
        if path.relative_to(ROOT).parts[0] not in ("nodes", "__init__.py"):
            found = {n for n in top_levels(imports_of(path)) if n.startswith("comfy")}
            assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"


def test_the_package_is_imported_under_one_name_only() -> None:
    import pinpoint

    assert pinpoint.__file__ is not None and Path(pinpoint.__file__).parent == ROOT
    ours = {path.resolve() for path in package_files()}
    strays = [
        name
        for name, module in list(sys.modules.items())
        if name != "pinpoint" and not name.startswith("pinpoint.") and name != "__main__"
        if (file := getattr(module, "__file__", None)) and Path(file).resolve() in ours
    ]
    assert strays == []


# What it declares


def declared(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~\[; ]", line, maxsplit=1)[0].lower().replace("_", "-") for line in requirements}


def undeclared_imports(paths: list[Path], requirements: list[str]) -> dict[str, list[str]]:
    owners = metadata.packages_distributions()
    known = declared(requirements)
    missing: dict[str, list[str]] = {}
    for path in paths:
        for name in top_levels(imports_of(path)) - set(sys.stdlib_module_names) - {"pinpoint", ""}:
            distributions = {d.lower().replace("_", "-") for d in owners.get(name, [name])}
            if not distributions & known:
                missing.setdefault(name, []).append(str(path.relative_to(ROOT)))
    return missing


def test_every_library_that_the_package_imports_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    requirements = [*PROJECT["dependencies"], *extras["locate"], *extras["cluster"]]
    missing = undeclared_imports(package_files(), requirements)
    assert {name: paths for name, paths in missing.items() if name not in COMFYUI} == {}


def test_every_library_that_the_tests_import_is_declared() -> None:
    extras = PROJECT["optional-dependencies"]
    requirements = [*PROJECT["dependencies"], *extras["dev"], *extras["locate"], *extras["cluster"]]
    missing = undeclared_imports(sorted((ROOT / "tests").rglob("*.py")), requirements)
    # One script runs inside ComfyUI, whose own modules are at the top level: `nodes` too.
    assert {name: paths for name, paths in missing.items() if name not in COMFYUI | {"nodes"}} == {}


def test_every_requirement_has_a_lower_bound() -> None:
    requirements = [*PROJECT["dependencies"], *chain(*PROJECT["optional-dependencies"].values())]
    assert [r for r in requirements if not re.search(r"[>~]=\s*\d", r)] == []


def test_requirements_txt_is_the_list_of_dependencies() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == PROJECT["dependencies"]


def test_every_package_folder_is_listed() -> None:
    listed = {ROOT.joinpath(*name.split(".")[1:]) for name in PACKAGES}
    assert sorted(str(p.relative_to(ROOT)) for p in listed if not (p / "__init__.py").is_file()) == []
    ignored = {"tests", "build", "dist", "out", "training"}
    found = {
        path.parent
        for path in ROOT.rglob("__init__.py")
        if path.relative_to(ROOT).parts[0] not in ignored and not path.relative_to(ROOT).parts[0].startswith(".")
    }
    assert found == listed


def test_the_comfyui_registry_has_what_it_needs() -> None:
    comfy = PYPROJECT["tool"]["comfy"]
    assert comfy["PublisherId"] and comfy["DisplayName"] == "Pinpoint"
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])


def test_the_changelog_names_this_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_apache_2_0() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0_SHA256
    assert PROJECT["license"] == "Apache-2.0"


# What it tracks


def test_every_module_says_what_it_is_about() -> None:
    silent = [
        str(path.relative_to(ROOT))
        for path in package_files()
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_no_module_is_named_after_leftovers() -> None:
    names = [p.relative_to(ROOT) for p in tracked_files() if p.suffix == ".py"]
    assert [str(n) for n in names if re.search(r"util|helper|misc|common", n.stem)] == []


def pickle_calls(source: str) -> Iterator[str]:
    """Calls and imports that read or write pickles."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in {("torch", "load"), ("torch", "save")}:
                yield f"torch.{node.attr}"
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            if not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield "allow_pickle"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (n for n in names if n.split(".")[0] in {"pickle", "cPickle", "dill", "joblib", "shelve"})
            if isinstance(node, ast.ImportFrom) and node.module in {"torch", "torch.serialization"}:
                yield from (f"torch.{a.name}" for a in node.names if a.name in {"load", "save"})


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch\ntorch.save(x, 'f')", ["torch.save"]),
        ("from torch import load", ["torch.load"]),
        ("import pickle", ["pickle"]),
        ("np.load('f', allow_pickle=True)", ["allow_pickle"]),
        ("safetensors.torch.save_file(x, 'f')\nmodel.load(1)", []),
    ],
)
def test_the_pickle_finder_finds_pickles(source: str, expected: list[str]) -> None:
    assert list(pickle_calls(source)) == expected


def test_the_package_neither_reads_nor_writes_pickles() -> None:
    found = {
        str(path.relative_to(ROOT)): calls
        for path in package_files()
        if (calls := list(pickle_calls(path.read_text(encoding="utf-8"))))
    }
    assert found == {}


def test_no_tracked_file_is_a_pickle() -> None:
    suffixes = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".bin", ".joblib"}
    found = []
    for path in tracked_files():
        with path.open("rb") as file:
            head = file.read(2)
        # A pickle of protocol 2 or later opens with PROTO (0x80) and its number.
        if path.suffix in suffixes or (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05"):
            found.append(str(path.relative_to(ROOT)))
    assert found == []


def test_the_tracked_weights_stay_small() -> None:
    assert sum(p.stat().st_size for p in tracked_files() if p.suffix == ".safetensors") <= WEIGHTS_LIMIT


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/measured.md"])
def test_documents_link_to_files_and_headings_that_exist(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    missing = []
    for target, _, heading in (link.partition("#") for link in links if not re.match(r"https?:", link)):
        linked = page.parent / target if target else page
        if not linked.exists() or (heading and heading not in headings(linked)):
            missing.append(f"{target}#{heading}")
    assert missing == []


def headings(page: Path) -> set[str]:
    """The anchors that a page's headings have on GitHub."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


# What it ships


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
        f"pinpoint/{path.relative_to(ROOT).as_posix()}"
        for path in tracked_files()
        if path in package_files() or path.relative_to(ROOT).as_posix().startswith(DATA)
    }
    assert shipped == expected
    assert any(name.endswith(".safetensors") for name in shipped)
    where = run_python(
        "import pinpoint.__main__; print(pinpoint.__main__.__file__)",
        cwd=tmp_path,
        PYTHONPATH=str(tmp_path / "site"),
    )
    assert Path(where) == tmp_path / "site" / "pinpoint" / "__main__.py"
