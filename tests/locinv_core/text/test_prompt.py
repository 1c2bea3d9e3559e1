"""Words, token spans and names of prompts, on CLIP's real vocabulary."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinpoint.locinv_core.backbones.clip_tokenizer import clip_tokenizer
from pinpoint.locinv_core.text.prompt import empty_prompt, offsets_by_decoding, parse_prompt, word_spans
from pinpoint.tests.fixtures.clip_text import WithoutOffsets, prompt, tokenizer


def words(text: str) -> list[str]:
    return [text[start:end] for start, end in word_spans(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A cat, a dog.", ["A", "cat", "a", "dog"]),
        ("  ice-cream  for two ", ["ice-cream", "for", "two"]),
        (
            "don't 'quote' rock-'n'-roll -dash- o’clock",
            ["don't", "quote", "rock", "n", "roll", "dash", "o’clock"],
        ),
        ("café cafe\u0301 São 日本 8k", ["café", "cafe\u0301", "São", "日本", "8k"]),
        ("a_b c/d e—f 🐱", ["a", "b", "c", "d", "e", "f"]),
        ("हिन्दी", ["हिन्दी"]),
        ("a \u2764\ufe0f for 2\u20e3 cats\ufe0f \ufe0f", ["a", "for", "2\u20e3", "cats\ufe0f"]),
        ("... !?", []),
    ],
)
def test_words_are_runs_of_letters_marks_and_digits(text: str, expected: list[str]) -> None:
    assert words(text) == expected


def test_capitals_punctuation_and_double_spaces_leave_the_spans_right() -> None:
    # <start> a photo of a cat , ice - cream ! <end>
    found = prompt("A Photo  of a CAT,\n ice-cream!")
    assert [(word.text, word.tokens) for word in found.words] == [
        ("A", (1,)),
        ("Photo", (2,)),
        ("of", (3,)),
        ("a", (4,)),
        ("CAT", (5,)),
        ("ice-cream", (7, 8, 9)),
    ]
    assert found.length == 12
    assert [found.text[word.start : word.end] for word in found.words] == [word.text for word in found.words]


def test_a_word_of_several_tokens_has_them_all() -> None:
    clip = tokenizer()
    found = prompt("a lighthouse and a turmeric-coloured axolotl")
    for word in found.words:
        alone = clip(word.text, add_special_tokens=False)["input_ids"]
        assert [found.token_ids[token] for token in word.tokens] == alone
    assert len(found.find("axolotl").tokens) > 1


def test_an_accent_is_one_word_however_it_is_written() -> None:
    composed, decomposed = prompt("a café table"), prompt("a cafe\u0301 table")
    assert composed.token_ids == decomposed.token_ids
    assert composed.find("cafe\u0301").tokens == decomposed.find("CAFÉ").tokens == (2,)


def test_ids_are_what_the_tokenizer_itself_pads_to() -> None:
    for clip in (tokenizer(), clip_tokenizer(pad_token="!")):
        found = parse_prompt("A cat, sitting.", clip)
        own = clip("A cat, sitting.", padding="max_length", max_length=77)
        assert list(found.token_ids) == own["input_ids"]
        assert found.length == sum(own["attention_mask"])
        assert list(empty_prompt(clip).token_ids) == clip("", padding="max_length", max_length=77)["input_ids"]


def test_the_empty_prompt_has_no_words_and_two_tokens() -> None:
    empty = empty_prompt(tokenizer())
    assert (empty.text, empty.words, empty.length, len(empty.token_ids)) == ("", (), 2, 77)


@pytest.mark.parametrize("text", ["", "   ", "\n\t"])
def test_a_prompt_without_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="prompt is empty"):
        prompt(text)


def test_a_prompt_longer_than_the_encoder_reads_is_refused_with_both_numbers() -> None:
    assert prompt("cat " * 75).length == 77
    with pytest.raises(ValueError, match=r"has 76 tokens and the text encoder reads 75 .* leave out 1 "):
        prompt("cat " * 76)


def test_a_special_token_written_out_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'<\|endoftext\|>' reads as the start or end token"):
        prompt("a cat <|endoftext|> dog")


def test_a_tokenizer_that_does_not_say_its_length_is_refused() -> None:
    with pytest.raises(ValueError, match="model_max_length"):
        parse_prompt("a cat", SimpleNamespace(model_max_length=int(1e30)))


def test_find_ignores_capitals_and_takes_the_first_or_the_numbered_one() -> None:
    found = prompt("A cat and a Cat, a dog")
    assert found.find("CAT").tokens == found.find("cat#1").tokens == (2,)
    assert found.find("cat#2").tokens == (5,)
    assert found.find("a#3").tokens == (7,)


def test_find_takes_a_phrase_over_all_its_tokens() -> None:
    found = prompt("a photo of a mountain  lion, a mountain lion and a lion")
    phrase = found.find("Mountain Lion")
    assert (phrase.text, phrase.tokens) == ("mountain  lion", (5, 6))
    assert found.find("mountain lion#2").tokens == (9, 10)
    assert found.find("lion#3").tokens == (13,)


@pytest.mark.parametrize("name", ["dog", "cat#3", "cat#0", "red cat", "", "cat mat"])
def test_a_word_that_is_not_there_is_refused_with_the_words_that_are(name: str) -> None:
    with pytest.raises(ValueError, match=re.escape("its words are: A, red, the, cat, on, cat, mat")):
        prompt("A red, the cat on cat, mat").find(name)


def test_too_high_a_number_says_how_many_there_are() -> None:
    with pytest.raises(ValueError, match="it has 2 of them"):
        prompt("a cat and a cat").find("cat#3")


def test_explicit_nouns_and_bindings_win_over_grammar() -> None:
    text = "a red cat on a wooden bench"
    assert (prompt(text, nouns=["bench"]).nouns, prompt(text, nouns=["bench"]).pairs) == ((6,), ((6, 5),))
    bound = prompt(text, bindings=[("wooden", "cat")])
    assert bound.pairs == ((2, 5),)
    assert bound.nouns == (2, 6)
    only = prompt(text, nouns=[], bindings=[("on", "red")])
    assert (only.nouns, only.pairs) == ((1,), ((1, 3),))
    assert prompt(text, bindings=[]).pairs == ()


def test_a_phrase_among_the_nouns_stands_for_its_last_word() -> None:
    found = prompt("a mountain lion#", nouns=["mountain lion"], bindings=[("a", "mountain lion")])
    assert (found.nouns, found.pairs) == ((2,), ((2, 0),))


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        ({"nouns": ["dog"]}, "dog"),
        ({"bindings": [("blue", "cat")]}, "blue"),
        ({"bindings": [("red", "ox")]}, "ox"),
    ],
)
def test_a_noun_or_binding_that_is_not_in_the_prompt_is_refused(options: dict, missing: str) -> None:
    with pytest.raises(ValueError, match=f"'{missing}' is not in the prompt.*its words are: a, red, cat"):
        prompt("a red cat", **options)


def test_a_word_bound_to_itself_is_refused() -> None:
    with pytest.raises(ValueError, match="to itself"):
        prompt("a red cat", bindings=[("cat", "cat")])


@pytest.mark.parametrize(
    "text",
    [
        "A Photo  of a CAT, ice-cream!",
        "a café, cafe\u0301 and São Paulo",
        "日本の猫 🐱🐱 x",
        "don't o’clock 50% “quoted”",
        "antidisestablishmentarianism lighthouse 12345",
        "half½ ﬁne İstanbul",
    ],
)
def test_a_tokenizer_without_offsets_gives_the_same_spans(text: str) -> None:
    assert parse_prompt(text, WithoutOffsets()) == prompt(text)


def test_tokens_that_do_not_spell_the_text_are_refused() -> None:
    slow = WithoutOffsets()
    with pytest.raises(ValueError, match="cannot tell which characters token 'dog'"):
        offsets_by_decoding("a cat", slow("a dog")["input_ids"], slow)
    with pytest.raises(ValueError, match="spell only a part"):
        offsets_by_decoding("a cat", slow("a")["input_ids"], slow)


TEXT = st.text(alphabet=st.sampled_from("abcXYZ é'’-,.!  \n9日🐱"), min_size=1, max_size=24).filter(str.strip)


@given(TEXT)
def test_words_partition_the_tokens_they_have(text: str) -> None:
    found = prompt(text)
    tokens = [token for word in found.words for token in word.tokens]
    assert tokens == sorted(set(tokens))
    assert all(0 < token < found.length - 1 for token in tokens)
    assert len(found.token_ids) == 77
    assert all(word.tokens for word in found.words)


@given(TEXT)
def test_capitals_change_no_token(text: str) -> None:
    upper = text.replace("a", "A").replace("b", "B").replace("c", "C")
    assert prompt(upper).token_ids == prompt(text).token_ids
    assert [word.tokens for word in prompt(upper).words] == [word.tokens for word in prompt(text).words]


@given(st.lists(st.sampled_from("cat dog lighthouse axolotl ice-cream café don't".split()), min_size=1, max_size=8))
def test_every_word_of_a_list_is_found_by_its_name_and_number(names: list[str]) -> None:
    found = prompt("  ".join(names))
    for index, name in enumerate(names):
        assert found.find(f"{name}#{names[: index + 1].count(name)}") == found.words[index]
