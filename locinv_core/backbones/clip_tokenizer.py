"""CLIP's vocabulary without a download: the tokenizer that Stable Diffusion's text encoders were trained
with.

A single checkpoint file lacks it; ComfyUI's tokenizer folder and the open_clip_torch package both carry it.
"""

from __future__ import annotations

import gzip
import importlib.util
import inspect
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

START = "<|startoftext|>"
END = "<|endoftext|>"
MAX_LENGTH = 77
_BPE_FILE = "bpe_simple_vocab_16e6.txt.gz"
_MERGES = 49152 - 256 - 2


def clip_tokenizer(folder: str | Path | None = None, *, pad_token: str = END) -> PreTrainedTokenizerBase:
    """The CLIP tokenizer of 49,408 tokens that reads 77 of them.

    folder: holds `vocab.json` and `merges.txt` (ComfyUI: `comfy/sd1_tokenizer`); None reads the vocabulary
    that open_clip_torch carries, without importing that package.
    pad_token: `<|endoftext|>` for SD 1.x, `!` (id 0) for SD 2.x.
    Raises ValueError for a folder or file that is not a CLIP vocabulary, ImportError when None finds no
    open_clip_torch.
    """
    vocabulary, merges = _from_folder(Path(folder)) if folder is not None else _from_open_clip()
    if pad_token not in vocabulary:
        raise ValueError(
            f"pad_token {pad_token!r} is not in the CLIP vocabulary; SD 1.x pads with {END!r}, SD 2.x with '!'"
        )
    return _build(vocabulary, merges, pad_token)


def _from_folder(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    try:
        vocabulary = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
        lines = (folder / "merges.txt").read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"tokenizer folder {folder}: cannot read a CLIP vocabulary ({error}); "
            "it requires vocab.json and merges.txt, or give no folder "
            "and install open_clip_torch, which carries the same vocabulary"
        ) from error
    merges = [_pair(line, folder) for line in lines if line.strip() and not line.startswith("#version")]
    if not isinstance(vocabulary, dict) or not {START, END} <= vocabulary.keys():
        raise ValueError(
            f"tokenizer folder {folder}: vocab.json lacks {START!r} or {END!r}, so it is not CLIP's vocabulary"
        )
    return vocabulary, merges


def _from_open_clip() -> tuple[dict[str, int], list[tuple[str, str]]]:
    spec = importlib.util.find_spec("open_clip")
    for place in (spec.submodule_search_locations or []) if spec else []:
        path = Path(place) / _BPE_FILE
        if path.is_file():
            break
    else:
        raise ImportError(
            "CLIP's vocabulary was not found: install open_clip_torch (pip install open_clip_torch), "
            "or name a folder that holds vocab.json and merges.txt, such as ComfyUI's comfy/sd1_tokenizer"
        )
    try:
        lines = gzip.decompress(path.read_bytes()).decode("utf-8").split("\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ValueError(f"CLIP vocabulary {path}: cannot be read ({error})") from error
    merges = [_pair(line, path) for line in lines[1 : 1 + _MERGES]]
    letters = _byte_letters()
    tokens = letters + [letter + "</w>" for letter in letters] + [left + right for left, right in merges] + [START, END]
    return {token: index for index, token in enumerate(tokens)}, merges


def _pair(line: str, source: Path) -> tuple[str, str]:
    parts = line.split()
    if len(parts) != 2:
        raise ValueError(f"CLIP vocabulary {source}: a merge is two parts, got {line!r}")
    return parts[0], parts[1]


def _byte_letters() -> list[str]:
    """One visible character a byte, in the order of CLIP's ids: printable Latin-1 stands for itself, the rest
    follow from U+0100."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in visible] + [chr(256 + n) for n in range(256 - len(visible))]


def _build(vocabulary: dict[str, int], merges: list[tuple[str, str]], pad_token: str) -> PreTrainedTokenizerBase:
    from transformers import CLIPTokenizer

    if "vocab" in inspect.signature(CLIPTokenizer.__init__).parameters:  # transformers 5
        return CLIPTokenizer(vocab=vocabulary, merges=merges, pad_token=pad_token, model_max_length=MAX_LENGTH)
    from transformers import CLIPTokenizerFast

    with tempfile.TemporaryDirectory() as scratch:  # transformers 4 reads files only
        vocab_file, merges_file = Path(scratch) / "vocab.json", Path(scratch) / "merges.txt"
        vocab_file.write_text(json.dumps(vocabulary), encoding="utf-8")
        text = "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n"
        merges_file.write_text(text, encoding="utf-8")
        return CLIPTokenizerFast(str(vocab_file), str(merges_file), pad_token=pad_token, model_max_length=MAX_LENGTH)
