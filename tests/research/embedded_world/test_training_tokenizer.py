"""The embedded tokenizer, newly trained and as it ships, against transformers and against its own text."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers
from transformers import CLIPTokenizerFast

from pinpoint.assets import EMBEDDED
from pinpoint.research.embedded_world.networks.tokenizer import byte_symbols, export_tokenizer, train_merges
from pinpoint.research.embedded_world.scenes.spec import COLOURS, NOUNS, caption, sample_scene
from pinpoint.research.embedded_world.training.recipe import TokenizerRecipe

WEIGHTS = EMBEDDED / "sd"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> CLIPTokenizerFast:
    folder = tmp_path_factory.mktemp("tokenizer")
    recipe = TokenizerRecipe(in_pieces=("cat",))
    captions = [caption(sample_scene(seed), vary=True) for seed in range(300)]
    export_tokenizer(train_merges(captions, recipe), recipe.length, folder)
    return CLIPTokenizerFast.from_pretrained(folder)


@pytest.fixture(scope="module")
def shipped() -> CLIPTokenizerFast:
    return CLIPTokenizerFast.from_pretrained(WEIGHTS / "tokenizer")


def test_the_byte_symbols_are_those_of_the_tokenizers_library() -> None:
    symbols = byte_symbols()
    assert len(symbols) == 256
    assert set(symbols) == set(pre_tokenizers.ByteLevel.alphabet())
    printable = "!" + string.ascii_letters
    assert [symbols.index(character) + ord("!") for character in printable] == [ord(c) for c in printable]


def test_a_word_kept_in_pieces_takes_two_tokens_and_the_others_one(trained: CLIPTokenizerFast) -> None:
    assert len(trained.tokenize("cat")) == 2
    assert [len(trained.tokenize(noun)) for noun in NOUNS if noun != "cat"] == [1] * (len(NOUNS) - 1)


# The end mark, written out, is the mark itself, which unknown text would be, too.
@given(text=st.text(max_size=20).filter(lambda text: "<|endoftext|>" not in text))
def test_any_text_can_be_written_in_tokens(text: str) -> None:
    tokenizer = CLIPTokenizerFast.from_pretrained(WEIGHTS / "tokenizer")
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.unk_token_id not in ids


def test_captions_come_back_from_their_tokens(shipped: CLIPTokenizerFast) -> None:
    for seed in range(200):
        text = caption(sample_scene(seed), vary=True)
        ids = shipped(text, add_special_tokens=False)["input_ids"]
        assert shipped.decode(ids).replace(" ,", ",").strip() == text


def test_offsets_cut_the_text_into_its_words(shipped: CLIPTokenizerFast) -> None:
    text = "A Striped red MUSHROOM, and a wooden balloon at night"
    encoded = shipped(text, return_offsets_mapping=True)
    marks = (encoded["input_ids"][0], encoded["input_ids"][-1])
    assert marks == (shipped.bos_token_id, shipped.eos_token_id)
    pieces = [text[start:end] for start, end in encoded["offset_mapping"][1:-1]]
    assert "".join(pieces) == text.replace(" ", "")
    whole = [piece for piece in pieces if piece in text.replace(",", " ,").split()]
    assert whole == ["A", "Striped", "red", ",", "and", "a", "at", "night"]
    assert len(pieces) == len(whole) + 2 * len(("MUSHROOM", "wooden", "balloon"))


def test_the_longest_caption_fits_with_room_to_spare(shipped: CLIPTokenizerFast) -> None:
    text = "a picture of a striped pink mushroom, a dotted orange balloon and a wooden balloon in the desert"
    assert len(shipped(text)["input_ids"]) < 0.7 * shipped.model_max_length
    assert {*COLOURS} <= {token.removesuffix("</w>") for token in shipped.get_vocab()}


def test_a_vocabulary_too_small_for_the_bytes_is_refused() -> None:
    with pytest.raises(ValueError, match="vocabulary: got 500"):
        train_merges(["a cat"], TokenizerRecipe(vocabulary=500))


def test_the_shipped_models_are_small() -> None:
    files = [path for path in WEIGHTS.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 24 * 1024 * 1024
    assert not [path for path in files if path.suffix not in (".json", ".txt", ".safetensors")]
