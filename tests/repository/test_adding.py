"""The examples of docs/adding.md: each is one new file beside its package's own, found and run as it stands."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from pinpoint.__main__ import build_parser
from pinpoint.locinv_core.backbones.stable_diffusion import EditModel
from pinpoint.locinv_core.cost import CostTracker
from pinpoint.locinv_core.localization.prior_sources.registry import prior_from_argument, prior_source_names
from pinpoint.methods.registry import edit_by_method, method_named, method_names
from pinpoint.methods.types import EditTask, MethodModels
from pinpoint.region_core.editors.blended import BlendedEditor
from pinpoint.region_core.editors.registry import editor_named, editor_names
from pinpoint.tests.fixtures.documented_files import documented_files
from pinpoint.tests.fixtures.tiny_editors import box_masks, smooth_image
from pinpoint.tests.repository.source_tree import ROOT

FILES = documented_files()


@pytest.fixture(autouse=True, scope="module", name="added")
def _added(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Each example's file, in a folder that is one more of its package's; those of nodes need ComfyUI."""
    modules = []
    with pytest.MonkeyPatch.context() as patch:
        for path, code in FILES.items():
            folder, name = Path(path).parent, Path(path).stem
            if folder.name == "nodes":
                continue
            package = import_module(".".join(("pinpoint", *folder.parts)))
            added = tmp_path_factory.mktemp(folder.name)
            (added / f"{name}.py").write_text(code, encoding="utf-8")
            patch.setattr(package, "__path__", [*package.__path__, str(added)])
            modules.append(f"{package.__name__}.{name}")
        yield
    for module in modules:
        sys.modules.pop(module, None)


def command_help(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit):
        build_parser().parse_args([command, "--help"])
    return capsys.readouterr().out


def test_the_page_shows_one_whole_file_of_each_kind_and_none_that_exists() -> None:
    folders = [str(Path(path).parent) for path in FILES]
    assert folders == ["methods", "region_core/editors", "locinv_core/localization/prior_sources", "nodes"]
    assert not any((ROOT / path).exists() for path in FILES)
    blocks = re.findall(r"^```python$", (ROOT / "docs" / "adding.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(blocks) == len(FILES)
    assert all(ast.get_docstring(ast.parse(code)) for code in FILES.values())


def test_the_method_is_listed_and_edits_an_image(tiny_model: EditModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert "sdedit" in method_names()
    assert re.search(r"--method \{[^}]*\bsdedit\b", command_help("edit", capsys))
    task, tracker = EditTask(smooth_image(), "a cat", "a red fox"), CostTracker()
    settings: dict[str, Any] = {"steps": 4, "strength": 0.5, "guidance": 3.0}
    edited = edit_by_method("sdedit", MethodModels(tiny_model), task, settings=settings, seed=3, tracker=tracker).edited
    # Blended Latent Diffusion in a mask of the whole image is SDEdit.
    blended = BlendedEditor(tiny_model, **settings).edit(task.image, torch.ones(1, 1, 64, 64), task.target, 3)
    torch.testing.assert_close(edited, blended, atol=1e-5, rtol=0)
    assert float((edited - task.image).abs().mean()) > 0.01
    assert tracker.forward_equivalents["edit"] == 2 * 2
    narrow = EditTask(smooth_image(50, 70), "a cat", "a red fox")
    assert edit_by_method("sdedit", MethodModels(tiny_model), narrow, settings=settings).edited.shape[-2:] == (50, 70)


def test_the_method_refuses_what_its_fields_do_not_allow(tiny_model: EditModel) -> None:
    with pytest.raises(ValueError, match=r"strength: got 2, requires a number from 0\.05 to 1"):
        method_named("sdedit").settings(strength=2)
    with pytest.raises(ValueError, match="model: the method 'sdedit' requires a text-to-image model"):
        edit_by_method("sdedit", MethodModels(), EditTask(smooth_image(), "a cat", "a fox"))


def test_the_editor_is_listed_and_edits_inside_masks(tiny_model: EditModel, capsys: pytest.CaptureFixture[str]) -> None:
    assert "redraw" in editor_names()
    assert re.search(r"--editor \{[^}]*\bredraw\b", command_help("regions", capsys))
    image, masks = smooth_image(), box_masks((8, 8, 40, 36), (30, 20, 60, 60))
    editor = editor_named("redraw").using(tiny_model, steps=2, strength=0.5, guidance=None)
    edited = editor.edit(image, masks, "a red fox", seed=1)
    outside = (masks == 0).expand_as(edited)
    assert torch.equal(edited[outside], image.expand_as(edited)[outside])
    assert float((edited - image)[~outside].abs().mean()) > 0.01
    assert editor.settings["guidance"] == 7.5


def test_the_prior_source_is_listed_and_gives_a_prior(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ellipse" in prior_source_names()
    assert "ellipse" in command_help("edit", capsys)
    prior = prior_from_argument("cat=ellipse: 2,1,6,5", torch.zeros(1, 3, 6, 8))
    expected = torch.zeros(6, 8)
    expected[1:5, 3:5] = 1  # a circle of radius 2 about (4, 3) has the centres of 12 pixels
    expected[2:4, 2:6] = 1
    assert torch.equal(prior.mask("cat"), expected)
    with pytest.raises(ValueError, match="requires x0 < x1 and y0 < y1"):
        prior_from_argument("cat=ellipse:6,1,2,5", torch.zeros(1, 3, 6, 8))


def test_the_node_is_listed_in_its_file() -> None:
    """That ComfyUI finds and runs it is shown by tests/comfyui/test_new_files.py."""
    (code,) = (code for path, code in FILES.items() if path.startswith("nodes/"))
    body = ast.parse(code).body
    classes = [part.name for part in body if isinstance(part, ast.ClassDef)]
    assert ast.unparse(body[-1]) == f"NODES = [{', '.join(classes)}]"
