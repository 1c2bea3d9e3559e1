"""The registry of region editors: one file in the folder is one editor."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from pinpoint.__main__ import build_parser
from pinpoint.region_core import editors
from pinpoint.region_core.editors.blended import BlendedEditor
from pinpoint.region_core.editors.inpaint import InpaintEditor
from pinpoint.region_core.editors.registry import editor_named, editor_names, load_editor
from pinpoint.tests.fixtures.tiny_editors import small_model

NEW_EDITOR = """
from dataclasses import dataclass

from pinpoint.region_core.editors.base import Editor
from pinpoint.region_core.editors.registry import RegionEditor


@dataclass(frozen=True)
class GreyEditor(Editor):
    model: str
    grey: float = 0.5
    name = "grey"

    def edit(self, image, masks, prompt, seed, *, steps=None, tracker=None):
        return image.where(masks == 0, self.grey)


EDITOR = RegionEditor("grey", "Grey", "model", lambda model, device, dtype: str(model), GreyEditor)
"""


@pytest.fixture(name="grey")
def _grey(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A new editor: one file in a folder of editors."""
    (tmp_path / "grey.py").write_text(NEW_EDITOR)
    monkeypatch.setattr(editors, "__path__", [*editors.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{editors.__name__}.grey", raising=False)


@pytest.mark.usefixtures("grey")
def test_a_file_in_the_folder_is_an_editor(capsys: pytest.CaptureFixture[str]) -> None:
    assert editor_names() == ("amused", "blended", "grey", "inpaint", "locinv")
    editor = load_editor("grey", "any", device="cpu", dtype="auto", grey=0.25)
    image, masks = torch.rand(1, 3, 4, 4), torch.zeros(1, 1, 4, 4)
    masks[..., :2] = 1
    edited = editor.edit(image, masks, "a prompt", 0)
    assert torch.equal(edited[..., 2:], image[..., 2:]) and bool((edited[..., :2] == 0.25).all())
    assert editor.settings == {"model": "any", "grey": 0.25}
    required = ["regions", "image.png", "--caption", "a", "--prompt", "b", "--out", "out"]
    assert build_parser().parse_args([*required, "--editor", "grey"]).editor == "grey"
    with pytest.raises(SystemExit):
        build_parser().parse_args(["regions", "--help"])
    assert "{amused,blended,grey,inpaint,locinv}" in capsys.readouterr().out


def test_the_editors_are_called_as_their_files_are() -> None:
    assert editor_names() == ("amused", "blended", "inpaint", "locinv")
    assert [editor_named(name).name for name in editor_names()] == list(editor_names())
    assert editor_named("blended").settings[:3] == ("strength", "guidance", "steps")
    assert editor_named("locinv").settings == ("source", "word", "guidance", "steps", "feather")
    with pytest.raises(ValueError, match="editor: got 'magic', requires one of amused, blended, inpaint, locinv"):
        editor_named("magic")


def test_a_setting_of_none_is_left_to_the_editor() -> None:
    editor = editor_named("blended").using(small_model(), steps=3, guidance=None)
    assert (editor.settings["steps"], editor.settings["guidance"]) == (3, 7.5)


def test_words_are_localized_by_a_text_to_image_model() -> None:
    model, reads_masks = small_model(), small_model(unet_channels=9)
    assert BlendedEditor(model, steps=2).reader is model
    assert InpaintEditor(reads_masks, steps=2).reader is None
