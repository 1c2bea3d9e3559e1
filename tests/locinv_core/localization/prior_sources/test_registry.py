"""Priors by what is written after WORD=, and sources that are found by their file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from pinpoint.locinv_core.localization import prior_sources
from pinpoint.locinv_core.localization.prior_sources.registry import (
    prior_from_argument,
    prior_from_arguments,
    prior_source,
    prior_source_names,
)
from pinpoint.tests.fixtures.drawn_prior import DRAWN, SIZE, drawn
from pinpoint.tests.repository.source_tree import ROOT

IMAGE = torch.zeros(1, 3, *SIZE)
NAMES = ["clipseg", "coco", "grounding-dino", "groupvit", "owlv2", "sam", "sam2", "text"]
CENTRE = """
import torch
from pinpoint.locinv_core.localization.prior_sources.registry import PriorSource
from pinpoint.locinv_core.localization.priors import from_boxes

def prior(word, text, image):
    half = int(text)
    y, x = image.shape[-2] // 2, image.shape[-1] // 2
    return from_boxes({word: (x - half, y - half, x + half, y + half)}, image.shape[-2:])

PRIOR_SOURCE = PriorSource("a square in the middle", "HALF", prior)
"""


def test_the_sources_are_the_files_called_from() -> None:
    assert prior_source_names() == NAMES
    with pytest.raises(ValueError, match="got 'sonar', requires one of clipseg, coco, "):
        prior_source("sonar")


def test_a_new_source_is_one_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "from_centre.py").write_text(CENTRE)
    monkeypatch.setattr(prior_sources, "__path__", [*prior_sources.__path__, str(tmp_path)])
    assert prior_source_names() == ["centre", *NAMES]
    assert prior_source("centre").label == "a square in the middle"
    expected = torch.zeros(SIZE)
    expected[1:5, 2:6] = 1
    assert torch.equal(prior_from_argument("cat=centre: 2", IMAGE).mask("cat"), expected)


def test_arguments_together_make_one_prior(tmp_path: Path) -> None:
    Image.fromarray(DRAWN).save(tmp_path / "a mask=1,2.png")
    prior = prior_from_arguments(
        ["cat=0, -0.5, 1, 1", f" mountain lion = {tmp_path / 'a mask=1,2.png'}", "CAT=7,5,8,6"], IMAGE
    )
    assert prior.words == ("cat", "mountain lion")
    assert prior.mask("cat").nonzero().tolist() == [[0, 0], [5, 7]]
    assert torch.equal(prior.mask("mountain lion"), drawn())
    assert prior.kinds == {"cat": "detection", "mountain lion": "segment"}
    with pytest.raises(ValueError, match="box of 'cat'"):
        prior_from_arguments(["cat=0,0,9,9"], IMAGE)


def test_a_box_may_be_written_in_percent_of_the_sides() -> None:
    assert torch.equal(prior_from_argument("cat=25,17,87.5,66.6%", IMAGE).mask("cat"), drawn())
    for argument in ("cat=0.6,0.26,0.94,0.6", "cat=0.6,0.26,0.94,0.6%"):
        with pytest.raises(ValueError, match=r"'cat'.*percent"):
            prior_from_argument(argument, IMAGE)


def test_a_coco_annotation_is_read_from_its_file(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools", reason="the extra `evaluate` is not installed")
    path = tmp_path / "cat.json"
    path.write_text(json.dumps({"segmentation": [[2, 1, 7, 1, 7, 4, 2, 4]]}))
    assert torch.equal(prior_from_argument(f"cat=coco:{path}", IMAGE).mask("cat"), drawn())
    with pytest.raises(ValueError, match=r"COCO file '.*gone\.json' of 'cat' cannot be read"):
        prior_from_argument(f"cat=coco:{tmp_path / 'gone.json'}", IMAGE)


def test_every_source_stands_in_the_documentation_as_it_is_written() -> None:
    text = (ROOT / "docs" / "command_line.md").read_text(encoding="utf-8")
    assert [name for name in NAMES if f"`{name}:{prior_source(name).form}`" not in text] == []


@pytest.mark.parametrize("argument", ["cat", "=mask.png", "cat=", " =1,2,3,4", "", "cat=  "])
def test_an_argument_without_a_word_or_a_value_is_refused(argument: str) -> None:
    with pytest.raises(
        ValueError, match=r"require WORD=MASK\.png, WORD=x0,y0,x1,y1, WORD=clipseg:…, .* or WORD=text:…"
    ):
        prior_from_argument(argument, IMAGE)


@pytest.mark.parametrize(("argument", "count"), [("cat=1,2,3", 3), ("cat=1,2,3,4,5", 5), ("cat=7", 1)])
def test_a_box_of_other_than_four_numbers_is_refused(argument: str, count: int) -> None:
    with pytest.raises(ValueError, match=f"'cat': a box is four numbers x0,y0,x1,y1, got {count}"):
        prior_from_argument(argument, IMAGE)


def test_a_model_is_named_after_what_it_is_to_find() -> None:
    with pytest.raises(ValueError, match="requires PHRASE@MODEL"):
        prior_from_argument("cat=text:an old cat", IMAGE)
    with pytest.raises(ValueError, match="'nobody/nothing' cannot be opened"):
        prior_from_argument("cat=text:an old cat@nobody/nothing", IMAGE)
    with pytest.raises(ValueError, match="requires x0,y0,x1,y1@FILE"):
        prior_from_argument("cat=sam:1,2,3,4", IMAGE)
    with pytest.raises(ValueError, match=r"requires a \.safetensors, \.pth or \.pt file"):
        prior_from_argument("cat=sam:1,2,3,4@sam.onnx", IMAGE)
