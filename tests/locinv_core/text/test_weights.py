"""Weights in prompts, beside what ComfyUI's own parser makes of the same texts (noted from 0.3.64)."""

from __future__ import annotations

import pytest
import torch

from pinpoint.locinv_core.text.prompt import empty_prompt, parse_prompt
from pinpoint.locinv_core.text.weights import read_weights
from pinpoint.tests.fixtures.tiny_models import tiny_model as make_tiny_model


@pytest.mark.parametrize(
    ("text", "plain", "weighted"),
    [
        ("a cat", "a cat", {}),
        ("a (cat:1.2) on a mat", "a cat on a mat", {"cat": 1.2}),
        ("a (cat) on a ((mat))", "a cat on a mat", {"cat": 1.1, "mat": 1.21}),
        ("(a (red:1.5) cat:0.5)", "a red cat", {"a": 0.5, "red": 1.5, "cat": 0.5}),
        (r"a cat \(smiling\)", "a cat (smiling)", {}),
        ("a cat :) and (a dog", "a cat :) and (a dog", {}),
        ("a (cat:big)", "a cat:big", {"cat": 1.1, "big": 1.1}),
    ],
)
def test_weights_are_read_as_comfyui_reads_them(text, plain, weighted):
    read, weights = read_weights(text)
    assert read == plain and len(weights) == len(plain)
    for word in plain.replace(":", " ").split():
        assert weights[plain.index(word)] == pytest.approx(weighted.get(word, 1.0)), word


def test_words_stay_words_and_their_tokens_have_the_weights():
    model = make_tiny_model()
    prompt = parse_prompt("a (red cat:1.5) on a mat", model.tokenizer)
    assert [word.text for word in prompt.words] == ["a", "red", "cat", "on", "a", "mat"]
    assert [prompt.weights[i] for word in prompt.words for i in word.tokens] == [1, 1.5, 1.5, 1, 1, 1]
    plain = parse_prompt("a red cat on a mat", model.tokenizer)
    assert plain.weights == () and plain.token_ids == prompt.token_ids


def test_a_weight_moves_its_tokens_away_from_the_empty_prompt_and_no_others():
    model = make_tiny_model()
    texts = ("a red cat", "a red (cat:1.5)")
    prompts = [*(parse_prompt(text, model.tokenizer) for text in texts), empty_prompt(model.tokenizer)]
    plain, weighted, empty = (model.encode_prompt(prompt)[0] for prompt in prompts)
    expected = plain.clone()
    expected[3] = empty[3] + 1.5 * (plain[3] - empty[3])
    torch.testing.assert_close(weighted, expected)
