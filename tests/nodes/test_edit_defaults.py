"""What the edit nodes offer before anything is changed are the core's own settings."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pinpoint.methods.diffedit import DiffEditSettings
from pinpoint.methods.imagic import ImagicSettings
from pinpoint.methods.instruct_pix2pix import InstructPix2PixSettings
from pinpoint.methods.ledits_pp import LeditsSettings
from pinpoint.methods.masactrl import MasaCtrlSettings
from pinpoint.methods.pix2pix_zero import Pix2PixZeroSettings
from pinpoint.methods.plug_and_play import PlugAndPlaySettings

NODES = Path(__file__).resolve().parents[2] / "nodes"
MODULES = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in NODES.glob("*.py")}
EDITS: dict[str, tuple[str, type[Any], set[str]]] = {
    "PlugAndPlayEdit": ("compared_edits", PlugAndPlaySettings, {"feature_layers", "attention_layers"}),
    "MasaCtrlEdit": ("compared_edits", MasaCtrlSettings, {"start_layer"}),
    "DiffEdit": ("compared_edits", DiffEditSettings, set()),
    "Pix2PixZeroEdit": ("compared_edits", Pix2PixZeroSettings, {"pairs", "templates"}),
    "LeditsEdit": ("image_edits", LeditsSettings, {"within_mask"}),
    "ImagicEdit": ("image_edits", ImagicSettings, set()),
    "InstructPix2PixEdit": ("instructed_edit", InstructPix2PixSettings, set()),
}
"""Node → its module, its method's settings, and those of them that the node says otherwise: by an empty text,
by -1, or by what is connected to it."""


def written_defaults(module: str, node: str) -> dict[str, Any]:
    """The default of each widget of a node, read without importing its module, which needs ComfyUI."""
    tree = next(part for part in MODULES[module].body if isinstance(part, ast.ClassDef) and part.name == node)
    (inputs,) = (
        keyword.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg == "inputs"
    )
    assert isinstance(inputs, ast.List)
    return dict(found for call in inputs.elts if (found := name_and_default(module, call, {})) is not None)


def name_and_default(module: str, call: ast.expr, known: dict[str, Any]) -> tuple[str, Any] | None:
    """(name, default) of an `io.….Input(…)`, or of the call of a function that makes one; None for a socket.

    known: what the names in the call stand for.
    """
    assert isinstance(call, ast.Call)
    given = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    if isinstance(call.func, ast.Attribute):
        if "default" not in given:
            return None
        return value_of(call.args[0], known), value_of(given["default"], known)
    assert isinstance(call.func, ast.Name)
    module, function = function_named(module, call.func.id)
    parameters = [parameter.arg for parameter in function.args.args]
    passed = {**dict(zip(parameters, call.args, strict=False)), **given}
    made = function.body[-1]
    assert isinstance(made, ast.Return) and made.value is not None
    return name_and_default(module, made.value, {name: value_of(value, known) for name, value in passed.items()})


def function_named(module: str, name: str) -> tuple[str, ast.FunctionDef]:
    """A function that a module has or imports from its neighbour, and whose it is."""
    for statement in MODULES[module].body:
        if isinstance(statement, ast.FunctionDef) and statement.name == name:
            return module, statement
        if isinstance(statement, ast.ImportFrom) and statement.module in MODULES and statement.level == 1:
            if name in {alias.name for alias in statement.names}:
                return function_named(statement.module, name)
    raise AssertionError(f"{module}.py has no {name}")


def value_of(expression: ast.expr, known: dict[str, Any]) -> Any:
    """A literal's value, or what a name is known to stand for; None for what is neither."""
    if isinstance(expression, ast.Name):
        return known.get(expression.id)
    try:
        return ast.literal_eval(expression)
    except ValueError:
        return None


@pytest.mark.parametrize("node", EDITS)
def test_an_edit_node_left_alone_edits_as_the_core_does(node):
    module, settings, otherwise = EDITS[node]
    written = written_defaults(module, node)
    core = {field.name: getattr(settings(), field.name) for field in fields(settings)}
    assert otherwise <= set(core)
    assert {name: written[name] for name in core if name not in otherwise} == {
        name: value for name, value in core.items() if name not in otherwise
    }
    assert written.get("seed", 0) == 0


def test_the_defaults_are_found_wherever_they_are_written():
    assert written_defaults("compared_edits", "MasaCtrlEdit") == {
        "target": "a yellow fox and a red star in a meadow",
        "guidance": 7.5,
        "start": 0.08,
        "start_layer": -1,
    }
