"""Training the embedded tokenizer: CLIP's kind of byte-level BPE, on captions.

The vocabulary holds the 256 byte symbols, the same at the end of a word, one entry a merge, and the two marks, in
CLIP's order. The recipe keeps some words in two tokens, as long words are in a large vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import CLIPTokenizer

from ....locinv_core.imaging.io import written_whole
from ..training.recipe import TokenizerRecipe

START, END = "<|startoftext|>", "<|endoftext|>"
_SUFFIX = "</w>"
_WORDS = r"""<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"""


def byte_symbols() -> list[str]:
    """GPT-2's 256 printable stand-ins for the bytes, in CLIP's order."""
    kept = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in kept] + [chr(256 + number) for number in range(256 - len(kept))]


def train_merges(captions: Iterable[str], recipe: TokenizerRecipe) -> list[tuple[str, str]]:
    """The merges that shorten the captions most, most useful first; as many as the vocabulary has room for,
    without those that would complete a word of ``recipe.in_pieces``.

    Raises ValueError when the vocabulary has no room for the byte symbols and the marks.
    """
    room = recipe.vocabulary - 514
    if room < 0:
        raise ValueError(f"vocabulary: got {recipe.vocabulary}, requires 514 or more")
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=_SUFFIX))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=recipe.vocabulary, end_of_word_suffix=_SUFFIX, show_progress=False, min_frequency=2
    )
    tokenizer.train_from_iterator(captions, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    whole = {word + _SUFFIX for word in recipe.in_pieces}
    return [(left, right) for left, right in merges[:room] if left + right not in whole]


def export_tokenizer(merges: Sequence[tuple[str, str]], length: int, folder: Path) -> None:
    """Write ``vocab.json``, ``merges.txt`` and ``tokenizer_config.json``, which CLIPTokenizer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    symbols = byte_symbols()
    entries = [*symbols, *(symbol + _SUFFIX for symbol in symbols), *(left + right for left, right in merges)]
    entries = [*dict.fromkeys(entries), START, END]
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": length}
    config |= {"do_lower_case": True, "add_prefix_space": False, "errors": "replace"}
    config |= {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    files = {
        "vocab.json": json.dumps({entry: number for number, entry in enumerate(entries)}, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(f"{left} {right}" for left, right in merges), ""]),
        "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
    }
    for name, text in files.items():
        with written_whole(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")


def encode_texts(tokenizer: CLIPTokenizer, texts: Sequence[str], *, longest: bool = False) -> Tensor:
    """Token ids (B, L), padded to the tokenizer's length, or to that of the ``longest`` text.

    Raises ValueError for a text that the encoder would have to cut.
    """
    rows = tokenizer(list(texts))["input_ids"]
    most = tokenizer.model_max_length
    for text, row in zip(texts, rows, strict=True):
        if len(row) > most:
            raise ValueError(f"text: {text!r} takes {len(row)} tokens, marks included; requires {most} or fewer")
    length = max(map(len, rows)) if longest else most
    return torch.tensor([row + [tokenizer.pad_token_id] * (length - len(row)) for row in rows])
