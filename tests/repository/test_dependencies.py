"""What is imported is declared: in the core, in an extra, or in the few lines that ComfyUI gets."""

from __future__ import annotations

import re
import sys
from importlib import metadata
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pinpoint.tests.repository.source_tree import (
    EXTRAS,
    PROJECT,
    ROOT,
    imports_of,
    package_files,
    relative,
    run_python,
    top_levels,
)

COMFYUI = {"comfy", "comfy_api", "comfy_execution", "comfy_extras", "folder_paths", "latent_preview", "server"}
"""What ComfyUI itself brings to the nodes."""

EXTRAS_OF = {
    "assets": (),
    "locinv_core": ("nlp", "sam", "evaluate"),
    "region_core": ("sam",),
    "methods": (),
    "nodes": (),
    "cli": (),
    "research": ("evaluate", "cluster"),
    "__main__.py": (),
    "__init__.py": (),
}
"""Folder -> the extras whose libraries its modules may import, inside the functions that need them."""

TRANSITIVE = {"huggingface-hub": "transformers", "tokenizers": "transformers", "pyyaml": "transformers"}
"""Distributions that come with a declared one."""


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def undeclared_imports(paths: list[Path], requirements: list[str]) -> dict[str, list[str]]:
    owners = metadata.packages_distributions()
    known = names(requirements)
    known |= {name for name, bringer in TRANSITIVE.items() if bringer in known}
    missing: dict[str, list[str]] = {}
    for path in paths:
        for name in top_levels(imports_of(path)) - set(sys.stdlib_module_names) - {"pinpoint", ""} - COMFYUI:
            if not {canonicalize_name(d) for d in owners.get(name, [name])} & known:
                missing.setdefault(name, []).append(relative(path))
    return missing


@pytest.mark.parametrize("folder", EXTRAS_OF)
def test_every_library_that_a_folder_imports_is_declared(folder: str) -> None:
    paths = [path for path in package_files() if path.relative_to(ROOT).parts[0] == folder]
    requirements = [*PROJECT["dependencies"], *chain(*(EXTRAS[extra] for extra in EXTRAS_OF[folder]))]
    assert paths and undeclared_imports(paths, requirements) == {}


def test_every_library_that_the_tests_import_is_declared() -> None:
    requirements = [*PROJECT["dependencies"], *chain(*EXTRAS.values())]
    missing = undeclared_imports(sorted((ROOT / "tests").rglob("*.py")), requirements)
    # One script runs inside ComfyUI, whose own modules are at the top level: `nodes` too.
    assert {name: paths for name, paths in missing.items() if name != "nodes"} == {}


def test_everything_is_imported_without_any_extra(tmp_path: Path) -> None:
    brought = names([line for extra in ("nlp", "sam", "evaluate", "cluster") for line in EXTRAS[extra]])
    owners = metadata.packages_distributions()
    blocked = [module for module, of in owners.items() if {canonicalize_name(name) for name in of} & brought]
    assert {"spacy", "torchmetrics", "ray", "segment_anything"} <= set(blocked)
    modules = [
        ".".join(["pinpoint", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")
        for path in package_files()
        if not COMFYUI & top_levels(imports_of(path)) and path.relative_to(ROOT).parts[0] != "nodes"
    ]
    code = f"""
import importlib, sys
sys.modules.update(dict.fromkeys({blocked!r}))  # an import of one of them is now an ImportError
for module in {modules!r}:
    importlib.import_module(module)
"""
    run_python("-c", code, cwd=tmp_path)


def test_every_requirement_has_a_lower_bound() -> None:
    requirements = [*PROJECT["dependencies"], *chain(*EXTRAS.values())]
    ours = [line for line in requirements if not line.startswith(PROJECT["name"])]
    assert [line for line in ours if not re.search(r"[>~]=\s*\d", line)] == []


def test_all_is_every_extra_of_the_product_and_locate_is_sam() -> None:
    (everything,) = EXTRAS["all"]
    assert Requirement(everything).extras == set(EXTRAS) - {"all", "dev", "locate"}
    assert [Requirement(line).extras for line in EXTRAS["locate"]] == [{"sam"}]
