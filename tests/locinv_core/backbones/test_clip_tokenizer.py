"""CLIP's vocabulary against open_clip's own tokenizer, and against its own files."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from pinpoint.locinv_core.backbones import clip_tokenizer as vocabulary
from pinpoint.locinv_core.backbones.clip_tokenizer import clip_tokenizer
from pinpoint.tests.fixtures.clip_text import tokenizer

TEXTS = [
    "a photo of a cat",
    "A Photo of  a CAT, sitting next to a mirror.",
    "ice-cream, 12 o'clock & don't (50%) #1",
    "a café in São Paulo at night — 8k, trending",
    "日本の猫 🐱🐱 and Ελλάδα",
    "supercalifragilisticexpialidocious antidisestablishmentarianism",
    "a dotted mushroom beside a striped cup on a meadow",
    "!!! ??? ... a_b c/d",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
def test_ids_are_those_of_open_clips_tokenizer(text: str) -> None:
    from open_clip.tokenizer import SimpleTokenizer

    expected = SimpleTokenizer().encode(text)
    assert tokenizer()(text)["input_ids"] == [49406, *expected, 49407]


def test_the_tokenizer_has_clips_size_length_and_padding() -> None:
    clip = tokenizer()
    assert (len(clip), clip.model_max_length, clip.pad_token_id) == (49408, 77, 49407)
    assert clip_tokenizer(pad_token="!").pad_token_id == 0


def test_a_folder_of_vocabulary_files_gives_the_same_ids(tmp_path: Path) -> None:
    words, merges = vocabulary._from_open_clip()
    (tmp_path / "vocab.json").write_text(json.dumps(words), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges), ""]
    (tmp_path / "merges.txt").write_text("\n".join(lines), encoding="utf-8")
    clip = clip_tokenizer(tmp_path)
    for text in TEXTS:
        assert clip(text)["input_ids"] == tokenizer()(text)["input_ids"]


def test_a_folder_without_the_files_is_refused_and_both_ways_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"vocab\.json and merges\.txt.*open_clip_torch"):
        clip_tokenizer(tmp_path)


def test_a_vocabulary_of_another_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"hello": 0}', encoding="utf-8")
    (tmp_path / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    with pytest.raises(ValueError, match="not CLIP's vocabulary"):
        clip_tokenizer(tmp_path)


def test_without_open_clip_the_error_names_both_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vocabulary.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install open_clip_torch.*vocab\.json and merges\.txt"):
        clip_tokenizer()


def test_a_pad_token_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="pad_token '<pad>'"):
        clip_tokenizer(pad_token="<pad>")


def test_the_vocabulary_is_read_without_importing_open_clip() -> None:
    import subprocess

    code = (
        "import sys; from pinpoint.locinv_core.backbones.clip_tokenizer import _from_open_clip; "
        "assert len(_from_open_clip()[0]) == 49408; assert 'open_clip' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
