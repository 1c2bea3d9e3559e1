"""Imports run one way, in no circles, and load nothing heavy before it is needed."""

from __future__ import annotations

import graphlib
import sys
from pathlib import Path

import pytest

from pinpoint.tests.repository.source_tree import (
    ROOT,
    imported_modules,
    imports_of,
    module_name,
    package_files,
    relative,
    run_python,
    top_levels,
)

CORES = {"assets", "locinv_core"}
ALLOWED = {
    "assets": {"assets"},
    "locinv_core": CORES,
    "region_core": {*CORES, "region_core"},
    "methods": {*CORES, "region_core", "methods"},
    "nodes": {*CORES, "region_core", "methods", "nodes"},
    "cli": {*CORES, "region_core", "methods", "cli"},
    "research": {*CORES, "region_core", "methods", "cli", "research"},
    "__main__.py": {"cli", "research"},
    "__init__.py": {"nodes"},
}
"""Folder -> the folders that its modules may import."""


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


def test_the_import_finder_can_leave_out_what_is_for_type_checkers() -> None:
    source = "import a\nif TYPE_CHECKING:\n    import b\nelse:\n    import c\nwhile d:\n    import e"
    assert imported_modules(source, "m", is_package=False, typing=False) == {"a", "c", "e"}


@pytest.mark.parametrize(
    "module",
    [
        "__main__",
        "assets",
        "cli",
        "locinv_core",
        "methods",
        "nodes",
        "region_core.editors.registry",
        "region_core.options",
        "research.commands",
    ],
)
def test_importing_a_package_loads_neither_torch_nor_diffusers(module: str, tmp_path: Path) -> None:
    heavy = {"torch", "diffusers", "transformers", "numpy"}
    code = f"import sys, pinpoint.{module}; print(sorted(set(sys.modules) & {heavy}))"
    assert run_python("-c", code, cwd=tmp_path) == "[]"


def test_the_cores_and_methods_know_neither_the_command_line_nor_comfyui() -> None:
    outer = {"argparse", "rich", "tqdm", "folder_paths", "server", "nodes"}
    for path in package_files():
        if path.relative_to(ROOT).parts[0] in ("locinv_core", "region_core", "methods"):
            found = {n for n in top_levels(imports_of(path)) if n in outer or n.startswith("comfy")}
            assert not found, f"{relative(path)} imports {sorted(found)}"


def test_imports_run_one_way() -> None:
    for path in package_files():
        inner = {n.split(".")[1] for n in imports_of(path) if n.startswith("pinpoint.")}
        folder = path.relative_to(ROOT).parts[0]
        assert inner <= ALLOWED[folder], f"{relative(path)} imports {sorted(inner - ALLOWED[folder])}"


def test_imports_run_in_no_circles() -> None:
    modules = {module_name(path): path for path in package_files()}
    graph = {name: {n for n in imports_of(p, typing=False) if n in modules} for name, p in modules.items()}
    # `from .package import module` needs the module; the package's own file matters where it has the name itself.
    for name, path in modules.items():
        used = graph[name]
        packages = {n for n in used if modules[n].name == "__init__.py" and any(o.startswith(n + ".") for o in used)}
        graph[name] = used - packages - {name, module_name(path.parent / "__init__.py")}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError with the circle


def test_only_the_nodes_import_comfyui() -> None:
    for path in package_files():
        if path.relative_to(ROOT).parts[0] not in ("nodes", "__init__.py"):
            found = {n for n in top_levels(imports_of(path)) if n.startswith("comfy")}
            assert not found, f"{relative(path)} imports {sorted(found)}"


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
