"""Libraries of the extras: what is installed is imported, what is missing is named with its extra."""

from __future__ import annotations

import json.decoder
import sys
from pathlib import Path

import pytest

from pinpoint.locinv_core.extras import require


def test_what_is_installed_is_imported() -> None:
    assert require("json.decoder", "evaluate") is json.decoder


def test_what_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    with pytest.raises(ValueError, match=r'^matplotlib is not installed: pip install "comfyui-pinpoint\[evaluate\]"$'):
        require("matplotlib.figure", "evaluate")


def test_an_error_inside_an_installed_library_is_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "half_installed.py").write_text("import nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        require("half_installed", "evaluate")
