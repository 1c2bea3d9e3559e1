"""Which word of a caption a prompt changes, and what the prompt says of it alone."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .prompt import Prompt, parse_prompt, same_word
from .word_alignment import align

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_JOINT = re.compile(r"\s*(,|&|and|, and)\s*", re.IGNORECASE)
"""What stands between two objects of a list."""
_ARTICLES = frozenset({"a", "an", "the", "some", "one", "this", "that", "his", "her", "its", "their", "my"})


def changed_noun(caption: Prompt, prompt: Prompt) -> str | None:
    """The caption's noun that `prompt` changes, as `Prompt.find` takes it; None unless there is just one.

    A noun is changed if the prompt lacks it, or an adjective of it, or gives it an adjective more.
    """
    nouns = _changed_nouns(caption, prompt)
    if len(nouns) != 1:
        return None
    (noun,) = nouns
    text = caption.words[noun].text
    alike = [index for index, word in enumerate(caption.words) if same_word(word.text, text)]
    return text if len(alike) == 1 else f"{text}#{alike.index(noun) + 1}"


def word_to_edit(caption: Prompt, prompt: Prompt, word: str) -> str:
    """The caption's `word`, as `Prompt.find` takes it: of several of that name the one that `prompt` changes.

    Raises ValueError for one that the caption lacks, and where the prompt changes other objects and not it.
    """
    named = _named(caption, word)
    if not named:
        words = ", ".join(one.text for one in caption.words)
        raise ValueError(f"word: {word!r} is not in the caption {caption.text!r}; its words are: {words}")
    nouns = _changed_nouns(caption, prompt)
    changed = {*nouns, *align(caption, prompt).removed}
    for name, indices in named.items():
        if not nouns or not changed.isdisjoint(indices):
            return name
    objects = " and ".join(repr(caption.words[noun].text) for noun in sorted(nouns))
    raise ValueError(f"word: got {word!r}, and the prompt changes {objects}; requires what is to change")


def _named(caption: Prompt, word: str) -> dict[str, range]:
    """The indices of each of the caption's words of this name, by a name that `Prompt.find` takes for it."""
    names = [word] if "#" in word else [word, *(f"{word}#{n}" for n in range(2, len(caption.words) + 1))]
    found = {}
    for name in names:
        try:
            found[name] = caption.locate(name)
        except ValueError:
            break
    return found


def _changed_nouns(caption: Prompt, prompt: Prompt) -> set[int]:
    """Which of the caption's nouns `prompt` changes; see `changed_noun`."""
    changes = align(caption, prompt)
    described = {adjective: noun for noun, adjective in caption.pairs}
    nouns = {index for index in changes.removed if index in caption.nouns}
    nouns |= {described[index] for index in changes.removed if index in described}
    if not nouns:
        added = {noun for noun, adjective in prompt.pairs if adjective in changes.changed}
        kept = [prompt.words[noun].text for noun in added if noun not in changes.changed]
        nouns = {index for index in caption.nouns if any(same_word(caption.words[index].text, k) for k in kept)}
    return nouns


def without_other_objects(caption: Prompt, prompt: Prompt, word: str) -> str:
    """`prompt` with what became of the caption's `word` in place of the list of objects that it is in.

    "a photo of a cat and a dog at night", of the dog, is "a photo of a dog at night": what an editor should
    draw in the dog's box. The prompt as it is where the object is in no list.
    """
    noun = _become(caption, prompt, caption.locate(word)[-1])
    if noun is None:
        return prompt.text
    spans = {one: _phrase_span(prompt, one) for one in {*prompt.nouns, noun}}
    first = last = noun
    for one in sorted(spans):  # objects after it, each joined to the one before
        if one > last and _JOINT.fullmatch(prompt.text[spans[last][1] : spans[one][0]]):
            last = one
    for one in sorted(spans, reverse=True):
        if one < first and _JOINT.fullmatch(prompt.text[spans[one][1] : spans[first][0]]):
            if len(prompt.text[: spans[one][0]].split()) == 1:
                break  # "at night, a fox": no list, but where or when all is
            first = one
    own = slice(*spans[noun])
    return prompt.text[: spans[first][0]] + prompt.text[own] + prompt.text[spans[last][1] :]


def _become(caption: Prompt, prompt: Prompt, noun: int) -> int | None:
    """The word of the prompt that stands where the caption has this noun; None where nothing does."""
    changes = align(caption, prompt)
    word = caption.words[noun]
    for old, new in changes.swaps:
        if old.start <= word.start < old.end:
            inside = [k for k, one in enumerate(prompt.words) if new.start <= one.start < new.end]
            named = [k for k in inside if k in prompt.nouns]
            return (named or inside)[-1]
    if noun in changes.removed:
        return None
    kept = [k for k in range(len(caption.words)) if k not in changes.removed]
    stayed = [k for k in range(len(prompt.words)) if k not in changes.changed]
    return stayed[kept.index(noun)]


def _phrase_span(prompt: Prompt, noun: int) -> tuple[int, int]:
    """Where the noun, its adjectives before it and its article begin and end in the text."""
    first = min([noun, *(adjective for named, adjective in prompt.pairs if named == noun)])
    if first > 0 and prompt.words[first - 1].text.lower() in _ARTICLES:
        first -= 1
    return prompt.words[first].start, prompt.words[noun].end


def edit_prompt_for(tokenizer: PreTrainedTokenizerBase, caption: str, prompt: str, word: str) -> str:
    """What an editor draws in the box of the caption's `word`: see `without_other_objects`.

    The prompt as it is where the tokenizer would cut it.
    """
    try:
        whole = parse_prompt(prompt, tokenizer)
    except ValueError:
        return prompt
    return without_other_objects(parse_prompt(caption, tokenizer), whole, word)
