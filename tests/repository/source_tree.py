"""The repository as data: its modules, what each imports, the files that git tracks."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from setuptools import find_packages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
FOLDERS = (ROOT, *(ROOT.joinpath(*name.split(".")) for name in find_packages(str(ROOT), exclude=["tests", "tests.*"])))
"""The folders of the package, as setup.py finds them."""


def package_files() -> list[Path]:
    """Every module of the package."""
    return sorted(path for folder in FOLDERS for path in folder.glob("*.py") if path != ROOT / "setup.py")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    parts = ["pinpoint", *path.relative_to(ROOT).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree but those under `if TYPE_CHECKING:`."""
    for child in ast.iter_child_nodes(tree):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        for node in (*child.orelse,) if typing_only and isinstance(child, ast.If) else (child,):
            yield node
            yield from _nodes(node)


def imported_modules(source: str, module: str, *, is_package: bool, typing: bool = True) -> set[str]:
    """The absolute names that a module's import statements name, wherever in it they stand.

    `from a import b` names `a` and perhaps `a.b`: both are given. typing: also those under `if TYPE_CHECKING:`.
    """
    package = module.split(".") if is_package else module.split(".")[:-1]
    names: set[str] = set()
    tree = ast.parse(source)
    for node in ast.walk(tree) if typing else _nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            names |= {".".join(base)} | {".".join([*base, alias.name]) for alias in node.names}
    return names


def imports_of(path: Path, *, typing: bool = True) -> set[str]:
    source = path.read_text(encoding="utf-8")
    return imported_modules(source, module_name(path), is_package=path.name == "__init__.py", typing=typing)


def top_levels(names: set[str]) -> set[str]:
    return {name.split(".")[0] for name in names}


def tracked_files() -> list[Path]:
    """The files that git tracks; an export without .git has nothing to check."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True).stdout
    return [path for name in listed.decode().split("\0") if name and (path := ROOT / name).is_file()]


def run_python(*arguments: str, cwd: Path, **environment: str) -> str:
    """What a Python of its own prints; it must end with status 0."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
