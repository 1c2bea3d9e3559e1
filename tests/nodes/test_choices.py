"""The nodes load fast, and each has a help page."""

from __future__ import annotations

import ast
from pathlib import Path

NODES = Path(__file__).resolve().parents[2] / "nodes"


def imported_when_loaded(path: Path) -> set[str]:
    """The modules that a module imports as it is loaded: at its top level, outside TYPE_CHECKING."""
    names: set[str] = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Import):
            names |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            names.add("." * statement.level + (statement.module or ""))
    return names


def test_loading_the_pack_imports_of_the_core_only_what_needs_no_heavy_library():
    light = {"..assets", "..locinv_core.editing.settings", "..locinv_core.options", "..region_core.options"}
    for path in NODES.glob("*.py"):
        core = {name for name in imported_when_loaded(path) if name.startswith("..")}
        assert core <= light, path.name


def test_node_ids_are_prefixed_unique_and_have_a_help_page():
    ids = [
        keyword.value.value
        for path in NODES.glob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "node_id" and isinstance(keyword.value, ast.Constant)
    ]
    assert len(ids) == len(set(ids)) >= 16
    pages = {page.stem for page in (NODES.parent / "web" / "docs").glob("*.md")}
    assert pages == set(ids)
    assert all(name.startswith("Pinpoint") for name in ids)
