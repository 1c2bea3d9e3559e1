"""CLIP's tokenizer for tests, built once, and one without offsets made of open_clip's."""

from __future__ import annotations

from functools import cache
from typing import Any

from pinpoint.locinv_core.prompts import Prompt, parse_prompt
from pinpoint.locinv_core.vocabulary import clip_tokenizer


@cache
def tokenizer() -> Any:
    """The 49,408-token CLIP tokenizer; no test may change it."""
    return clip_tokenizer()


def prompt(text: str, **options: Any) -> Prompt:
    """`text` parsed with CLIP's tokenizer."""
    return parse_prompt(text, tokenizer(), **options)


class WithoutOffsets:
    """open_clip's Python tokenizer behind the few calls that a tokenizer of transformers 4 answers."""

    is_fast = False
    model_max_length = 77

    def __init__(self) -> None:
        from open_clip.tokenizer import SimpleTokenizer

        self._inner = SimpleTokenizer()
        self.bos_token_id, self.eos_token_id = self._inner.sot_token_id, self._inner.eot_token_id
        self.pad_token_id = self.eos_token_id

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": self._inner.encode(text)}

    def decode(self, ids: list[int], **_: Any) -> str:
        return self._inner.decode(ids)
