"""CLIP's tokenizer, which Stable Diffusion's text encoders were trained with.

A checkpoint file lacks it, so the pack carries OpenAI CLIP's vocabulary (MIT licence) beside its configs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIGS = Path(__file__).parent / "configs"
END = "<|endoftext|>"
MAX_LENGTH = 77


def clip_tokenizer(*, pad_token: str = END) -> PreTrainedTokenizerBase:
    """The CLIP tokenizer of 49,408 tokens that reads 77 of them.

    pad_token: `<|endoftext|>` for SD 1.x, `!` (id 0) for SD 2.x.
    Raises ValueError for a pad token that is not in the vocabulary.
    """
    from transformers import CLIPTokenizerFast

    tokenizer = CLIPTokenizerFast.from_pretrained(
        str(CONFIGS / "clip_tokenizer"), local_files_only=True, model_max_length=MAX_LENGTH
    )
    if pad_token not in tokenizer.get_vocab():
        raise ValueError(
            f"pad_token {pad_token!r} is not in the CLIP vocabulary; SD 1.x pads with {END!r}, SD 2.x with '!'"
        )
    tokenizer.pad_token = pad_token
    return tokenizer
