"""The files that are tracked: no pickles, small weights, the licence, and names that say something."""

from __future__ import annotations

import ast
import hashlib
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from pinpoint.tests.repository.source_tree import (
    FOLDERS,
    PROJECT,
    PYPROJECT,
    ROOT,
    package_files,
    relative,
    tracked_files,
)

# https://www.apache.org/licenses/LICENSE-2.0.txt
APACHE_2_0_SHA256 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
WEIGHTS_LIMIT = 24_000_000
ENTRIES_LIMIT = 16
"""Modules and folders of a folder of the package; `methods`, with a file a method, may have more."""


def test_every_module_says_what_it_is_about() -> None:
    silent = [relative(p) for p in package_files() if not ast.get_docstring(ast.parse(p.read_text(encoding="utf-8")))]
    assert silent == []


def test_no_module_is_named_after_leftovers() -> None:
    names = [path.relative_to(ROOT) for path in tracked_files() if path.suffix == ".py"]
    assert [str(name) for name in names if re.search(r"util|helper|misc|common", name.stem)] == []


def test_no_folder_of_the_package_is_crowded() -> None:
    files = Counter(relative(path.parent) for path in package_files() if path.name != "__init__.py")
    folders = Counter(relative(folder.parent) for folder in FOLDERS[1:])
    crowded = {name: n for name in files if (n := files[name] + folders[name]) > ENTRIES_LIMIT and name != "methods"}
    assert crowded == {}


def test_the_comfyui_registry_has_what_it_needs() -> None:
    comfy = PYPROJECT["tool"]["comfy"]
    assert comfy["PublisherId"] and comfy["DisplayName"] == "Pinpoint"
    assert re.fullmatch(r"\d+\.\d+\.\d+", PROJECT["version"])
    assert re.fullmatch(r">=\d+\.\d+\.\d+", comfy["requires-comfyui"])


def test_the_changelog_names_this_version() -> None:
    assert f"## [{PROJECT['version']}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_licence_is_apache_2_0() -> None:
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0_SHA256
    assert PROJECT["license"] == "Apache-2.0"


def test_the_tracked_weights_stay_small() -> None:
    assert sum(p.stat().st_size for p in tracked_files() if p.suffix == ".safetensors") <= WEIGHTS_LIMIT


def pickle_calls(source: str) -> Iterator[str]:
    """Calls and imports that read or write pickles, other than torch's `weights_only` loader."""
    nodes = list(ast.walk(ast.parse(source)))
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    safe = {call.func for call in calls if any(ast.unparse(given) == "weights_only=True" for given in call.keywords)}
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node not in safe:
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
        ("torch.load('f', weights_only=False)", ["torch.load"]),
        ("torch.load('f', weights_only=True)", []),
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
