"""The registry of region editors: one file each in this folder, which says what it is in its `EDITOR`."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from .. import editors

if TYPE_CHECKING:
    from .base import Editor

_SHARED = frozenset({"base", "crop", "registry"})
"""The modules of this folder that are no editors."""


EditorNeed = Literal["model", "inpaint", "amused"]


@dataclass(frozen=True)
class RegionEditor:
    """How an editor is called, and how it is opened.

    name: that of its file, and of `--editor`. label: its title. needs: the kind of model ("model" is any
    text-to-image model). open_model: a name, `device` and `dtype` to it. kind: the class, whose first field it is.
    """

    name: str
    label: str
    needs: EditorNeed
    open_model: Callable[..., Any]
    kind: type[Any]

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the editor's settings."""
        return tuple(field.name for field in fields(self.kind) if field.init)[1:]

    def load(
        self, model: str | Path = "embedded", *, device: str = "auto", dtype: str = "auto", **settings: Any
    ) -> Editor:
        """The editor with the model called `model`; a setting that is None is left to the editor.

        Raises ValueError for a model that does not fit the editor and for settings out of bounds.
        """
        return self.using(self.open_model(model, device=device, dtype=dtype), **settings)

    def using(self, model: Any, **settings: Any) -> Editor:
        """The editor with a model that is open; a setting that is None is left to the editor."""
        editor: Editor = self.kind(model, **{key: value for key, value in settings.items() if value is not None})
        return editor


def editor_names() -> tuple[str, ...]:
    """The names of all editors: those of their files. Nothing is imported."""
    return tuple(sorted({found.name for found in pkgutil.iter_modules(editors.__path__)} - _SHARED))


def editor_named(name: str) -> RegionEditor:
    """The editor called `name`. Raises ValueError, listing the names, for another."""
    if name not in editor_names():
        raise ValueError(f"editor: got {name!r}, requires one of {', '.join(editor_names())}")
    editor: RegionEditor = import_module(f"{editors.__name__}.{name}").EDITOR
    return editor


def load_editor(name: str, model: str | Path = "embedded", **options: Any) -> Editor:
    """The editor called `name` with the model called `model`, as `RegionEditor.load` opens it."""
    return editor_named(name).load(model, **options)
