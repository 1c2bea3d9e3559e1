"""The nodes load fast, and each has a help page."""

from __future__ import annotations

import ast
import subprocess
import sys
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
    options = {"..locinv_core.options", "..region_core.options", "..locinv_core.editing.settings"}
    light = {*options, "..assets", "..methods.registry"}
    # What `bridge` and `native` import is loaded when a node runs, but for the choices and sockets of nodes.
    loaded = [path for path in NODES.rglob("*.py") if path.parent.name not in ("bridge", "native")]
    assert len(loaded) > 14
    for path in loaded:
        inner = "." * len(path.relative_to(NODES).parent.parts)
        imported = imported_when_loaded(path)
        core = {name.removeprefix(inner) for name in imported if name.startswith(inner + "..")}
        assert core <= light, path.name


def test_the_settings_of_all_methods_are_read_without_the_libraries_of_models():
    script = (
        "import sys\nfrom pinpoint.methods.registry import all_methods\nall_methods()\n"
        "print(sorted(set(sys.modules) & {'diffusers', 'transformers'}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_node_ids_are_prefixed_unique_and_have_a_help_page():
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in NODES.rglob("*.py")]
    calls = [call for tree in trees for call in ast.walk(tree) if isinstance(call, ast.Call)]
    of_methods = [call.args[0] for call in calls if getattr(call.func, "id", "") == "Shown" and call.args]
    ids = [argument.value for argument in of_methods if isinstance(argument, ast.Constant)]
    ids += [
        keyword.value.value
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "node_id" and isinstance(keyword.value, ast.Constant)
    ]
    assert len(ids) == len(set(ids)) >= 16
    pages = {page.stem for page in (NODES.parent / "web" / "docs").glob("*.md")}
    assert pages == set(ids)
    assert all(name.startswith("Pinpoint") for name in ids)
