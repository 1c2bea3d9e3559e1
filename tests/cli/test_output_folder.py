"""The folder that gets all of a command's files or none."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pinpoint.cli.output_folder import filled_folder


@pytest.fixture(name="out")
def _out(tmp_path: Path) -> Path:
    """A folder that is there already, with a file in it."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept.txt").write_text("mine")
    return out


def test_files_reach_a_folder_that_is_a_disk_of_its_own(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = os.replace

    def within_a_disk(source: Path, target: Path) -> None:
        if (out in Path(source).parents) != (out in Path(target).parents):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        plain(source, target)

    monkeypatch.setattr(os, "replace", within_a_disk)
    with filled_folder(out) as folder:
        (folder / "new.txt").write_text("new")
    assert {path.name: path.read_text() for path in out.iterdir()} == {"kept.txt": "mine", "new.txt": "new"}
    assert list(out.parent.iterdir()) == [out]


def test_an_interrupt_leaves_a_folder_that_was_there_as_it_was(out: Path) -> None:
    with pytest.raises(KeyboardInterrupt), filled_folder(out) as folder:
        (folder / "new.txt").write_text("new")
        raise KeyboardInterrupt
    assert {path.name: path.read_text() for path in out.iterdir()} == {"kept.txt": "mine"}


def test_a_folder_that_is_not_there_appears_with_its_files(tmp_path: Path) -> None:
    out = tmp_path / "some" / "out"
    with filled_folder(out) as folder:
        (folder / "new.txt").write_text("new")
        assert not out.exists()
    assert [path.name for path in out.iterdir()] == ["new.txt"]
    assert list(out.parent.iterdir()) == [out]
