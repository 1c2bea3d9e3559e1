"""CLIP's tokenizer against another implementation's ids and, where ComfyUI is installed, against its files."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pinpoint.locinv_core.backbones.clip_tokenizer import CONFIGS, clip_tokenizer
from pinpoint.tests.fixtures.clip_text import tokenizer

# Ids by open_clip 3.3.0's SimpleTokenizer, which is OpenAI's own code.
PUBLISHED = {
    "A Photo of  a CAT, sitting next to a mirror.": "320 1125 539 320 2368 267 4919 1131 531 320 7220 269",
    "ice-cream, 12 o'clock & don't (50%) #1": (
        "733 268 3867 267 272 273 334 262 6716 261 847 713 263 276 271 16063 258 272"
    ),
    "a café in São Paulo at night — 8k, trending": "320 15304 530 45911 21628 536 930 2005 279 330 267 6087",
    "日本の猫 🐱🐱 and Ελλάδα": (
        "39121 44353 21575 163 234 360 35710 22979 537 138 113 138 119 138 119 138 105 138 112 138 365"
    ),
    "supercalifragilisticexpialidocious antidisestablishmentarianism": (
        "1642 2857 13093 2076 5868 26850 835 639 38466 3120 4262 7726 12658 1585 44351"
    ),
    "!!! ??? ... a_b c/d": "995 3824 678 320 318 321 322 270 323",
    "": "",
}


@pytest.mark.parametrize("text", PUBLISHED)
def test_ids_are_those_of_openais_tokenizer(text: str) -> None:
    expected = [int(token) for token in PUBLISHED[text].split()]
    assert tokenizer()(text)["input_ids"] == [49406, *expected, 49407]


def test_the_tokenizer_has_clips_size_length_and_padding() -> None:
    clip = tokenizer()
    assert (len(clip), clip.model_max_length, clip.pad_token_id) == (49408, 77, 49407)
    assert clip_tokenizer(pad_token="!").pad_token_id == 0


def test_the_vocabulary_is_the_one_that_comfyui_carries() -> None:
    theirs = Path(os.environ.get("COMFYUI_DIR") or "~/ComfyUI").expanduser() / "comfy/sd1_tokenizer"
    if not theirs.is_dir():
        pytest.skip("NO COMFYUI: set COMFYUI_DIR to a checkout, or put one at ~/ComfyUI")
    ours = CONFIGS / "clip_tokenizer"
    assert json.loads((ours / "vocab.json").read_text("utf-8")) == json.loads(
        (theirs / "vocab.json").read_text("utf-8")
    )
    merges = [(folder / "merges.txt").read_text("utf-8").split("\n") for folder in (ours, theirs)]
    assert merges[0] == merges[1]


def test_a_pad_token_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="pad_token '<pad>'"):
        clip_tokenizer(pad_token="<pad>")
