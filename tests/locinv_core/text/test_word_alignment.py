"""Alignments worked out by hand, on CLIP's real vocabulary; token numbers in the comments are positions."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pinpoint.locinv_core.text.word_alignment import Alignment, align
from pinpoint.tests.fixtures.clip_text import prompt


def aligned(source: str, target: str) -> Alignment:
    return align(prompt(source), prompt(target))


def columns(alignment: Alignment, number: int) -> list[dict[int, float]]:
    """For the first target tokens, which source tokens feed them and how much."""
    return [
        {int(i): round(float(alignment.mapper[i, j]), 4) for i in alignment.mapper[:, j].nonzero()}
        for j in range(number)
    ]


def one_to_one(*sources: int) -> list[dict[int, float]]:
    return [{source: 1.0} for source in sources]


def swapped(alignment: Alignment) -> list[tuple[str, str]]:
    return [(old.text, new.text) for old, new in alignment.swaps]


def test_equal_prompts_map_every_token_to_itself() -> None:
    alignment = aligned("a cat, on a mat.", "a cat, on a mat.")
    assert torch.equal(alignment.mapper, torch.eye(77))
    assert alignment.kind == "same"
    assert (alignment.swaps, alignment.changed, alignment.removed) == ((), (), ())


def test_capitals_are_no_change() -> None:
    alignment = aligned("A Cat on a MAT", "a cat on a mat")
    assert alignment.kind == "same"
    assert torch.equal(alignment.mapper, torch.eye(77))


def test_a_swap_of_one_token_for_one_is_a_replacement() -> None:
    alignment = aligned("a cat on a mat", "a fox on a mat")
    assert torch.equal(alignment.mapper, torch.eye(77))
    assert (alignment.kind, swapped(alignment)) == ("replace", [("cat", "fox")])
    assert (alignment.changed, alignment.removed) == ((1,), (1,))
    assert alignment.alpha.min() == 1


def test_an_attribute_edit_is_a_swap() -> None:
    alignment = aligned("a red house and a red boat", "a wooden house and a red boat")
    assert (alignment.kind, swapped(alignment)) == ("replace", [("red", "wooden")])
    assert (alignment.changed, alignment.removed) == ((1,), (1,))


def test_one_word_for_two_gives_both_its_map_and_shifts_the_rest() -> None:
    # 0 <start> 1 a 2 cat 3 sits 4 <end>   →   0 <start> 1 a 2 mountain 3 lion 4 sits 5 <end> 6 padding …
    alignment = aligned("a cat sits", "a mountain lion sits")
    assert columns(alignment, 8) == one_to_one(0, 1, 2, 2, 3, 4, 5, 6)
    assert columns(alignment, 77)[75:] == one_to_one(74, 75)
    assert (alignment.kind, swapped(alignment)) == ("replace", [("cat", "mountain lion")])
    assert (alignment.changed, alignment.removed) == ((1, 2), (1,))


def test_two_words_for_one_give_it_their_mean() -> None:
    # 1 a 2 mountain 3 lion 4 sits 5 <end>   →   1 a 2 cat 3 sits 4 <end>
    # The target's last padding has no like in the source, and is clamped to its last.
    alignment = aligned("a mountain lion sits", "a cat sits")
    assert columns(alignment, 6) == [{0: 1.0}, {1: 1.0}, {2: 0.5, 3: 0.5}, {4: 1.0}, {5: 1.0}, {6: 1.0}]
    assert columns(alignment, 77)[75:] == one_to_one(76, 76)
    assert swapped(alignment) == [("mountain lion", "cat")]


def test_a_word_of_three_tokens_for_one_of_another_number_gives_each_the_mean() -> None:
    # "ice-cream" is ice, -, cream: 2, 3, 4
    new = len(prompt("axolotl").words[0].tokens)
    assert new not in (1, 3)
    alignment = aligned("an ice-cream here", "an axolotl here")
    third = {2: 0.3333, 3: 0.3333, 4: 0.3333}
    assert columns(alignment, 4 + new) == [*one_to_one(0, 1), *[third] * new, *one_to_one(5, 6)]


def test_words_swapped_in_pairs_keep_their_order() -> None:
    alignment = aligned("a red cat sits", "a wooden fox sits")
    assert swapped(alignment) == [("red", "wooden"), ("cat", "fox")]
    assert torch.equal(alignment.mapper, torch.eye(77))


def test_inserted_words_keep_their_own_maps() -> None:
    # 1 a 2 cat 3 <end>   →   1 a 2 big 3 fluffy 4 cat 5 <end>
    alignment = aligned("a cat", "a big fluffy cat")
    assert columns(alignment, 7) == [{0: 1.0}, {1: 1.0}, {}, {}, {2: 1.0}, {3: 1.0}, {4: 1.0}]
    assert alignment.alpha[:7].tolist() == [1, 1, 0, 0, 1, 1, 1]
    assert (alignment.kind, alignment.changed, alignment.removed) == ("refine", (1, 2), ())
    assert alignment.swaps == ()


def test_words_inserted_at_the_beginning_and_the_end() -> None:
    # 1 cat 2 <end>   →   1 happy 2 cat 3 outdoors 4 <end>
    alignment = aligned("cat", "happy cat outdoors")
    assert columns(alignment, 6) == [{0: 1.0}, {}, {1: 1.0}, {}, {2: 1.0}, {3: 1.0}]
    assert (alignment.kind, alignment.changed) == ("refine", (0, 2))


def test_deleted_words_feed_nothing() -> None:
    # 1 a 2 big 3 cat 4 outdoors 5 <end>   →   1 a 2 cat 3 <end>
    alignment = aligned("a big cat outdoors", "a cat")
    assert columns(alignment, 5) == one_to_one(0, 1, 3, 5, 6)
    assert alignment.mapper[2].sum() == alignment.mapper[4].sum() == 0
    assert (alignment.kind, alignment.changed, alignment.removed) == ("refine", (), (1, 3))
    assert alignment.alpha.min() == 1


def test_deletions_at_the_beginning() -> None:
    # 1 photo 2 of 3 a 4 cat   →   1 a 2 cat
    assert columns(aligned("photo of a cat", "a cat"), 4) == one_to_one(0, 3, 4, 5)


def test_a_swap_and_an_insertion_together() -> None:
    # 1 a 2 cat 3 on 4 grass 5 <end>   →   1 a 2 dog 3 on 4 green 5 grass 6 <end>
    alignment = aligned("a cat on grass", "a dog on green grass")
    assert columns(alignment, 7) == [{0: 1.0}, {1: 1.0}, {2: 1.0}, {3: 1.0}, {}, {4: 1.0}, {5: 1.0}]
    assert (alignment.kind, swapped(alignment), alignment.changed) == ("refine", [("cat", "dog")], (1, 3))


def test_repeated_words_are_aligned_in_their_order() -> None:
    # only the second cat changes: 1 a 2 cat 3 and 4 a 5 cat 6 <end>
    alignment = aligned("a cat and a cat", "a cat and a dog")
    assert (swapped(alignment), alignment.removed, alignment.changed) == ([("cat", "dog")], (4,), (4,))
    assert alignment.swaps[0][0].tokens == (5,)
    assert torch.equal(alignment.mapper, torch.eye(77))


def test_a_repeated_word_that_is_dropped_is_the_later_one() -> None:
    # 1 very 2 very 3 big   →   1 very 2 big
    alignment = aligned("very very big", "very big")
    assert columns(alignment, 4) == one_to_one(0, 1, 3, 4)
    assert alignment.removed == (1,)


def test_two_objects_that_change_places_are_two_swaps() -> None:
    alignment = aligned("a red cat and a blue dog", "a red dog and a blue cat")
    assert swapped(alignment) == [("cat", "dog"), ("dog", "cat")]


def test_fewer_gaps_are_preferred_and_then_the_earliest_match() -> None:
    # One gap (dog mat cat) rather than two (dog; cat mat), and the first cat rather than the second.
    alignment = aligned("cat mat", "cat dog mat cat mat")
    assert alignment.changed == (1, 2, 3)
    assert aligned("a cat and a dog", "a dog").removed == (1, 2, 3)


def test_punctuation_is_aligned_with_its_like() -> None:
    # 1 a 2 cat 3 , 4 a 5 mat 6 . 7 <end>   →   1 a 2 mountain 3 lion 4 , 5 a 6 mat 7 . 8 <end>
    alignment = aligned("a cat, a mat.", "a mountain lion, a mat.")
    assert columns(alignment, 9) == one_to_one(0, 1, 2, 2, 3, 4, 5, 6, 7)
    assert alignment.kind == "replace"


def test_punctuation_that_changes_is_swapped_and_apart_from_words() -> None:
    # 1 a 2 cat 3 . 4 <end>   →   1 a 2 mountain 3 lion 4 ! 5 <end>
    alignment = aligned("a cat.", "a mountain lion!")
    assert columns(alignment, 6) == one_to_one(0, 1, 2, 2, 3, 4)
    assert (alignment.kind, swapped(alignment)) == ("replace", [("cat", "mountain lion")])


def test_punctuation_that_is_added_keeps_its_own_map() -> None:
    alignment = aligned("a cat", "a cat!")
    assert columns(alignment, 5) == [{0: 1.0}, {1: 1.0}, {2: 1.0}, {}, {3: 1.0}]
    assert (alignment.kind, alignment.changed, alignment.swaps) == ("refine", (), ())


def test_a_comma_keeps_the_swaps_on_its_two_sides_apart() -> None:
    # 1 red 2 cat 3 , 4 dog   →   1 fox 2 , 3 grey 4 wolf
    alignment = aligned("red cat, dog", "fox, grey wolf")
    assert swapped(alignment) == [("red cat", "fox"), ("dog", "grey wolf")]
    assert columns(alignment, 5) == [{0: 1.0}, {1: 0.5, 2: 0.5}, {3: 1.0}, {4: 1.0}, {4: 1.0}]


def test_prompts_with_nothing_in_common_are_one_swap() -> None:
    alignment = aligned("cat", "two wolves")
    assert swapped(alignment) == [("cat", "two wolves")]
    assert columns(alignment, 5) == one_to_one(0, 1, 1, 2, 3)


def test_a_source_without_padding_clamps_to_its_last_token() -> None:
    alignment = aligned("cat " * 75, "cat")
    # 1 cat 2 <end> 3 padding …: the source's end token is its last
    assert columns(alignment, 5) == one_to_one(0, 1, 76, 76, 76)


WORDS = st.lists(
    st.sampled_from("a the cat mountain lion axolotl ice-cream red wooden , .".split()),
    min_size=1,
    max_size=8,
)


@given(WORDS, WORDS)
def test_columns_sum_to_one_or_to_nothing_as_alpha_says(source: list[str], target: list[str]) -> None:
    alignment = aligned(" ".join(source), " ".join(target))
    sums = alignment.mapper.sum(dim=0)
    torch.testing.assert_close(sums, alignment.alpha)
    assert set(alignment.alpha.tolist()) <= {0.0, 1.0}
    assert alignment.mapper.min() >= 0


@given(WORDS)
def test_a_prompt_aligned_with_itself_is_the_identity(text: list[str]) -> None:
    alignment = aligned(" ".join(text), " ".join(text))
    assert torch.equal(alignment.mapper, torch.eye(77))
    assert alignment.kind == "same"


@given(WORDS, WORDS, st.integers(0, 2**16 - 1))
def test_capitals_do_not_move_an_alignment(source: list[str], target: list[str], bits: int) -> None:
    shouted = [word.upper() if bits >> index & 1 else word for index, word in enumerate(target)]
    plain, loud = aligned(" ".join(source), " ".join(target)), aligned(" ".join(source), " ".join(shouted))
    assert torch.equal(plain.mapper, loud.mapper)
    assert (plain.kind, plain.changed, plain.removed) == (loud.kind, loud.changed, loud.removed)


def longest_common_subsequence(left: list[str], right: list[str]) -> int:
    """The textbook recursion, over words alone."""
    table = [[0] * (len(right) + 1) for _ in range(len(left) + 1)]
    for i, old in enumerate(left):
        for j, new in enumerate(right):
            table[i + 1][j + 1] = table[i][j] + 1 if old == new else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@given(WORDS, WORDS)
def test_as_many_words_are_kept_as_can_be(source: list[str], target: list[str]) -> None:
    alignment = aligned(" ".join(source), " ".join(target))
    old, new = ([word for word in text if word not in ",."] for text in (source, target))
    kept = longest_common_subsequence(old, new)
    assert len(new) - len(alignment.changed) == len(old) - len(alignment.removed) == kept


@given(WORDS, WORDS)
def test_kept_words_map_one_to_one_and_in_order(source: list[str], target: list[str]) -> None:
    old, new = prompt(" ".join(source)), prompt(" ".join(target))
    alignment = align(old, new)
    kept_old = [word for index, word in enumerate(old.words) if index not in alignment.removed]
    kept_new = [word for index, word in enumerate(new.words) if index not in alignment.changed]
    for before, after in zip(kept_old, kept_new, strict=True):
        assert before.text == after.text
        block = alignment.mapper[list(before.tokens)][:, list(after.tokens)]
        assert torch.equal(block, torch.eye(len(before.tokens)))


@pytest.mark.parametrize("text", ["ice-cream", "don't stop"])
def test_a_word_of_several_tokens_kept_at_another_place_keeps_its_inner_order(text: str) -> None:
    alignment = aligned(f"a {text}", f"a big {text}")
    number = len(prompt(text).token_ids[1 : prompt(text).length - 1])
    assert columns(alignment, 3 + number)[3:] == one_to_one(*range(2, 2 + number))
